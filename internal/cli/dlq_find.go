package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tidings-bus/tidings/deadletter"
)

// which names one parked event, or one key.
type which struct {
	id      int64
	key     string
	handler string
}

func (w *which) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Int64Var(&w.id, "id", 0, "the event of this ID, for an ID that is a key, too")
	f.StringVar(&w.key, "key", "", `the events of this key, for a key that is an ID, too; "" for events without one`)
	f.StringVar(&w.handler, "handler", "", "only what is parked for this handler")
}

// oneOrFlags wants one argument, or none: the flags --id and --key are for it.
func oneOrFlags(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		given := len(args)
		for _, name := range []string{"id", "key"} {
			if onCommandLine(cmd.Flags().Lookup(name)) {
				given++
			}
		}
		switch {
		case given == 0:
			return usageError{fmt.Errorf("%s wants %s", cmd.CommandPath(), what)}
		case len(args) > 1:
			return usageError{fmt.Errorf("%s: unexpected argument %q", cmd.CommandPath(), args[1])}
		case given > 1:
			return usageError{fmt.Errorf("%s: a key or an ID, --key and --id: leave one of them", cmd.CommandPath())}
		}
		return nil
	}
}

// found is a parked event with its key.
type found struct {
	key    deadletter.Key
	letter deadletter.Letter
	behind []deadletter.Letter
}

// find returns the event of an ID, or the first events of a key, one for each
// handler that parked it. Events without a key are one each.
func (w *which) find(ctx context.Context, cmd *cobra.Command, k *desk, args []string) (list []found, byID bool, err error) {
	f := deadletter.Filter{Group: k.group}
	if w.handler != "" {
		f.Handlers = []string{w.handler}
	}
	if err := k.known(f); err != nil {
		return nil, false, err
	}
	text := w.key
	if len(args) > 0 {
		text = args[0]
	}
	asKey := len(args) > 0 || onCommandLine(cmd.Flags().Lookup("key"))
	if asKey {
		if list, err = k.first(ctx, f, text); err != nil {
			return nil, false, err
		}
	}
	id := w.id
	if len(args) > 0 {
		id, _ = strconv.ParseInt(text, 10, 64)
	}
	if id > 0 {
		one, err := k.event(ctx, id)
		switch {
		case errors.Is(err, deadletter.ErrNotFound) && asKey: // it is no ID
		case err != nil:
			return nil, false, err
		case len(list) > 0:
			return nil, false, usageError{fmt.Errorf("%d is a key as well as an event's ID: say --key %d or --id %d", id, id, id)}
		case w.handler != "" && one.key.Handler.Name != w.handler:
			return nil, false, fmt.Errorf("event %d is parked for handler %q, not for %q", id, one.key.Handler.Name, w.handler)
		default:
			return []found{one}, true, nil
		}
	}
	switch {
	case len(list) > 0:
		return list, false, nil
	case w.handler != "":
		return nil, false, fmt.Errorf("nothing is parked under key %q for handler %q", text, w.handler)
	}
	return nil, false, k.noKey(ctx, text)
}

// first are the first events of a key, as far as f selects them.
func (k *desk) first(ctx context.Context, f deadletter.Filter, text string) (list []found, err error) {
	key, err := parseKey(text)
	if err != nil {
		return nil, usageError{fmt.Errorf("key %q: %w", text, err)}
	}
	f.Keys = [][]byte{key}
	keys, err := k.Keys(ctx, f, 0, deadletter.MaxPage)
	if err != nil {
		return nil, err
	}
	for i := range keys {
		l, err := k.Letter(ctx, keys[i].Head)
		if errors.Is(err, deadletter.ErrNotFound) {
			continue // it left meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, found{key: keys[i], letter: l})
	}
	return list, nil
}

// event returns a parked event of the group with its key. It wraps ErrNotFound.
func (k *desk) event(ctx context.Context, id int64) (found, error) {
	l, err := k.Letter(ctx, id)
	if err != nil {
		return found{}, err
	}
	if l.Handler.Group != k.group {
		return found{}, fmt.Errorf("event %d is parked in group %q, not in %q", id, l.Handler.Group, k.group)
	}
	f := deadletter.Filter{Group: k.group, Handlers: []string{l.Handler.Name}, Topics: []string{l.Place.Topic}, Keys: [][]byte{l.Place.Key}}
	var after int64
	for {
		keys, err := k.Keys(ctx, f, after, deadletter.MaxPage)
		if err != nil {
			return found{}, err
		}
		for i := range keys {
			mine := keys[i].Handler == l.Handler && (len(l.Place.Key) > 0 || keys[i].Head == id)
			if mine {
				return found{key: keys[i], letter: l}, nil
			}
			after = keys[i].ID
		}
		if len(keys) < deadletter.MaxPage {
			return found{}, fmt.Errorf("event %d: %w: it was applied or discarded just now", id, deadletter.ErrNotFound)
		}
	}
}
