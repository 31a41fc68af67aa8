package testenv_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// inner runs one test of this binary in a process that is told to do without Docker.
func inner(t *testing.T, leftOut string, env ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKafkaIsSharedAndCarriesRecords$", "-test.v")
	cmd.Env = append(os.Environ(), "TIDINGS_DOCKER=off", "TIDINGS_LEFT_OUT="+leftOut, "CI=")
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestWithoutDockerATestIsSkippedAndNamed(t *testing.T) {
	leftOut := filepath.Join(t.TempDir(), "left-out")
	out, err := inner(t, leftOut)
	require.NoError(t, err, out)
	require.Contains(t, out, "LEFT OUT: needs Docker")
	names, err := os.ReadFile(leftOut)
	require.NoError(t, err)
	require.Equal(t, "internal/testenv\tTestKafkaIsSharedAndCarriesRecords\tTIDINGS_DOCKER=off\n", string(names))
}

func TestInCIAMissingDockerIsAnError(t *testing.T) {
	leftOut := filepath.Join(t.TempDir(), "left-out")
	out, err := inner(t, leftOut, "CI=true")
	require.Error(t, err, out)
	require.Contains(t, out, "CI=true allows no suite to be left out")
	require.NoFileExists(t, leftOut)
}
