package integration

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/internal/testenv"
)

// longer is how much more time a suite has at its full size.
const longer = 10

// documented are the budgets, by suite, of the package's documentation: written
// once, where a reader looks for them.
var documented = sync.OnceValues(func() (map[string]time.Duration, error) {
	return budgetsIn("doc.go", `(?m)^//\s+(Test\w+)\s+(\d+) s\b`)
})

// budgetsIn reads the budgets from the lines of a file: suite, seconds.
func budgetsIn(file, line string) (map[string]time.Duration, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	budgets := map[string]time.Duration{}
	for _, m := range regexp.MustCompile(line).FindAllStringSubmatch(string(text), -1) {
		seconds, err := strconv.Atoi(m[2])
		if err != nil {
			return nil, fmt.Errorf("budget of %s: %w", m[1], err)
		}
		budgets[m[1]] = time.Duration(seconds) * time.Second
	}
	return budgets, nil
}

// budget is how long the suite may take: a guard against hanging. The start of
// the containers is not counted.
func budget(t *testing.T) time.Duration {
	t.Helper()
	budgets, err := documented()
	require.NoError(t, err)
	suite, _, _ := strings.Cut(t.Name(), "/")
	b, ok := budgets[suite]
	require.True(t, ok, "%s has no budget: list it in doc.go", suite)
	if testenv.Long() {
		b *= longer
	}
	return b
}

// TestEverySuiteHasABudget keeps the list complete: neither a suite without a
// budget, nor a budget without a suite.
func TestEverySuiteHasABudget(t *testing.T) {
	budgets, err := documented()
	require.NoError(t, err)
	suites := map[string]bool{}
	files, err := os.ReadDir(".")
	require.NoError(t, err)
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		text, err := os.ReadFile(f.Name())
		require.NoError(t, err)
		for _, m := range function.FindAllStringSubmatch(string(text), -1) {
			suites[m[1]] = true
		}
	}
	for name := range suites {
		require.Contains(t, budgets, name, "list %s with its budget in doc.go", name)
	}
	for name := range budgets {
		require.True(t, suites[name], "doc.go lists %s, which does not exist", name)
	}
	contributing, err := budgetsIn("../CONTRIBUTING.md", "(?m)^\\| `(Test\\w+)` \\| (\\d+) \\|$")
	require.NoError(t, err)
	require.Equal(t, budgets, contributing, "CONTRIBUTING.md lists the budgets of doc.go")
}
