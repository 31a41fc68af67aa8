package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/near"
)

// selection selects parked keys, by flags.
type selection struct {
	keys     []string
	handlers []string
	topics   []string
	types    []string
	causes   []string
	older    string
	newer    string
}

func (s *selection) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&s.keys, "key", nil, `only this key (an aggregate ID; may be repeated); "" for events without one, base64:... for bytes that are no text`)
	f.StringSliceVar(&s.handlers, "handler", nil, "only of these handlers")
	f.StringSliceVar(&s.topics, "topic", nil, "only of these topics")
	f.StringSliceVar(&s.types, "type", nil, `only keys whose first event is of these types; "" for undecodable ones`)
	f.StringSliceVar(&s.causes, "cause", nil, "only keys whose first event was parked for these causes: "+strings.Join(causes, ", "))
	f.StringVar(&s.older, "older", "", "only keys whose first event was parked before that long ago (2h) or before a time (2026-11-21T09:00:00Z)")
	f.StringVar(&s.newer, "newer", "", "only keys whose first event was parked since that long ago, or since a time")
}

var causes = words(inbox.CauseError, inbox.CauseTimeout, inbox.CausePanic, inbox.CauseRejected, inbox.CauseLater, inbox.CauseDeadline,
	inbox.CauseLate, inbox.CauseUndecodable, inbox.CauseUnknownType, inbox.CauseBehind)

func words[T ~string](list ...T) []string {
	texts := make([]string, 0, len(list))
	for _, v := range list {
		texts = append(texts, string(v))
	}
	return texts
}

// empty tells whether everything is selected.
func (s *selection) empty() bool {
	return len(s.keys)+len(s.handlers)+len(s.topics)+len(s.types)+len(s.causes) == 0 && s.older == "" && s.newer == ""
}

// filter reads the flags. Its errors are usage errors.
func (s *selection) filter(cmd *cobra.Command, now time.Time) (f deadletter.Filter, err error) {
	f = deadletter.Filter{Handlers: s.handlers, Topics: s.topics, Types: orNameless(cmd, "type", s.types)}
	for _, text := range orNameless(cmd, "key", s.keys) {
		key, err := parseKey(text)
		if err != nil {
			return f, usageError{fmt.Errorf("--key %q: %w", text, err)}
		}
		f.Keys = append(f.Keys, key)
	}
	for _, c := range s.causes {
		if !slices.Contains(causes, c) {
			return f, usageError{fmt.Errorf("--cause %q is none; use one of %s%s", c, strings.Join(causes, ", "), near.Suggest(c, causes))}
		}
		f.Causes = append(f.Causes, inbox.Cause(c))
	}
	if s.older != "" {
		if f.Until, err = moment("--older", s.older, now); err != nil {
			return f, usageError{err}
		}
	}
	if s.newer != "" {
		if f.From, err = moment("--newer", s.newer, now); err != nil {
			return f, usageError{err}
		}
	}
	if s.older != "" && s.newer != "" && !f.From.Before(f.Until) {
		return f, usageError{errors.New("--newer is not before --older: nothing can be both; the two name the begin and the end of a time")}
	}
	return f, nil
}

// orNameless takes a list flag that was given as "" for a list of that.
func orNameless(cmd *cobra.Command, flag string, list []string) []string {
	if f := cmd.Flags().Lookup(flag); f != nil && onCommandLine(f) && len(list) == 0 {
		return []string{""}
	}
	return list
}

// known refuses handlers that the group never had.
func (k *desk) known(f deadletter.Filter) error {
	var names []string
	for _, h := range k.handlers {
		if !slices.Contains(names, h.Name) {
			names = append(names, h.Name)
		}
	}
	for _, name := range f.Handlers {
		if !slices.Contains(names, name) {
			return fmt.Errorf("handler %q of group %q %w%s", name, k.group, deadletter.ErrNotFound, near.Suggest(name, names))
		}
	}
	return nil
}

// parked refuses keys that are not parked at all, and suggests those that are.
func (k *desk) parked(ctx context.Context, keys [][]byte) error {
	for _, key := range keys {
		found, err := k.Keys(ctx, deadletter.Filter{Group: k.group, Keys: [][]byte{key}}, 0, 1)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return k.noKey(ctx, keyText(key))
		}
	}
	return nil
}

// noKey is the error for a key that is not parked.
func (k *desk) noKey(ctx context.Context, key string) error {
	list, err := k.Keys(ctx, deadletter.Filter{Group: k.group}, 0, deadletter.MaxPage)
	if err != nil {
		return err
	}
	var have []string
	for i := range list {
		if text := keyText(list[i].Key); list[i].Key != nil && !slices.Contains(have, text) {
			have = append(have, text)
		}
	}
	if len(list) == 0 {
		return fmt.Errorf("nothing is parked under key %q: in group %q nothing is parked at all", key, k.group)
	}
	return fmt.Errorf("a parked key %q was %w in group %q%s", key, deadletter.ErrNotFound, k.group, near.Suggest(key, have))
}

const (
	encoded = "base64:"
	noKey   = "(no key)"
)

// keyText is a key for people; parseKey takes it back.
func keyText(key []byte) string {
	switch {
	case len(key) == 0:
		return noKey
	case !utf8.Valid(key) || strings.ContainsFunc(string(key), func(r rune) bool { return !unicode.IsPrint(r) }) || strings.HasPrefix(string(key), encoded) || string(key) == noKey:
		return encoded + base64.StdEncoding.EncodeToString(key)
	}
	return string(key)
}

func parseKey(text string) ([]byte, error) {
	rest, is := strings.CutPrefix(text, encoded)
	if text == noKey {
		return []byte{}, nil
	}
	if !is {
		return []byte(text), nil
	}
	key, err := base64.StdEncoding.DecodeString(rest)
	if err != nil {
		return nil, fmt.Errorf("what follows %q is not base64: %w", encoded, err)
	}
	return key, nil
}
