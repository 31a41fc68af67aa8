package demo_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/internal/demo"
)

func TestServicesSayWhatTheyCannotRunWith(t *testing.T) {
	db := demo.StoreConfig{SQLite: t.TempDir() + "/x.db"}
	for _, c := range []struct {
		run  func() error
		want string
	}{
		{func() error { return demo.Member{Service: "sales", Store: db}.Run(t.Context(), nil) }, `service "sales" is none of billing, shipping, mail`},
		{func() error { return demo.Member{Service: "mail", Store: db}.Run(t.Context(), nil) }, "service mail needs the mail provider's URL"},
		{func() error { return demo.Member{Service: "billing"}.Run(t.Context(), nil) }, "no database: give --sqlite PATH or --postgres URL"},
		{func() error {
			return demo.Shop{Store: demo.StoreConfig{SQLite: "a", Postgres: "b"}}.Run(t.Context(), nil)
		}, "two databases: give either --sqlite or --postgres"},
		{func() error { return demo.Shop{Store: db, Events: 7}.Run(t.Context(), nil) }, "7 events over no orders: give at least one order"},
		{func() error { return demo.Shop{Store: db, Events: 7, Orders: 8}.Run(t.Context(), nil) }, "7 events over 8 orders: every order has at least one event; raise the events or lower the orders"},
		{func() error { return demo.Shop{Store: db, Rate: -1}.Run(t.Context(), nil) }, "rate -1 must not be negative; 0 is as fast as it goes"},
		{func() error {
			return demo.Member{Service: "billing", Store: db}.Run(t.Context(), nil)
		}, ""}, // no brokers
		{func() error {
			m := demo.Member{Service: "shipping", Store: demo.StoreConfig{SQLite: "/nowhere/x.db"}}
			return m.Run(t.Context(), nil)
		}, ""},
	} {
		err := c.run()
		require.Error(t, err)
		if c.want != "" {
			require.EqualError(t, err, c.want)
		}
	}
}

func TestAServiceOnADatabaseThatIsNotMigratedSaysHow(t *testing.T) {
	cmd := program("demo", "service", "billing", "--brokers", "127.0.0.1:1", "--admin", "", "--sqlite", t.TempDir()+"/billing.db")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Contains(t, string(out), "database is not migrated")
	require.Contains(t, string(out), "run `tidings migrate --sqlite ...`")
}
