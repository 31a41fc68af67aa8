package cli_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/internal/cli"
)

// A pause is seen by all members within seconds: two members, keys of both, and
// nothing is booked until the group is resumed.
func TestAPausedGroupsMembersAllWaitAndGoOnWhenItIsResumed(t *testing.T) {
	b := newBilling(t)
	b.member()
	b.member()
	orders := []string{"o-1", "o-2", "o-3", "o-4", "o-5", "o-6"}
	for _, o := range orders {
		b.pays(o, 1, 1)
	}
	all := func(each int) func() bool {
		return func() bool {
			for _, o := range orders {
				if len(b.booked(o)) != each {
					return false
				}
			}
			return true
		}
	}
	require.Eventually(t, all(1), 30*time.Second, 20*time.Millisecond)

	r := run(t, "", "groups", "pause", "biling", "--reason", "r")
	require.Equal(t, cli.ExitFailed, r.code)
	require.Equal(t, "tidings: group \"biling\" is not known to the brokers (to pause it before its first member comes, say --force); did you mean \"billing\"?\n", r.stderr)
	require.Contains(t, ok(t, "", "groups", "list"), "billing")
	require.Contains(t, ok(t, "", "groups", "pause", "billing", "--as", "ann", "--reason", "the bank is closed"), "group billing is paused; ")
	require.Regexp(t, "^group billing is paused already, since .* by ann: the bank is closed\n$", ok(t, "", "groups", "pause", "billing", "--as", "bob"))

	require.Eventually(t, func() bool { return b.members[0].Paused() && b.members[1].Paused() }, 10*time.Second, 10*time.Millisecond, "within seconds, by all")
	for _, o := range orders {
		b.pays(o, 2, 1)
	}
	require.Never(t, func() bool { return !all(1)() }, 300*time.Millisecond, 50*time.Millisecond)
	type group struct {
		Group, By, Reason string
		Paused            bool
	}
	list := decode[[]group](t, ok(t, "", "groups", "list", "--json"))
	require.Equal(t, []group{{"billing", "ann", "the bank is closed", true}}, list)
	require.Regexp(t, `(?m)^billing +paused +\d+s ago +ann +the bank is closed$`, ok(t, "", "groups", "list"))

	require.Regexp(t, "^group billing goes on; it was paused [0-9]+s by ann: the bank is closed\n$", ok(t, "", "groups", "resume", "billing", "--as", "bob"))
	require.Equal(t, "group billing is not paused\n", ok(t, "", "groups", "resume", "billing"))
	require.Eventually(t, all(2), 30*time.Second, 20*time.Millisecond)
}
