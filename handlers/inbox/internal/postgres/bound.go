package postgres

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/tidings-bus/tidings/handlers/inbox"
)

// What an index row has room for, all parts of a stream's key together: a third
// of PostgreSQL's page, 2,704 bytes.
const (
	longestKey  = 1000
	longestName = 400
)

// Bounded returns a with what would not fit an index replaced by its digest: a
// key over 1,000 bytes, and a source, type or ID over 400. An empty key is nil.
func Bounded(a *inbox.Admission) inbox.Admission {
	b := *a
	switch {
	case len(b.Place.Key) == 0:
		b.Place.Key = nil
	case len(b.Place.Key) > longestKey:
		sum := sha256.Sum256(b.Place.Key)
		b.Place.Key = append([]byte("sha256:"), sum[:]...)
	}
	for _, s := range []*string{&b.Source, &b.AggregateType, &b.AggregateID} {
		if len(*s) > longestName {
			sum := sha256.Sum256([]byte(*s))
			*s = "sha256:" + hex.EncodeToString(sum[:])
		}
	}
	return b
}
