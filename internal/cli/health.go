package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidings-bus/tidings/admin"
)

func healthCommand() *cobra.Command {
	var (
		addr    string
		live    bool
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a service's admin port whether it is ready",
		Long: `Asks the admin port of a service for its health: ready by default, live with
--live. Exits 0 when it is, 1 when it is not (the reasons are printed), 3 when
nobody answers. Made for the health checks of containers that have no shell.`,
		Example: `  tidings health --addr 127.0.0.1:9464
  tidings health --addr 127.0.0.1:9464 --live`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, _, err := net.SplitHostPort(addr); err != nil {
				return usageError{fmt.Errorf("--addr %q is not host:port: %w", addr, err)}
			}
			what := "ready"
			if live {
				what = "live"
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return askHealth(ctx, cmd.OutOrStdout(), "http://"+addr+"/health/"+what, what)
		},
	}
	cmd.Flags().StringVar(&addr, "addr", admin.DefaultAddr, "the service's admin address")
	cmd.Flags().BoolVar(&live, "live", false, "ask whether it is live instead of ready")
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "how long to wait for the answer")
	return cmd
}

func askHealth(ctx context.Context, out io.Writer, url, what string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return usageError{err}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("asking whether the service is %s: %w; is it running, and is this its admin address?", what, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", url, err)
	}
	text := strings.TrimSpace(string(body))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not %s: %s answered %s: %s", what, url, resp.Status, text)
	}
	sayf(out, "%s %s\n", what, text)
	return nil
}
