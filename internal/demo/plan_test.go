package demo

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPlansFollowFromTheSeedAndKeepTheRules(t *testing.T) {
	ps := plans(42, 37, 400)
	require.Equal(t, ps, plans(42, 37, 400))
	require.NotEqual(t, ps, plans(43, 37, 400))
	total, did := 0, map[string]int{}
	for _, p := range ps {
		o := newOrder(p.id, "", 0, 0, 0)
		for _, s := range p.steps {
			require.NoError(t, s.apply(o, p.customer))
			did[s.do]++
			total++
		}
		require.EqualValues(t, len(p.steps), o.LastSequence())
		require.Len(t, o.Recorded(), len(p.steps))
	}
	require.Equal(t, 400, total)
	for _, typ := range []string{typePlaced, typePaid, typeShipped, typeCanceled} {
		require.Positive(t, did[typ], typ)
	}
}

func TestAnOrderRefusesWhatItsStateForbids(t *testing.T) {
	o := newOrder("o-1", "", 0, 0, 0)
	require.EqualError(t, o.pay(1), `paying order o-1: it is "", not open`)
	require.NoError(t, o.place("c", 10))
	require.EqualError(t, o.place("c", 10), "placing order o-1: it is open already")
	require.ErrorContains(t, o.ship(), "only open, paid orders are shipped")
	require.NoError(t, o.pay(10))
	require.NoError(t, o.ship())
	require.NoError(t, o.cancel("no"))
	require.ErrorContains(t, o.cancel("no"), `it is "canceled", not open`)
	require.Equal(t, OrderCanceled{Reason: "no", Refund: 10}, o.Recorded()[3].Payload)
}

func TestServicesCoverEveryType(t *testing.T) {
	c, err := catalog()
	require.NoError(t, err)
	for _, p := range []any{OrderPlaced{}, OrderPaid{}, OrderShipped{}, OrderCanceled{}} {
		name, _, err := c.NameOf(p)
		require.NoError(t, err)
		typ, _ := describe(p)
		require.Equal(t, name, typ)
	}
}
