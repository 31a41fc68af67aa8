package house

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/tidings-bus/tidings"

// Kafka clients, by import path prefix.
var clients = []string{
	"github.com/segmentio/kafka-go",
	"github.com/twmb/franz-go",
	"github.com/IBM/sarama",
	"github.com/ThreeDotsLabs/watermill-kafka",
}

// rules are the design's import rules. Paths are prefixes; those of this module
// are written without its name.
var rules = []struct {
	packages []string // that obey
	except   []string // of these
	never    []string // what they do not depend on, not even indirectly
	why      string
}{
	{
		packages: []string{"event"},
		never:    append([]string{"*"}, clients...),
		why:      "domain code imports event: it brings nothing else along",
	},
	{
		packages: []string{"connection"},
		never:    []string{"*", "."},
		why:      "publisher, subscriber and CLI share it: it is standard library only",
	},
	{
		packages: []string{"publisher"},
		never:    []string{"subscriber", "router", "handlers", "eventstore", "feed", "internal/lanes"},
		why:      "ways to Kafka and from it are wired by the service",
	},
	{
		packages: []string{"subscriber"},
		never:    []string{"publisher", "router", "handlers", "eventstore", "feed"},
		why:      "ways to Kafka and from it are wired by the service",
	},
	{
		packages: []string{"subscriber/watermillkafka"},
		never:    []string{"github.com/segmentio/kafka-go", "github.com/twmb/franz-go"},
		why:      "a service that reads by sarama gets no second client",
	},
	{
		packages: []string{"eventstore"},
		never:    append([]string{"publisher", "subscriber", "router", "feed"}, clients...),
		why:      "the store appends and reads, nothing else",
	},
	{
		packages: []string{"feed"},
		never:    append([]string{"publisher", "subscriber", "router"}, clients...),
		why:      "the feed serves the store",
	},
	{
		packages: []string{"internal/lanes"},
		never:    append([]string{"publisher", "subscriber", "router", "handlers"}, clients...),
		why:      "lanes are for every source: Kafka, the store, the feed",
	},
	{
		packages: []string{"handlers", "schema"},
		never:    append([]string{"publisher", "subscriber", "router", "dispatch"}, clients...),
		why:      "a handler does not know what delivers to it",
	},
	{
		packages: []string{"router"},
		never:    append([]string{"publisher", "subscriber", "dispatch"}, clients...),
		why:      "the router takes any watermill subscriber",
	},
	{
		packages: []string{"deadletter"},
		except:   []string{"deadletter/kafkastore"},
		never:    append([]string{"publisher", "subscriber", "router", "dispatch"}, clients...),
		why:      "dead letters are beside the inbox; only their Kafka store speaks to Kafka",
	},
	{
		packages: []string{"deadletter/kafkastore"},
		never:    []string{"publisher", "subscriber", "router", "handlers/inbox/pgxinbox", "handlers/inbox/sqlinbox", "deadletter/sqlstore", "github.com/segmentio/kafka-go"},
		why:      "it is for groups without a database, and does not know who delivers",
	},
	{
		packages: []string{"dispatch"},
		never:    append([]string{"publisher", "subscriber", "router"}, clients...),
		why:      "the dispatcher's sinks are handed to it",
	},
	{
		packages: []string{"admin"},
		never:    append([]string{"publisher", "subscriber", "router", "handlers"}, clients...),
		why:      "parts register with admin, it does not know them",
	},
	{
		packages: []string{""},
		except:   []string{"internal/testenv", "internal/deps", "internal/house", "integration", "handlers/inbox/inboxtest", "deadletter/storetest"},
		never: []string{
			"internal/testenv", "testing", "github.com/testcontainers", "github.com/stretchr/testify", "go.uber.org/goleak",
		},
		why: "what a test needs is in no user's binary",
	},
	{
		packages: []string{""},
		except:   []string{"cmd", "internal/cli", "internal/demo", "internal/broker", "internal/deps", "examples", "integration"},
		never:    []string{"github.com/twmb/franz-go/pkg/kfake", "github.com/spf13", "internal/broker", "internal/cli", "internal/demo"},
		why:      "the command line and the embedded broker are for the command",
	},
}

// pkg is what go list says about a package.
type pkg struct {
	ImportPath string   `json:"ImportPath"`
	Name       string   `json:"Name"`
	Imports    []string `json:"Imports"`
	Deps       []string `json:"Deps"`
	GoFiles    []string `json:"GoFiles"`
}

