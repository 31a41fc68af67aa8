package pathmodel

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/router"
)

const (
	group = "billing"
	topic = "order"
)

type (
	stepped struct{ N int }
	noted   struct{ N int } // nobody takes it
)

var quiet = slog.New(slog.DiscardHandler)

var (
	errDead = errors.New("the process is dead")
	errNo   = errors.New("no")
)

// member is one process of the group: a reader, a real router, and what that
// starts. After it was killed nothing of it has an effect.
type member struct {
	world  *world
	name   string
	reader *reader
	dead   atomic.Bool
	stop   context.CancelFunc
	ended  chan struct{}
}

func (m *member) isDead() bool { return m.dead.Load() }

// start starts a member.
func (w *world) start(name string) *member {
	m := &member{world: w, name: name, ended: make(chan struct{})}
	m.reader = newReader(w, m)
	r, err := router.New(router.Config{
		Group: group, Catalog: w.catalog, Logger: quiet, Member: name,
		SlowRetry: 5 * time.Second, StopTimeout: 5 * time.Second, StopGrace: time.Minute,
		Outage:      w.outage,
		DeadLetters: router.DeadLetters{Concurrent: 1 + w.random.IntN(3), Poll: time.Duration(1+w.random.IntN(4)) * time.Second, Lease: 5 * time.Second},
	})
	require.NoError(w.t, err)
	hs := make([]handlers.Handler, 0, len(w.handlers))
	for _, h := range w.handlers {
		hs = append(hs, w.base.handler(m, h, w.settings))
	}
	require.NoError(w.t, r.Subscribe(router.Subscription{Topic: topic, Subscriber: m.reader, Handlers: hs}))
	ctx, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	go func() {
		defer close(m.ended)
		if err := r.Run(ctx); err != nil {
			w.t.Errorf("member %s ended: %v", name, err)
		}
	}()
	select {
	case <-m.reader.subscribed:
	case <-m.ended:
	}
	w.members = append(w.members, m)
	return m
}

// try is what a handler's function does: it takes its time, meets what the
// schedule has for it, or calls effect.
func (m *member) try(ctx context.Context, handler string, e event.Event, effect func(it *item) error) error {
	w := m.world
	it := w.byID[e.ID()] // all were made before the first was published
	o := w.enter(m, handler, it)
	defer w.leave(m, handler, it)
	takes := time.NewTimer(o.takes)
	defer takes.Stop()
	select {
	case <-takes.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	switch {
	case m.isDead():
		return errDead
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	switch o.kind {
	case fails:
		return errNo
	case panics:
		panic("no")
	case waits:
		return handlers.RetryAfter(o.after).Because(errNo)
	case rejects:
		return handlers.Reject(errNo)
	case hangs:
		<-ctx.Done()
		return context.Cause(ctx)
	case works:
	}
	return effect(it)
}
