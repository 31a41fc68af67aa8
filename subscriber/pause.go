package subscriber

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/groups"
)

// Pause lets this subscriber begin nothing until Resume: no message is handed
// out, what runs is finished and committed, nothing more is fetched. It stays in
// the group and keeps its partitions. by and reason are shown by Warnings. It
// does not wait; a message that is being handed over at that moment counts as
// running.
//
// It pauses this process alone. groups.Pause pauses the whole group; a
// subscriber goes on when neither holds it.
func (s *Subscriber) Pause(by, reason string) {
	s.setPause(groups.State{Group: s.config.Group, Paused: true, Since: time.Now().UTC(), By: by, Reason: reason})
}

// Resume ends what Pause began.
func (s *Subscriber) Resume() {
	s.setPause(groups.State{Group: s.config.Group, Since: time.Now().UTC()})
}

// Paused tells whether a pause holds, of the group or of this subscriber. The
// router asks it before it retries parked events.
func (s *Subscriber) Paused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pause.Paused {
		return true
	}
	for sub := range s.subscriptions {
		if _, ok := sub.pause.inForce(); ok {
			return true
		}
	}
	return false
}

func (s *Subscriber) setPause(to groups.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pause.Paused == to.Paused {
		return
	}
	s.pause = to
	for sub := range s.subscriptions {
		sub.pause.set(&sub.pause.own, to)
		sub.heedPause()
	}
}

// Warnings says what an operator should look at although nothing is wrong: that
// the group, or this subscriber, is paused, by whom and since when.
func (s *Subscriber) Warnings(context.Context) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var warnings []string
	for sub := range s.subscriptions {
		if by, ok := sub.pause.inForce(); ok {
			warnings = append(warnings, fmt.Sprintf("topic %q, group %q: %s", sub.topic, s.config.Group, describe(by)))
		}
	}
	slices.Sort(warnings)
	return slices.Compact(warnings)
}

// describe says that something is paused, by whom, since when and why.
func describe(s groups.State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "paused since %s", s.Since.UTC().Format(time.RFC3339))
	if s.By != "" {
		fmt.Fprintf(&b, " by %s", s.By)
	}
	if s.Reason != "" {
		fmt.Fprintf(&b, ": %s", s.Reason)
	}
	return b.String()
}

// pause is why a subscription is paused: by its process, or with its group.
type pause struct {
	mu    sync.Mutex
	own   groups.State
	group groups.State
	heeds bool // the lanes are paused
}

func (p *pause) set(which *groups.State, to groups.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*which = to
}

// inForce returns the pause that holds, the group's before the process's own.
func (p *pause) inForce() (groups.State, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.holds()
}

func (p *pause) holds() (groups.State, bool) {
	if p.group.Paused {
		return p.group, true
	}
	return p.own, p.own.Paused
}

// heedPause makes the lanes do what was said last, and says so once.
func (s *subscription) heedPause() {
	p := &s.pause
	p.mu.Lock()
	defer p.mu.Unlock()
	by, paused := p.holds()
	if paused == p.heeds {
		return
	}
	p.heeds = paused
	gauge := s.metrics.paused.WithLabelValues(s.config.Group, s.topic)
	if paused {
		s.lanes.Pause()
		gauge.Set(1)
		s.log.Warn("paused: nothing new is handed out until it is resumed", "by", by.By, "since", by.Since, "reason", by.Reason)
		return
	}
	s.lanes.Resume()
	gauge.Set(0)
	s.log.Info("resumed")
}

// groupInterval is how often a member asks whether its group is paused: one
// small request.
const groupInterval = 2 * time.Second

// groupReader follows the control topic.
type groupReader struct {
	reader groups.Reader
	failed bool // said so
}

// refresh heeds what was said about the group since the last time. A failure
// changes nothing: what was known stands.
func (s *subscription) refreshGroup(ctx context.Context, client *kgo.Client) {
	ctx, cancel := context.WithTimeout(ctx, s.config.Timings.Connect)
	defer cancel()
	err := s.group.reader.Refresh(ctx, client)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		if !s.group.failed {
			s.log.Warn("cannot see whether the group is paused: taking what was known last, or that it is not; set WithoutControlTopic if this is as it should be",
				"topic", groups.Topic, "error", err)
		}
		s.group.failed = true
		return
	}
	s.group.failed = false
	s.pause.set(&s.pause.group, s.group.reader.State(s.config.Group))
	s.heedPause()
}

// followGroup heeds what is said about the group until ctx ends.
func (s *subscription) followGroup(ctx context.Context) {
	if s.config.WithoutControlTopic {
		return
	}
	tick := time.NewTicker(groupInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.refreshGroup(ctx, s.client)
		}
	}
}
