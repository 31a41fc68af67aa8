package postgres

import (
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/parking"
)

// Bounded returns a with what would not fit an index replaced by its digest: a
// key over 1,000 bytes, and a source, type or ID over 400. An empty key is nil.
func Bounded(a *inbox.Admission) inbox.Admission {
	b := *a
	b.Place.Key = parking.Key(a.Place.Key)
	b.Source, b.AggregateType, b.AggregateID = parking.Name(a.Source), parking.Name(a.AggregateType), parking.Name(a.AggregateID)
	return b
}
