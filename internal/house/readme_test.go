package house

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "../.."

// fenced are the fenced blocks of the README in a language.
func fenced(t *testing.T, language string) []string {
	t.Helper()
	var blocks []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(read(t, "README.md"), -1) {
		blocks = append(blocks, m[1])
	}
	require.NotEmpty(t, blocks, "the README has no %s blocks", language)
	return blocks
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	require.NoError(t, err)
	return string(text)
}

// The code itself is compiled and run by the tests beside it.
func TestTheREADMEsCodeIsTheCodeThatIsTested(t *testing.T) {
	tested := read(t, "internal/house/handle_test.go")
	var regions []string
	for _, m := range regexp.MustCompile(`(?ms)^// README: \w+\n(.*?)^// README end$`).FindAllStringSubmatch(tested, -1) {
		regions = append(regions, strings.TrimSpace(m[1]))
	}
	var shown []string
	for _, block := range fenced(t, "go") {
		shown = append(shown, strings.TrimSpace(block))
	}
	require.Equal(t, regions, shown)
}

// quickly is what a command of the README is given to be done in seconds.
var quickly = map[string][]string{
	"make demo": {"ARGS=--events 300 --orders 30 --json"},
	"make test": {"PKG=./connection"},
}

func TestTheREADMEsCommandsRun(t *testing.T) {
	for _, block := range fenced(t, "sh") {
		for line := range strings.Lines(block) {
			command, _, _ := strings.Cut(line, "#")
			command = strings.TrimSpace(command)
			t.Run(command, func(t *testing.T) {
				words := append(strings.Fields(command), quickly[command]...)
				cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
				cmd.Dir = root
				// What the outer make handed down is not for an inner one.
				cmd.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=", "TIDINGS_LEFT_OUT=")
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, string(out))
			})
		}
	}
}

func TestTheREADMENamesOnlyTargetsThatExist(t *testing.T) {
	makefile := read(t, "Makefile")
	for _, file := range []string{"README.md", "CONTRIBUTING.md"} {
		for _, m := range regexp.MustCompile("(?m)(?:^|`)make ([a-z-]+)").FindAllStringSubmatch(read(t, file), -1) {
			require.Containsf(t, makefile, "\n"+m[1]+":", "%s shows make %s, which the Makefile does not have", file, m[1])
		}
	}
}

func TestTheTestCommandOfTheREADMEIsTheOneThatCIRuns(t *testing.T) {
	require.Regexp(t, `(?m)^make test\b`, strings.Join(fenced(t, "sh"), ""))
	// It reads the command from here with sed, and stops when it finds none.
	require.Contains(t, read(t, ".ci/run"), "README.md")
}

func TestLinksBetweenDocumentsLeadSomewhere(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "docs/decisions/*.md"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/README.md", "docs/dead-letters.md", "docs/migrating-from-watermill-kafka.md"} {
		files = append(files, filepath.Join(root, file))
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`).FindAllStringSubmatch(string(text), -1) {
			if u, err := url.Parse(m[1]); err == nil && u.IsAbs() {
				continue
			}
			require.FileExists(t, filepath.Join(filepath.Dir(file), m[1]), "%s links to it", file)
		}
	}
}

func TestEachDecisionIsListed(t *testing.T) {
	index := read(t, "docs/README.md")
	files, err := filepath.Glob(filepath.Join(root, "docs/decisions/*.md"))
	require.NoError(t, err)
	for _, file := range files {
		require.Contains(t, index, "decisions/"+filepath.Base(file))
	}
}
