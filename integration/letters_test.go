package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/deadletter/sqlstore"
)

// letters is the store of dead letters as the command line opens it.
func (s *scene) letters() deadletter.Store {
	s.t.Helper()
	db, err := sql.Open("pgx", s.postgres)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, db.Close()) })
	return sqlstore.Postgres(db)
}

// total is the one count of all that is parked.
func total(counts []deadletter.Count) (sum deadletter.Count) {
	for _, c := range counts {
		sum.Keys += c.Keys
		sum.Events += c.Events
	}
	return sum
}

// retryUntilNone asks for retries, as an operator does, until nothing is parked.
func (s *scene) retryUntilNone(store deadletter.Store, group string) {
	s.t.Helper()
	s.await("nothing is parked", func(ctx context.Context) (bool, string, error) {
		left, err := store.Count(ctx, deadletter.Filter{Group: group})
		if err != nil || total(left).Keys == 0 {
			return err == nil, "", err
		}
		state := fmt.Sprintf("%+v", total(left))
		open, err := store.Requests(ctx, group, true, 1)
		if err != nil || len(open) > 0 {
			return false, state, err
		}
		_, err = store.Ask(ctx, deadletter.Request{Group: group, Kind: deadletter.RequestRetry},
			deadletter.Act{Who: "suite", Reason: "what is left"})
		if errors.Is(err, deadletter.ErrNotFound) {
			err = nil
		}
		return false, state, err
	})
}
