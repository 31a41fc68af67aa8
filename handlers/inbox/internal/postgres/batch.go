package postgres

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/parking"
)

// The statements of a batch; each file says what its parameters are.
var (
	//go:embed batch_keys.sql
	batchKeys string
	//go:embed batch_lock.sql
	batchLock string
	//go:embed batch_lock_events.sql
	batchLockEvents string
	//go:embed batch_known.sql
	batchKnown string
	//go:embed batch_cover.sql
	batchCover string
	//go:embed batch_streams.sql
	batchStreams string
	//go:embed batch_insert.sql
	batchInsert string
	//go:embed batch_insert_other.sql
	batchInsertOther string
	//go:embed batch_update.sql
	batchUpdate string
	//go:embed batch_streams_set.sql
	batchStreamsSet string
)

// Statement is one of a batch.
type Statement struct {
	Query string
	Args  []any
	// Rows reads what it returns; nil: it returns nothing of use.
	Rows func(Rows) error
	// Count is how many rows it must write; below 0: any.
	Count int64
}

// Rows is what a statement returned, by either driver.
type Rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
}

// Run runs statements in the transaction, in their order; one that writes
// another count than it must is ErrOvertaken.
type Run func(ctx context.Context, statements []Statement) error

// ErrOvertaken says that another member applied some of the events under other
// keys, after they had been looked up: roll back and begin again.
var ErrOvertaken = errors.New("overtaken by another member")

// Counted returns ErrOvertaken when s wrote another count than it must.
func (s *Statement) Counted(rows int64) error {
	if s.Count >= 0 && rows != s.Count {
		return ErrOvertaken
	}
	return nil
}

// Batch is the admission of many events of one handler. The locks come first,
// then what is known is read by statements that began after them, then the
// events are judged here, one after the other, as admit.sql judges one; and what
// follows from that is written before the effect.
type Batch struct {
	handler int32
	whole   []inbox.Admission // as they were given
	events  []batchEvent
	keys    []*batchKey // by topic and key

	cover   cover
	answers []inbox.Answer
	fresh   []int
	added   []int
}

type batchEvent struct {
	*inbox.Admission // Bounded

	key     *batchKey // nil: orders nothing
	time    *int64    // of its ID, in ms
	known   bool      // applied
	parked  bool      // has no key and is parked
	covered bool      // a partition takes its ID
}

type cover struct{ from, until, retention, now int64 }

// CheckBatch returns an error that wraps inbox.ErrBatch when as are no batch.
func CheckBatch(as []inbox.Admission) error {
	for i := range as {
		switch a := &as[i]; {
		case a.Handler != as[0].Handler:
			return fmt.Errorf("ask the inbox for %d events: %w: one is of handler %q, another of %q", len(as), inbox.ErrBatch, as[0].Handler.Name, a.Handler.Name)
		case a.Letter > 0:
			return fmt.Errorf("ask the inbox for %d events: %w: event %s is a retry of a parked one, which is admitted alone", len(as), inbox.ErrBatch, a.EventID)
		}
	}
	return nil
}

// NewBatch prepares the admission of as, which CheckBatch takes.
func NewBatch(as []inbox.Admission) *Batch {
	b := &Batch{whole: as, events: make([]batchEvent, len(as)), answers: make([]inbox.Answer, len(as))}
	keys := map[keyID]*batchKey{}
	bounded := make([]inbox.Admission, len(as))
	for i := range as {
		bounded[i] = Bounded(&as[i])
		a := &bounded[i]
		e := &b.events[i]
		e.Admission = a
		if t, ok := Time(a.EventID); ok {
			e.time = &t
		}
		if a.Place.Key == nil {
			continue
		}
		id := keyID{a.Place.Topic, string(a.Place.Key)}
		if keys[id] == nil {
			keys[id] = &batchKey{keyID: id}
			b.keys = append(b.keys, keys[id])
		}
		e.key = keys[id]
	}
	slices.SortFunc(b.keys, func(a, b *batchKey) int {
		return cmp.Or(strings.Compare(a.topic, b.topic), strings.Compare(a.key, b.key))
	})
	return b
}

// Admit admits the events in a transaction that has just begun: it answers them
// and writes what follows. Those behind parked ones are passed to behind.
func (b *Batch) Admit(ctx context.Context, handler int32, run Run, behind func(ctx context.Context, a *inbox.Admission) (inbox.Answer, error)) error {
	b.handler = handler
	if err := run(ctx, append(b.lock(), b.read()...)); err != nil {
		return err
	}
	for _, k := range b.keys {
		if !k.found {
			return fmt.Errorf("key row of topic %q, key %q is gone: rows of tidings.key_row must not be deleted while members run", k.topic, k.key)
		}
	}
	if further := b.streams(); further != nil {
		if err := run(ctx, further); err != nil {
			return err
		}
	}
	b.judge()
	for i := range b.events {
		if b.answers[i] != inbox.Parked || b.whole[i].Message == nil || b.events[i].key == nil {
			continue
		}
		if err := b.append(ctx, i, behind); err != nil {
			return err
		}
	}
	if write := b.write(); len(write) > 0 {
		return run(ctx, write)
	}
	return nil
}

