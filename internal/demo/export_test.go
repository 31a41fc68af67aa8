package demo

import "context"

// The audit and its evidence, for tests that tamper with what a run has left.

type (
	Evidence  = evidence
	EffectRow = effectRow
)

func EvidenceOf(r Report) Evidence { return r.evidence }

func AuditOf(ev Evidence) Audit { return audit(ev) }

// ReadAgain reads a service's effects from its SQLite file into ev.
func ReadAgain(ctx context.Context, ev Evidence, service, path string) (Evidence, error) {
	s, err := openStore(ctx, StoreConfig{SQLite: path})
	if err != nil {
		return ev, err
	}
	defer s.close()
	ev.Services = append([]serviceEvidence(nil), ev.Services...)
	for i := range ev.Services {
		if se := &ev.Services[i]; se.Name == service {
			se.Effects = nil
			if err := readEffects(ctx, s, se); err != nil {
				return ev, err
			}
		}
	}
	return ev, nil
}

// Tamper changes a service's SQLite file behind everybody's back.
func Tamper(ctx context.Context, path string, statements ...string) error {
	s, err := openStore(ctx, StoreConfig{SQLite: path})
	if err != nil {
		return err
	}
	defer s.close()
	for _, q := range statements {
		if err := s.exec(ctx, q); err != nil {
			return err
		}
	}
	return nil
}
