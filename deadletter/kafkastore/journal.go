package kafkastore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/deadletter/internal/line"
	"github.com/tidings-bus/tidings/deadletter/internal/replica"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// journal is the two topics, written to and followed.
type journal struct {
	config *Config
	state  *replica.State
	ends   ends

	writer string // prefix of this process's writes
	writes atomic.Int64

	mu      sync.Mutex
	client  *kgo.Client // while it follows
	read    places      // up to where the state is
	changed chan struct{}
	waiting map[string]chan any // of writes, for what they came to
}

// places are offsets in the two topics: of the next record.
type places struct{ letters, notes int64 }

func (p places) reached(q places) bool { return p.letters >= q.letters && p.notes >= q.notes }

func newJournal(c *Config) *journal {
	return &journal{
		config: c, state: replica.NewState(), writer: uuid.NewString(),
		changed: make(chan struct{}), waiting: map[string]chan any{},
		ends: ends{asked: make(chan struct{}, 1)},
	}
}

// ID implements replica.Journal.
func (j *journal) ID() string { return "kafka topic " + j.config.Topic }

// loaded reports whether the topics have been read to an end once.
func (j *journal) loaded() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.client != nil
}

// Read implements replica.Journal: see the package's text on how a member knows.
func (j *journal) Read(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, j.config.Timeout, j.late())
	defer cancel()
	if _, err := j.connected(ctx); err != nil {
		return err
	}
	end, err := j.ends.ask(ctx)
	if err != nil {
		return fmt.Errorf("%w: ask for the end of topic %q: %w", inbox.ErrNotAdmitted, j.config.Topic, err)
	}
	if err := j.await(ctx, func() bool { return j.read.reached(end) }); err != nil {
		return fmt.Errorf("%w: read topic %q up to its end: %w", inbox.ErrNotAdmitted, j.config.Topic, err)
	}
	return nil
}

// connected waits until the topics have been read once.
func (j *journal) connected(ctx context.Context) (client *kgo.Client, err error) {
	if err := j.await(ctx, func() bool {
		client = j.client
		return client != nil
	}); err != nil {
		return nil, fmt.Errorf("%w: topic %q is not read yet (does the store's Run, or the router, run?): %w", inbox.ErrNotAdmitted, j.config.Topic, err)
	}
	return client, nil
}

func (j *journal) late() error {
	return fmt.Errorf("no answer from the brokers within %v", j.config.Timeout)
}

// await returns when ok, which is asked under the lock whenever something changed.
func (j *journal) await(ctx context.Context, ok func() bool) error {
	for {
		j.mu.Lock()
		done, changed := ok(), j.changed
		j.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// advance is called when the state has changed.
func (j *journal) advance(to places) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.read = to
	close(j.changed)
	j.changed = make(chan struct{})
}

// Put implements replica.Journal.
func (j *journal) Put(ctx context.Context, changes ...line.Change) ([]replica.Applied, error) {
	records := make([]*kgo.Record, len(changes))
	for i := range changes {
		r, err := encode(&changes[i])
		if err != nil {
			return nil, err
		}
		r.Topic = j.config.Topic
		records[i] = r
	}
	return write[replica.Applied](ctx, j, records)
}

// Note implements replica.Journal.
func (j *journal) Note(ctx context.Context, notes ...line.Note) ([]line.Granted, error) {
	records := make([]*kgo.Record, len(notes))
	for i := range notes {
		value, err := json.Marshal(&notes[i]) //nolint:musttag // fields of package deadletter go by their names
		if err != nil {
			return nil, fmt.Errorf("encode a note: %w", err)
		}
		records[i] = &kgo.Record{Topic: j.config.notes(), Value: value}
	}
	return write[line.Granted](ctx, j, records)
}

// write appends records to a topic and waits for what they come to.
func write[R any](ctx context.Context, j *journal, records []*kgo.Record) ([]R, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, j.config.Timeout, j.late())
	defer cancel()
	client, err := j.connected(ctx)
	if err != nil {
		return nil, err
	}
	topic := records[0].Topic
	came := make([]chan any, len(records))
	names := make([]string, len(records))
	for i, r := range records {
		names[i] = j.writer + "/" + strconv.FormatInt(j.writes.Add(1), 10)
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: writeHeader, Value: []byte(names[i])})
		came[i] = make(chan any, 1)
	}
	j.mu.Lock()
	for i, name := range names {
		j.waiting[name] = came[i]
	}
	j.mu.Unlock()
	defer func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, name := range names {
			delete(j.waiting, name)
		}
	}()

	failed := make(chan error, len(records))
	for _, r := range records {
		// Not ctx: a record that was handed to the brokers cannot be taken back, and
		// those after it would fail with it.
		client.Produce(context.WithoutCancel(ctx), r, func(_ *kgo.Record, err error) {
			if err != nil {
				failed <- err
			}
		})
	}
	results := make([]R, len(records))
	for i := range records {
		select {
		case v := <-came[i]:
			results[i], _ = v.(R)
		case err := <-failed:
			return nil, fmt.Errorf("%w: write to topic %q: %w", doubt(err), topic, err)
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: write to topic %q: %w", inbox.ErrCommitUnknown, topic, context.Cause(ctx))
		}
	}
	return results, nil
}

// doubt is what an error says about whether the record is there.
func doubt(err error) error {
	if tooLarge(err) || errors.Is(err, kgo.ErrMaxBuffered) {
		return errRefused
	}
	return inbox.ErrCommitUnknown
}

// told gives a writer in this process what its record came to.
func (j *journal) told(r *kgo.Record, result any) {
	name := writeOf(r)
	if len(name) <= len(j.writer) || name[:len(j.writer)] != j.writer {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if came, ok := j.waiting[name]; ok {
		delete(j.waiting, name)
		came <- result
	}
}

var errRefused = errors.New("refused")

// ends answers what the ends of the topics are. Those who ask while a question
// is on its way share the next one: its answer is younger than their asking.
type ends struct {
	mu    sync.Mutex
	next  []chan endAnswer
	asked chan struct{}
}

type endAnswer struct {
	end places
	err error
}

func (e *ends) ask(ctx context.Context) (places, error) {
	answer := make(chan endAnswer, 1)
	e.mu.Lock()
	e.next = append(e.next, answer)
	e.mu.Unlock()
	select {
	case e.asked <- struct{}{}:
	default: // somebody's is not taken yet: ours goes with it
	}
	select {
	case a := <-answer:
		return a.end, a.err
	case <-ctx.Done():
		return places{}, context.Cause(ctx)
	}
}

// serve answers until ctx ends, by question.
func (e *ends) serve(ctx context.Context, question func(ctx context.Context) (places, error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.asked:
		}
		e.mu.Lock()
		waiting := e.next
		e.next = nil
		e.mu.Unlock()
		if len(waiting) == 0 {
			continue
		}
		end, err := question(ctx)
		for _, w := range waiting {
			w <- endAnswer{end, err}
		}
	}
}

// repairEvery is how often a member puts right what a compaction would get wrong.
const repairEvery = 500 * time.Millisecond
