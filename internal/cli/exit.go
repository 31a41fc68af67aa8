package cli

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidings-bus/tidings/publisher"
)

// The exit codes. Scripts branch on them: they do not change.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitUnreachable = 3
	ExitRefused     = 4
	ExitBadInput    = 5
	ExitInterrupted = 130
)

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What each exit code means",
		Long: `Exit codes of tidings:

    0  done
    1  failed, or found something wrong: a demo whose audit does not add up, a
       service that is not ready, a topic that exists already; the message says what
    2  usage: an unknown command or flag, a value that cannot be used, a setting
       of the environment or the file that is wrong; nothing was done
    3  a broker or database could not be reached in time
    4  a broker or database refused: wrong credentials, or not allowed
    5  input was refused: without --skip-bad nothing was sent, with it the rest was
  130  interrupted`,
	}
}

// usageError is a mistake in how the command was called.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// inputError is input that was refused.
type inputError struct{ err error }

func (e inputError) Error() string { return e.err.Error() }
func (e inputError) Unwrap() error { return e.err }

// unreachableError is a broker or database that did not answer in time.
type unreachableError struct{ err error }

func (e unreachableError) Error() string { return e.err.Error() }
func (e unreachableError) Unwrap() error { return e.err }

// reportedError is a failure whose message is already on stdout or stderr.
type reportedError struct{ err error }

func (e *reportedError) Error() string { return e.err.Error() }
func (e *reportedError) Unwrap() error { return e.err }

// ExitCode returns the exit code for a command's error.
func ExitCode(err error) int {
	var (
		usage       usageError
		input       inputError
		unreachable unreachableError
	)
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &usage):
		return ExitUsage
	case errors.As(err, &input):
		return ExitBadInput
	case isRefused(err):
		return ExitRefused
	case errors.As(err, &unreachable), isUnreachable(err):
		return ExitUnreachable
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	}
	return ExitFailed
}

var refusals = []error{
	kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState,
	kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed,
	publisher.ErrCredentials, publisher.ErrNotAuthorized,
}

func isRefused(err error) bool {
	for _, r := range refusals {
		if errors.Is(err, r) {
			return true
		}
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		// Class 28 is invalid authorization, 42501 insufficient privilege.
		return len(pg.Code) == 5 && (pg.Code[:2] == "28" || pg.Code == "42501")
	}
	return false
}

func isUnreachable(err error) bool {
	var (
		op      *net.OpError
		dns     *net.DNSError
		connect *pgconn.ConnectError
	)
	if errors.As(err, &op) || errors.As(err, &dns) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, publisher.ErrUnreachable) {
		return true
	}
	if errors.As(err, &connect) {
		var pg *pgconn.PgError
		return !errors.As(err, &pg) // a PgError is an answer
	}
	for _, errno := range []error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, errno) && !errors.As(err, new(*fs.PathError)) {
			return true
		}
	}
	return false
}