func TestPackagesImportOnlyWhatTheDesignAllows(t *testing.T) {
	packages := list(t)
	for _, rule := range rules {
		for _, p := range packages {
			name := short(p.ImportPath)
			if !within(name, rule.packages) || within(name, rule.except) {
				continue
			}
			for _, dep := range p.Deps {
				if breaks(p, dep, rule.packages, rule.never) {
					t.Errorf("%s depends on %s, by way of %s: %s", name, short(dep), strings.Join(way(packages, p.ImportPath, dep), " -> "), rule.why)
				}
			}
		}
	}
}

// Wiring is what may know both the way to Kafka and the way from it.
func TestOnlyWiringKnowsBothPublisherAndSubscriber(t *testing.T) {
	wiring := []string{"cmd", "internal/cli", "internal/demo", "examples", "integration"}
	for _, p := range list(t) {
		name := short(p.ImportPath)
		if within(name, wiring) {
			continue
		}
		both := slices.Contains(p.Deps, module+"/publisher") && slices.Contains(p.Deps, module+"/subscriber")
		require.Falsef(t, both, "%s wires publisher and subscriber together; only %v do", name, wiring)
	}
}

func TestPackagesAreNamedForWhatTheyDo(t *testing.T) {
	for _, p := range list(t) {
		for _, empty := range []string{"util", "utils", "common", "helper", "helpers", "types", "misc", "shared"} {
			require.NotEqualf(t, empty, path.Base(p.ImportPath), "%s says nothing about what is in it", p.ImportPath)
		}
	}
}

func TestEachPublicPackageOpensWithItsGuarantees(t *testing.T) {
	for _, p := range list(t) {
		name := short(p.ImportPath)
		if p.Name == "main" || within(name, []string{"internal", "integration", "examples"}) || len(p.GoFiles) == 0 {
			continue
		}
		require.Containsf(t, p.GoFiles, "doc.go", "package %s has no doc.go", name)
	}
}

// breaks reports whether dep is one of never: "*" stands for any package of
// this module that is not the rule's own, "." for any that is not in the
// standard library.
func breaks(p pkg, dep string, own, never []string) bool {
	ours := dep == module || strings.HasPrefix(dep, module+"/")
	for _, n := range never {
		switch {
		case n == "*":
			if ours && !within(short(dep), own) {
				return true
			}
		case n == ".":
			if first, _, _ := strings.Cut(dep, "/"); strings.Contains(first, ".") && !ours {
				return true
			}
		case ours && within(short(dep), []string{n}), !ours && (dep == n || strings.HasPrefix(dep, n+"/")):
			if dep != p.ImportPath {
				return true
			}
		}
	}
	return false
}

// way is a shortest chain of imports between two packages, for the error.
func way(packages []pkg, from, to string) []string {
	imports := map[string][]string{}
	for _, p := range packages {
		imports[p.ImportPath] = p.Imports
	}
	queue, seen := [][]string{{from}}, map[string]bool{from: true}
	for len(queue) > 0 {
		chain := queue[0]
		queue = queue[1:]
		last := chain[len(chain)-1]
		for _, next := range imports[last] {
			if next == to {
				return append(chain, next)
			}
			if !seen[next] {
				seen[next] = true
				queue = append(queue, append(slices.Clone(chain), next))
			}
		}
	}
	return []string{from, "...", to}
}

func within(name string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if prefix == "" || name == prefix || strings.HasPrefix(name, prefix+"/") {
			return true
		}
	}
	return false
}

func short(importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
}

// list returns the module's packages, as compiled without tests.
func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Name,Imports,Deps,GoFiles", "./...")
	cmd.Dir = "../.."
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var packages []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
	require.NotEmpty(t, packages)
	return packages
}

func TestABrokenImportRuleIsSeen(t *testing.T) {
	for _, c := range []struct {
		name, dep  string
		own, never []string
		want       bool
	}{
		{"a client", "github.com/twmb/franz-go/pkg/kgo", []string{"event"}, clients, true},
		{"another path with the same beginning", "github.com/twmb/franz-gopher", []string{"event"}, clients, false},
		{"a package of ours where none may be", module + "/connection", []string{"event"}, []string{"*"}, true},
		{"the rule's own package", module + "/event/sub", []string{"event"}, []string{"*"}, false},
		{"a named package of ours", module + "/router", []string{"publisher"}, []string{"router"}, true},
		{"one that only begins alike", module + "/routers", []string{"publisher"}, []string{"router"}, false},
		{"standard library", "crypto/tls", []string{"connection"}, []string{"*", "."}, false},
		{"beyond the standard library", "golang.org/x/sync/errgroup", []string{"connection"}, []string{"*", "."}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, breaks(pkg{ImportPath: module + "/" + c.own[0]}, c.dep, c.own, c.never))
		})
	}
}
