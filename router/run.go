package router

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Run binds the handlers, checks their inboxes, subscribes, and brings messages
// to handlers until ctx ends and everything has stopped. It may be called once.
//
// It returns nil after a stop in which every running handler returned, also
// those whose context had to be cancelled; a StuckError when one did not; and
// whatever kept it from starting. A subscription that ends by itself ends Run
// with an error: its topic would go unread.
func (r *Router) Run(ctx context.Context) error {
	r.mu.Lock()
	fresh := r.phase.CompareAndSwap(phaseNew, phaseStarting)
	r.mu.Unlock()
	if !fresh {
		return fmt.Errorf("router: running group %q: Run was called before; make a new router", r.cfg.Group)
	}
	defer r.phase.Store(phaseStopped)
	if len(r.subs) == 0 {
		return fmt.Errorf("router: running group %q: no subscription: add them with Subscribe", r.cfg.Group)
	}
	for _, s := range r.subs {
		if err := s.bind(ctx); err != nil {
			return err
		}
	}
	if err := r.checkInboxes(ctx); err != nil {
		return err
	}
	if err := r.openLetterBoxes(); err != nil {
		return err
	}

	// What runs beside the messages ends after them, so it does not end with ctx.
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var beside sync.WaitGroup
	defer r.held.clear()
	defer beside.Wait()
	defer cancel()
	for _, k := range r.keepers {
		beside.Go(func() { r.keepInbox(background, k) })
	}
	beside.Go(func() { r.purgeHeld(background) })
	beside.Go(func() { r.watchStuck(background) })
	return r.route(ctx)
}

// route runs the subscriptions on a watermill router.
func (r *Router) route(ctx context.Context) error {
	// Subscriptions end when the router says so: a subscriber may cancel its
	// messages' contexts with the one it was given.
	subscribed, unsubscribe := context.WithCancel(context.WithoutCancel(ctx))
	defer unsubscribe()
	if err := r.open(ctx, subscribed, unsubscribe); err != nil {
		return err
	}
	w, err := r.watermill() //nolint:contextcheck // messages bring their own
	if err != nil {
		unsubscribe()
		r.refuse(r.subs)
		return err
	}
	running, stopWatermill := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWatermill()
	ended := make(chan error, 1)
	go func() { ended <- w.Run(running) }()
	select {
	case <-w.Running():
	case err := <-ended: // it has nothing to fail at: its channels are open
		return fmt.Errorf("router: running group %q: %w", r.cfg.Group, errors.Join(errors.New("watermill's router ended at its start"), err))
	}

	retrying, stopRetrying := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRetrying()
	retried := make(chan struct{})
	go func() { defer close(retried); r.retryLetters(retrying) }()

	r.phase.Store(phaseRunning)
	r.log.Info("router runs", "subscriptions", len(r.subs))
	early := r.awaitEnd(ctx)
	r.phase.Store(phaseStopping)
	close(r.stopC)
	r.log.Info("router stops", "timeout", r.cfg.StopTimeout)
	stopRetrying()
	stopWatermill()
	unsubscribe()
	all := make(chan error, 1)
	go func() { err := <-ended; <-retried; all <- err }()
	return errors.Join(early, r.awaitStop(all, retried))
}

// open subscribes to every topic, before watermill's router is told of any: it
// would leave goroutines behind when one fails.
func (r *Router) open(ctx, subscribed context.Context, unsubscribe context.CancelFunc) error {
	for i, s := range r.subs {
		err := ctx.Err()
		if err == nil {
			err = s.open(subscribed)
		}
		if err != nil {
			unsubscribe()
			r.refuse(r.subs[:i])
			return err
		}
	}
	return nil
}

// refuse drains subscriptions that were opened in vain, until they have ended
// or StopTimeout has passed.
func (r *Router) refuse(subs []*subscription) {
	timeout := time.After(r.cfg.StopTimeout)
	for _, s := range subs {
		for open := true; open; {
			var msg *message.Message
			select {
			case msg, open = <-s.messages:
				if open {
					msg.Nack()
				}
			case <-timeout:
				return
			}
		}
	}
}

// watermill makes the message.Router, with a handler per subscription.
func (r *Router) watermill() (*message.Router, error) {
	w, err := message.NewRouter(message.RouterConfig{
		// Its own wait must not end before ours.
		CloseTimeout: r.cfg.StopTimeout + r.cfg.StopGrace + time.Minute,
	}, watermillLog{log: r.log})
	if err != nil {
		return nil, fmt.Errorf("router: making watermill's router for group %q: %w", r.cfg.Group, err)
	}
	for _, s := range r.subs {
		s.handler = w.AddHandler(r.cfg.Group+"/"+s.topic, s.topic, s, "", nopPublisher{},
			func(msg *message.Message) ([]*message.Message, error) { return nil, s.handle(msg) })
	}
	return w, nil
}

// awaitEnd returns nil when ctx ends, and an error when a subscription does.
func (r *Router) awaitEnd(ctx context.Context) error {
	watch, cancel := context.WithCancel(ctx)
	first := make(chan *subscription, len(r.subs))
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer cancel()
	for _, s := range r.subs {
		watchers.Go(func() {
			select {
			case <-s.handler.Stopped():
				first <- s
			case <-watch.Done():
			}
		})
	}
	select {
	case <-ctx.Done():
		return nil
	case s := <-first:
		return fmt.Errorf("router: the subscription to %q of group %q ended by itself: its subscriber was closed or gave up; see its log", s.topic, r.cfg.Group)
	}
}

// awaitStop waits for the end of watermill's router and of the retries of parked
// events: all subscriptions have drained and all handlers have returned. Past
// StopTimeout it cancels handlers.
func (r *Router) awaitStop(ended <-chan error, retried <-chan struct{}) error {
	timeout := time.NewTimer(r.cfg.StopTimeout)
	defer timeout.Stop()
	select {
	case err := <-ended:
		r.log.Info("router has stopped")
		return err
	case <-timeout.C:
	}
	r.log.Warn("handlers still run at the stop timeout, their contexts are cancelled", "timeout", r.cfg.StopTimeout)
	r.killed.Store(true)
	r.work.kill()

	grace := time.NewTimer(r.cfg.StopGrace)
	defer grace.Stop()
	select {
	case err := <-ended:
		r.log.Info("router has stopped")
		return err
	case <-grace.C:
	}
	if stuck := r.work.stuck(); len(stuck) > 0 {
		r.logStuck(r.work.capture(0))
		return &StuckError{Handlers: r.work.stuck()}
	}
	var open []error
	select {
	case <-retried:
	default:
		open = append(open, fmt.Errorf("router: the retries of parked events of group %q did not end within %v of the stop: their database may be cut off", r.cfg.Group, r.cfg.StopTimeout+r.cfg.StopGrace))
	}
	for _, s := range r.subs {
		select {
		case <-s.handler.Stopped():
		default:
			open = append(open, fmt.Errorf("router: the subscription to %q of group %q did not end within %v of the stop: its subscriber may be cut off from its brokers",
				s.topic, r.cfg.Group, r.cfg.StopTimeout+r.cfg.StopGrace))
		}
	}
	return errors.Join(open...)
}

// purgeHeld forgets held events that have gone with their partitions.
func (r *Router) purgeHeld(ctx context.Context) {
	t := time.NewTicker(10 * time.Second)
	defer t.Stop()
	for {
		select {
		case now := <-t.C:
			r.held.purge(now)
		case <-ctx.Done():
			return
		}
	}
}
