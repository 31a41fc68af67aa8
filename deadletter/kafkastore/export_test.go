package kafkastore

import "github.com/tidings-bus/tidings/deadletter/internal/replica"

// NewOfGroups is New for a store that takes any group, as the suite of stores
// wants it.
func NewOfGroups(c Config) (*Store, error) {
	s, err := New(c)
	if err == nil {
		s.letters = replica.New(s.journal, s.journal.state, "", c.MaxBytes)
	}
	return s, err
}
