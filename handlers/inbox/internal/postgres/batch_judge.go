package postgres

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/tidings-bus/tidings/handlers/inbox"
)

type keyID struct{ topic, key string }

// stream is what a sequence counts in.
type stream struct{ source, typ, id string }

// batchKey is a key row, as it changes while the events of a batch are judged.
type batchKey struct {
	keyID

	found     bool
	parked    bool
	created   int64            // in ms
	offsets   map[string]int64 // by partition
	first     *stream          // the one whose sequence is in the row; nil: none yet
	sequences map[stream]int64 // the last of each stream that is known

	late    bool             // one of the batch is: what follows is not answered
	changed bool             //
	moved   map[string]int64 // offsets that changed
	raised  []stream         // streams beside first whose sequence changed
}

func (e *batchEvent) stream() stream { return stream{e.Source, e.AggregateType, e.AggregateID} }

// streams returns the statement that reads the sequences which are in no key
// row, if the batch has events that ask for one.
func (b *Batch) streams() []Statement {
	var topics, sources, types, ids []string
	var keys [][]byte
	var of []*batchEvent
	for i := range b.events {
		e := &b.events[i]
		if e.key == nil || e.Sequence <= 0 || e.key.first == nil || *e.key.first == e.stream() {
			continue
		}
		topics, keys = append(topics, e.Place.Topic), append(keys, e.Place.Key)
		sources, types, ids = append(sources, e.Source), append(types, e.AggregateType), append(ids, e.AggregateID)
		of = append(of, e)
	}
	if of == nil {
		return nil
	}
	return []Statement{{
		Query: batchStreams, Args: []any{b.handler, topics, keys, sources, types, ids}, Count: -1,
		Rows: func(rows Rows) error {
			for rows.Next() {
				var at int
				var sequence int64
				if err := rows.Scan(&at, &sequence); err != nil {
					return err
				}
				e := of[at-1]
				e.key.know(e.stream(), sequence)
			}
			return rows.Err()
		},
	}}
}

func (k *batchKey) know(s stream, sequence int64) {
	if k.sequences == nil {
		k.sequences = map[stream]int64{}
	}
	k.sequences[s] = sequence
}

// judge answers the events in their order.
func (b *Batch) judge() {
	seen := make(map[uuid.UUID]bool, len(b.events))
	for i := range b.events {
		e := &b.events[i]
		switch k := e.key; {
		case k != nil && k.late:
		case seen[e.EventID]:
			b.answers[i] = inbox.Duplicate
		default:
			b.answers[i] = b.judgeOne(e)
		}
		switch b.answers[i] {
		case inbox.Fresh:
			seen[e.EventID] = true
			b.fresh = append(b.fresh, i)
		case inbox.Late:
			e.key.late = true
		case inbox.Duplicate, inbox.Parked, inbox.Gone:
		}
	}
}

// judgeOne is the judgement of admit.sql, mode 1.
func (b *Batch) judgeOne(e *batchEvent) inbox.Answer {
	v := b.view(e)
	switch {
	case e.known, v.forgotten:
		return inbox.Duplicate
	case e.key != nil && e.key.parked, e.parked:
		return inbox.Parked
	case v.late:
		return inbox.Late
	}
	c := b.cover
	e.covered = e.time != nil && *e.time >= c.from && *e.time < c.until && *e.time >= c.now-c.retention/2
	if e.key == nil {
		return inbox.Fresh
	}
	if e.Place.Offset >= 0 {
		e.key.move(v.partition, v.kept)
	}
	if e.Sequence > 0 {
		e.key.raise(e.stream(), e.Sequence)
	}
	return inbox.Fresh
}

// view is how an event stands to its key.
type view struct {
	partition string
	late      bool  // its sequence is not above the last
	forgotten bool  // its ID may be, and its sequence or offset says that it was applied
	kept      int64 // the last offset when it is applied
}

func (b *Batch) view(e *batchEvent) view {
	v := view{partition: strconv.Itoa(int(e.Place.Partition)), kept: e.Place.Offset}
	k, c := e.key, b.cover
	if k == nil {
		return v
	}
	// past: an ID of that time is forgotten. unsure: it tells no time, and the
	// key is old enough that IDs of it may be forgotten.
	past := c.retention > 0 && e.time != nil && *e.time < c.now-c.retention
	unsure := c.retention > 0 && e.time == nil && k.created < c.now-c.retention
	last, known := k.offsets[v.partition]
	passed := known && e.Place.Offset >= 0 && e.Place.Offset <= last
	if e.Sequence > 0 {
		sequence, applied := k.sequences[e.stream()]
		v.late = applied && e.Sequence <= sequence
		v.forgotten = v.late && (past || unsure && passed)
	} else {
		v.forgotten = passed && (past || unsure)
	}
	// One applied below the last, while its ID would still be known, says that
	// offsets began anew.
	if known && (e.time == nil || past) {
		v.kept = max(v.kept, last)
	}
	return v
}

