package groups

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/internal/kafka"
)

// Topic is the control topic: one partition, compacted; a record's key is the
// group, its value a State as JSON. Pause makes it.
const Topic = "tidings.groups"

// State is what was last said about a group.
type State struct {
	Group  string    `json:"-"`
	Paused bool      `json:"paused"`
	Since  time.Time `json:"since"` // when it was said, UTC
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
}

// Change is what Pause and Resume did. Nothing, if the group was so before: then
// Before and After are the same.
type Change struct{ Before, After State }

// Changed tells whether something was changed.
func (c Change) Changed() bool { return c.Before.Paused != c.After.Paused }

// ErrForbidden is wrapped by the errors of a user who may not use the control topic.
var ErrForbidden = errors.New("not allowed to use the control topic " + Topic)

// Pause stops the members of group from beginning anything, until Resume. by and
// reason are for whoever asks why; by must not be empty. It returns when the
// brokers have acknowledged it; members follow within seconds. A group that is
// paused stays as it is. It need not exist: its first member will find it paused.
//
// Errors: a nameless group or user, brokers that do not answer until ctx ends,
// ErrForbidden.
func Pause(ctx context.Context, conn connection.Config, group, by, reason string) (Change, error) {
	c, err := change(ctx, conn, State{Group: group, Paused: true, By: by, Reason: reason})
	if err != nil {
		return Change{}, fmt.Errorf("pause group %q: %w", group, err)
	}
	return c, nil
}

// Resume lets the members of group go on. See Pause.
func Resume(ctx context.Context, conn connection.Config, group, by, reason string) (Change, error) {
	c, err := change(ctx, conn, State{Group: group, By: by, Reason: reason})
	if err != nil {
		return Change{}, fmt.Errorf("resume group %q: %w", group, err)
	}
	return c, nil
}

// List returns what was last said about each group, paused or not, by name. A
// group that was never paused is not in it.
func List(ctx context.Context, conn connection.Config) ([]State, error) {
	log := slog.New(slog.DiscardHandler)
	client, err := dial(conn, log)
	if err != nil {
		return nil, fmt.Errorf("list paused groups: %w", err)
	}
	defer client.Close()
	r := Reader{Connection: conn, Logger: log}
	if err := r.Refresh(ctx, client); err != nil {
		return nil, fmt.Errorf("list paused groups: %w", err)
	}
	all := make([]State, 0, len(r.states))
	for _, s := range r.states {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b State) int { return strings.Compare(a.Group, b.Group) })
	return all, nil
}

func dial(conn connection.Config, log *slog.Logger) (*kgo.Client, error) {
	if err := conn.Validate(); err != nil {
		return nil, err
	}
	return kgo.NewClient(kafka.Options(conn, log)...)
}

func change(ctx context.Context, conn connection.Config, to State) (Change, error) {
	if to.Group == "" {
		return Change{}, errors.New("it has no name")
	}
	if to.By == "" {
		return Change{}, errors.New("nobody: name who does it")
	}
	log := slog.New(slog.DiscardHandler)
	client, err := dial(conn, log)
	if err != nil {
		return Change{}, err
	}
	defer client.Close()
	r := Reader{Connection: conn, Logger: log}
	if err := r.Refresh(ctx, client); err != nil {
		return Change{}, err
	}
	was := r.State(to.Group)
	if was.Paused == to.Paused {
		return Change{Before: was, After: was}, nil
	}
	to.Since = time.Now().UTC()
	value, err := json.Marshal(to)
	if err != nil {
		return Change{}, err
	}
	if err := create(ctx, client); err != nil {
		return Change{}, err
	}
	record := &kgo.Record{Topic: Topic, Key: []byte(to.Group), Value: value}
	if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
		return Change{}, forbidden(err, "WRITE")
	}
	return Change{Before: was, After: to}, nil
}

// create makes the control topic unless it exists.
func create(ctx context.Context, client *kgo.Client) error {
	compact := "compact"
	resp, err := kadm.NewClient(client).CreateTopic(ctx, 1, -1, map[string]*string{"cleanup.policy": &compact}, Topic)
	if err == nil {
		err = resp.Err
	}
	if err == nil || errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	return forbidden(fmt.Errorf("create topic %q: %w", Topic, err), "CREATE")
}

// forbidden says which right is missing, if one is.
func forbidden(err error, right string) error {
	if errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed) {
		return fmt.Errorf("%w: %w; grant the user %s on it", ErrForbidden, err, right)
	}
	return err
}
