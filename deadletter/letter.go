package deadletter

import (
	"time"

	"github.com/google/uuid"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// Letter is a parked event.
type Letter struct {
	inbox.Failure

	ID      int64 // of its store; grows in the order of its key
	Handler inbox.Handler
	Place   inbox.Place

	EventID       uuid.UUID
	Type          string // empty: undecodable
	Source        string
	AggregateType string
	AggregateID   string
	Sequence      int64

	Record event.KafkaRecord // as it is tried: after an edit, the edited one
	// Original is the record as it was read, when it was edited; else nil.
	Original *event.KafkaRecord
	Time     time.Time // the record's timestamp

	Parked time.Time
}

// Key is a parked key: its first event and what waits behind it. An event
// without a key is one of its own.
type Key struct {
	ID      int64 // of its store, for as long as the key is parked
	Handler inbox.Handler
	Topic   string
	Key     []byte // nil: an event without a key

	Head   int64       // the letter that is first
	Type   string      // of the head
	Cause  inbox.Cause // of the head
	Error  string      // of the head
	Tries  int         // of the head
	Since  time.Time   // when the key was parked
	HeadAt time.Time   // when the head was parked
	Due    time.Time   // of the head; zero: waits for somebody
	Events int64       // the head included
	Bytes  int64

	// Request is the open request that this key is part of, or 0. Member is who
	// works on it now, or empty.
	Request int64
	Member  string
}

// MaxPage is the most that one call of a Store lists; limits are from 1 to it.
const MaxPage = 10_000

// Filter selects parked keys; the zero value selects all. Fields are joined by
// "and", values of a field by "or". The fields' names in JSON are stable.
type Filter struct {
	Group    string        `json:"group,omitempty"`
	Handlers []string      `json:"handlers,omitempty"`
	Topics   []string      `json:"topics,omitempty"`
	Keys     [][]byte      `json:"keys,omitempty"`   // raw; an empty one: events without a key
	Types    []string      `json:"types,omitempty"`  // of the head; an empty one: undecodable
	Causes   []inbox.Cause `json:"causes,omitempty"` // of the head
	IDs      []int64       `json:"ids,omitempty"`    // of keys
	From     time.Time     `json:"from,omitzero"`    // head parked at or after
	Until    time.Time     `json:"until,omitzero"`   // head parked before
}

// By is what Count groups parked keys by.
type By string

// The groupings.
const (
	ByCause   By = "cause"
	ByType    By = "type"
	ByHandler By = "handler"
	ByTopic   By = "topic"
	ByKey     By = "key"
)

// Count is a group of parked keys.
type Count struct {
	// Group has the value of each grouping asked for. By key, it is the raw key,
	// or empty for all events without one.
	Group  map[By]string
	Keys   int64
	Events int64
	Bytes  int64
	Oldest time.Time // head
	Newest time.Time // head
}
