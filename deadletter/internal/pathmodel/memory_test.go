package pathmodel

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/internal/line"
	"github.com/tidings-bus/tidings/deadletter/internal/replica"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// base is where handlers' effects and dead letters are.
type base interface {
	handler(m *member, name string, s handlers.Settings) handlers.Handler
	// letters is the store as one has it who is no member and always served.
	letters() deadletter.Store
	// applied returns how often each handler has applied each event.
	applied() map[fact]int
	// exactly: no effect is repeated.
	exactly() bool
}

// memory is the base of groups without a database: plain handlers whose effects
// are the model's own, and dead letters as they are kept in Kafka.
type memory struct {
	world *world
	log   *replica.Memory
}

func (b *memory) exactly() bool { return false }

func (b *memory) letters() deadletter.Store { return replica.New(b.log, b.log.State, group, 0) }

func (b *memory) applied() map[fact]int {
	w := b.world
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.effects)
}

func (b *memory) handler(m *member, name string, s handlers.Settings) handlers.Handler {
	j := &journal{Memory: b.log, member: m}
	return handlers.On(name, func(ctx context.Context, e event.Of[stepped]) error {
		return m.try(ctx, name, e.Event, func(it *item) error {
			w := b.world
			w.mu.Lock()
			defer w.mu.Unlock()
			if m.isDead() {
				return errDead
			}
			w.judge(fact{name, it}, func(o fact) bool { return w.effects[o] > 0 })
			w.effects[fact{name, it}]++
			w.notef("%s: %s applies %v", m.name, name, it)
			return nil
		})
	}).ParkIn(place{replica.New(j, b.log.State, group, 0)}).With(s)
}

// place is a store as plain handlers have it.
type place struct{ *replica.Store }

func (place) Check(context.Context) error { return nil }

func (place) Keep(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (p place) Letters() deadletter.Store { return p.Store }

// journal is the way of one member to the logs: it takes time, fails now and then
// without or after it has appended, and ends with the member.
type journal struct {
	*replica.Memory

	member *member
}

func (j *journal) fault(ctx context.Context, doubt bool) error {
	w := j.member.world
	time.Sleep(w.lag())
	switch {
	case j.member.isDead() && doubt:
		return fmt.Errorf("%w: %w", inbox.ErrCommitUnknown, errDead)
	case j.member.isDead():
		return fmt.Errorf("%w: %w", inbox.ErrNotAdmitted, errDead)
	case ctx.Err() != nil && !doubt:
		return fmt.Errorf("%w: %w", inbox.ErrNotAdmitted, ctx.Err())
	case !w.falters():
		return nil
	case doubt:
		return fmt.Errorf("%w: no answer", inbox.ErrCommitUnknown)
	}
	return errors.Join(inbox.ErrNotAdmitted, errors.New("no broker"))
}

// Read implements replica.Journal.
func (j *journal) Read(ctx context.Context) error {
	if err := j.fault(ctx, false); err != nil {
		return err
	}
	return j.Memory.Read(ctx)
}

// Put implements replica.Journal.
func (j *journal) Put(ctx context.Context, changes ...line.Change) ([]replica.Applied, error) {
	if err := j.fault(ctx, false); err != nil {
		return nil, err
	}
	applied, err := j.Memory.Put(context.WithoutCancel(ctx), changes...)
	if repeats {
		for i, c := range changes {
			if c.Letter != nil {
				j.member.world.logf("%s puts %d: %s of %d/%d, due %v: %+v", j.member.name, c.Line, c.Letter.Cause, c.Letter.Place.Partition, c.Letter.Place.Offset, c.Letter.Due, applied[i])
			} else {
				j.member.world.logf("%s takes out %s: %+v", j.member.name, c.Name, applied[i])
			}
		}
	}
	if err == nil {
		err = j.fault(ctx, true)
		if err != nil {
			j.member.world.logf("%s is not answered: %v", j.member.name, err)
		}
	}
	return applied, err
}

// Note implements replica.Journal.
func (j *journal) Note(ctx context.Context, notes ...line.Note) ([]line.Granted, error) {
	if err := j.fault(ctx, false); err != nil {
		return nil, err
	}
	granted, err := j.Memory.Note(context.WithoutCancel(ctx), notes...)
	if err == nil {
		err = j.fault(ctx, true)
	}
	return granted, err
}
