package integration

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/admin"
)

var portOpen = regexp.MustCompile(`msg="admin port is open" addr=(\S+)`)

// get reads a page of the process's admin port.
func (s *scene) get(p *process, page string) []byte {
	s.t.Helper()
	at := portOpen.FindStringSubmatch(p.log.String())
	require.NotNil(s.t, at, "%s must have opened its admin port", p.name)
	request, err := http.NewRequestWithContext(s.ctx, http.MethodGet, "http://"+at[1]+page, nil)
	require.NoError(s.t, err)
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	require.NoError(s.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	return text
}

// metric is the sum over the process's series of that name which have the labels.
func (s *scene) metric(p *process, series string, label ...string) (sum float64) {
	s.t.Helper()
	text := string(s.get(p, "/metrics"))
	require.Contains(s.t, text, "\n# TYPE "+series+" ")
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, series+"{") ||
			slices.ContainsFunc(label, func(l string) bool { return !strings.Contains(line, l) }) {
			continue
		}
		fields := strings.Fields(line)
		value, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		require.NoError(s.t, err, line)
		sum += value
	}
	return sum
}

// warnings are what the process's health says beside its status.
func (s *scene) warnings(p *process) (list []string) {
	s.t.Helper()
	var health admin.Health
	require.NoError(s.t, json.Unmarshal(s.get(p, "/health/ready"), &health))
	for _, c := range health.Checks {
		list = append(list, c.Warnings...)
	}
	return list
}
