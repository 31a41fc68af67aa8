package near_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/internal/near"
)

func TestSuggestionsAreTheNearestNames(t *testing.T) {
	for _, c := range []struct {
		name string
		have []string
		want string
	}{
		{"chrage", []string{"ship", "charge", "Charge2"}, `; did you mean "charge", "Charge2"?`},
		{"billing", []string{"billing-eu", "stock"}, `; did you mean "billing-eu"?`},
		{"x", []string{"stock", "billing"}, `; there are "stock", "billing"`},
		{"o-9", []string{"o-1", "o-2", "o-3", "o-4"}, `; did you mean "o-1", "o-2", "o-3"?`},
		{"nothing", []string{"a1", "b22", "c333", "d4444"}, ""},
		{"", []string{"stock"}, `; there are "stock"`},
		{"any", nil, ""},
	} {
		require.Equal(t, c.want, near.Suggest(c.name, c.have), "%q", c.name)
	}
}