func (k *batchKey) move(partition string, offset int64) {
	if k.offsets == nil {
		k.offsets = map[string]int64{}
	}
	if k.moved == nil {
		k.moved = map[string]int64{}
	}
	k.offsets[partition], k.moved[partition] = offset, offset
	k.changed = true
}

func (k *batchKey) raise(s stream, sequence int64) {
	k.know(s, max(sequence, k.sequences[s]))
	switch {
	case k.first == nil:
		k.first = &s
		k.changed = true
	case *k.first == s:
		k.changed = true
	case !slices.Contains(k.raised, s):
		k.raised = append(k.raised, s)
	}
}

// write returns the statements that write what follows from the answers.
func (b *Batch) write() []Statement {
	var statements []Statement
	for _, table := range []struct {
		query   string
		covered bool
	}{{batchInsert, true}, {batchInsertOther, false}} {
		if s := b.insert(table.query, table.covered); s.Count > 0 {
			statements = append(statements, s)
		}
	}
	if s, ok := b.update(); ok {
		statements = append(statements, s)
	}
	if s, ok := b.setStreams(); ok {
		statements = append(statements, s)
	}
	return statements
}

func (b *Batch) insert(query string, covered bool) Statement {
	n := len(b.fresh)
	ids, topics := make([][16]byte, 0, n), make([]string, 0, n)
	partitions, offsets, attempts := make([]int32, 0, n), make([]int64, 0, n), make([]int32, 0, n)
	for _, i := range b.fresh {
		e := &b.events[i]
		if e.covered != covered {
			continue
		}
		ids, topics = append(ids, e.EventID), append(topics, e.Place.Topic)
		partitions, offsets = append(partitions, e.Place.Partition), append(offsets, e.Place.Offset)
		attempts = append(attempts, int32(e.Attempt)) //nolint:gosec // counts tries
	}
	return Statement{Query: query, Args: []any{b.handler, ids, topics, partitions, offsets, attempts}, Count: int64(len(ids))}
}

func (b *Batch) update() (Statement, bool) {
	var (
		topics, offsets     []string
		keys                [][]byte
		sources, types, ids []*string
		sequences           []*int64
	)
	for _, k := range b.keys {
		if !k.changed {
			continue
		}
		topics, keys = append(topics, k.topic), append(keys, []byte(k.key))
		offsets = append(offsets, k.movedJSON())
		var source, typ, id *string
		var sequence *int64
		if k.first != nil {
			if n, ok := k.sequences[*k.first]; ok {
				source, typ, id, sequence = &k.first.source, &k.first.typ, &k.first.id, &n
			}
		}
		sources, types, ids, sequences = append(sources, source), append(types, typ), append(ids, id), append(sequences, sequence)
	}
	return Statement{Query: batchUpdate, Args: []any{b.handler, topics, keys, offsets, sources, types, ids, sequences}, Count: int64(len(topics))}, len(topics) > 0
}

// movedJSON is {"3":17}.
func (k *batchKey) movedJSON() string {
	if len(k.moved) == 1 {
		for partition, offset := range k.moved {
			text := append(make([]byte, 0, 32), '{')
			text = append(strconv.AppendQuote(text, partition), ':')
			return string(append(strconv.AppendInt(text, offset, 10), '}'))
		}
	}
	if len(k.moved) == 0 {
		return "{}"
	}
	text, _ := json.Marshal(k.moved) //nolint:errchkjson // of strings and numbers: it cannot fail
	return string(text)
}

func (b *Batch) setStreams() (Statement, bool) {
	var topics, sources, types, ids []string
	var keys [][]byte
	var sequences []int64
	for _, k := range b.keys {
		for _, s := range k.raised {
			topics, keys = append(topics, k.topic), append(keys, []byte(k.key))
			sources, types, ids = append(sources, s.source), append(types, s.typ), append(ids, s.id)
			sequences = append(sequences, k.sequences[s])
		}
	}
	return Statement{Query: batchStreamsSet, Args: []any{b.handler, topics, keys, sources, types, ids, sequences}, Count: -1}, topics != nil
}

// NotAdmitted returns the error of a batch's admission that failed by err.
func (b *Batch) NotAdmitted(err error, hopeless bool) error {
	return NotAdmittedBatch(b.whole, err, hopeless)
}
