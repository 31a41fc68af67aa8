package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// handler returns a handler's ID. It wraps ErrNotFound, and names near ones.
func (s session) handler(ctx context.Context, h inbox.Handler) (int32, error) {
	id, err := one[int32](s.row(ctx, handlerID, h.Group, h.Name, h.Epoch).Scan)
	if !errors.Is(err, sql.ErrNoRows) {
		return id, err
	}
	if err := s.known(ctx, h.Group, []string{h.Name}); err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("handler %q of group %q has no epoch %d: %w", h.Name, h.Group, h.Epoch, deadletter.ErrNotFound)
}

// known wraps ErrNotFound for a group without handlers, and for a name that is
// none of its handlers'.
func (s session) known(ctx context.Context, group string, handlers []string) error {
	have, err := each(ctx, s, one[string], names, group)
	if err != nil {
		return err
	}
	if len(have) == 0 {
		others, err := each(ctx, s, one[string], groups)
		if err != nil {
			return err
		}
		return fmt.Errorf("group %q %w in this database%s", group, deadletter.ErrNotFound, near(group, others))
	}
	for _, name := range handlers {
		if !slices.Contains(have, name) {
			return fmt.Errorf("handler %q of group %q %w%s", name, group, deadletter.ErrNotFound, near(name, have))
		}
	}
	return nil
}

// mostNear is how many names a suggestion has.
const mostNear = 3

// near is a suggestion for a name that is not there.
func near(name string, have []string) string {
	type candidate struct {
		name string
		far  int
	}
	var list []candidate
	for _, h := range have {
		far := distance(strings.ToLower(name), strings.ToLower(h))
		if far <= 1+len(name)/3 || strings.Contains(h, name) || strings.Contains(name, h) {
			list = append(list, candidate{h, far})
		}
	}
	slices.SortStableFunc(list, func(a, b candidate) int { return a.far - b.far })
	if len(list) == 0 {
		for _, h := range have {
			list = append(list, candidate{name: h})
		}
		if len(list) == 0 || len(list) > mostNear {
			return ""
		}
		return "; there are " + quoted(list, func(c candidate) string { return c.name })
	}
	return "; did you mean " + quoted(list[:min(len(list), mostNear)], func(c candidate) string { return c.name }) + "?"
}

func quoted[T any](list []T, name func(T) string) string {
	texts := make([]string, 0, len(list))
	for _, v := range list {
		texts = append(texts, strconv.Quote(name(v)))
	}
	return strings.Join(texts, ", ")
}

// distance is the number of letters to add, remove or change (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