// append puts event i behind the parked ones of its key.
func (b *Batch) append(ctx context.Context, i int, behind func(ctx context.Context, a *inbox.Admission) (inbox.Answer, error)) error {
	answer, err := behind(ctx, &b.whole[i])
	if err != nil {
		return err
	}
	if answer == Added {
		b.added = append(b.added, i)
		answer = inbox.Parked
	}
	b.answers[i] = answer
	return nil
}

// Added are the places of the events that were put behind parked ones.
func (b *Batch) Added() []int { return b.added }

// Answers are by event.
func (b *Batch) Answers() []inbox.Answer { return b.answers }

// Fresh are the places of the events to apply.
func (b *Batch) Fresh() []int { return b.fresh }

// lock returns the statements that take the locks.
func (b *Batch) lock() []Statement {
	var statements []Statement
	if len(b.keys) > 0 {
		topics, keys := b.columns()
		statements = append(statements,
			Statement{Query: batchKeys, Args: []any{b.handler, topics, keys}, Count: -1},
			Statement{Query: batchLock, Args: []any{b.handler, topics, keys}, Rows: b.scanKeys, Count: -1})
	}
	if class, hashes := b.hashes(); len(hashes) > 0 {
		statements = append(statements, Statement{Query: batchLockEvents, Args: []any{class, hashes}, Rows: drain, Count: -1})
	}
	return statements
}

// hashes are what LockEvent locks events without a key by.
func (b *Batch) hashes() (class int32, hashes []int32) {
	for i := range b.events {
		if e := &b.events[i]; e.key == nil {
			var number int32
			class, number = parking.EventLock(b.handler, e.EventID)
			hashes = append(hashes, number)
		}
	}
	slices.Sort(hashes)
	return class, slices.Compact(hashes)
}

func (b *Batch) columns() (topics []string, keys [][]byte) {
	for _, k := range b.keys {
		topics = append(topics, k.topic)
		keys = append(keys, []byte(k.key))
	}
	return topics, keys
}

func (b *Batch) scanKeys(rows Rows) error {
	byID := make(map[keyID]*batchKey, len(b.keys))
	for _, k := range b.keys {
		byID[k.keyID] = k
	}
	for rows.Next() {
		var (
			topic, offsets         string
			key                    []byte
			parked                 int
			created                int64
			source, typ, aggregate *string
			sequence               *int64
		)
		if err := rows.Scan(&topic, &key, &parked, &offsets, &created, &source, &typ, &aggregate, &sequence); err != nil {
			return err
		}
		k := byID[keyID{topic, string(key)}]
		if k == nil {
			return fmt.Errorf("key %q of topic %q was not asked for", key, topic)
		}
		k.found, k.parked, k.created = true, parked > 0, created
		if offsets != "{}" {
			if err := json.Unmarshal([]byte(offsets), &k.offsets); err != nil {
				return fmt.Errorf("read the offsets of key %q: %w", key, err)
			}
		}
		if source != nil {
			k.first = &stream{*source, deref(typ), deref(aggregate)}
			if sequence != nil {
				k.sequences = map[stream]int64{*k.first: *sequence}
			}
		}
	}
	return rows.Err()
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// read returns the statements that find what is known.
func (b *Batch) read() []Statement {
	ids := make([][16]byte, len(b.events))
	keyless := make([]bool, len(b.events))
	for i := range b.events {
		ids[i], keyless[i] = b.events[i].EventID, b.events[i].key == nil
	}
	return []Statement{
		{Query: batchKnown, Args: []any{b.handler, ids, keyless}, Count: -1, Rows: func(rows Rows) error {
			for rows.Next() {
				var at int
				var known, parked bool
				if err := rows.Scan(&at, &known, &parked); err != nil {
					return err
				}
				b.events[at-1].known, b.events[at-1].parked = known, parked
			}
			return rows.Err()
		}},
		{Query: batchCover, Count: -1, Rows: func(rows Rows) error {
			for rows.Next() {
				if err := rows.Scan(&b.cover.from, &b.cover.until, &b.cover.retention, &b.cover.now); err != nil {
					return err
				}
			}
			return rows.Err()
		}},
	}
}

func drain(rows Rows) error {
	for rows.Next() { // what they say is of no use
	}
	return rows.Err()
}
