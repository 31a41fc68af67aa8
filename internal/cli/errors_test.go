package cli_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidings-bus/tidings/internal/cli"
)

// golden is a command that fails, with all that it says.
type golden struct {
	args   []string
	stdin  string
	code   int
	stderr string
}

func (g golden) check(t *testing.T) {
	t.Helper()
	r := run(t, g.stdin, g.args...)
	require.Equal(t, g.stderr, r.stderr)
	require.Equal(t, g.code, r.code)
	require.Empty(t, r.stdout, "results and errors do not mix")
}

func TestMistakesInTheCallSayWhatWouldDo(t *testing.T) {
	dir := t.TempDir()
	for name, g := range map[string]golden{
		"unknown command": {
			args: []string{"topcs"}, code: cli.ExitUsage,
			stderr: "tidings: unknown command \"topcs\" for \"tidings\"; did you mean \"topics\"?\nsee 'tidings --help'\n",
		},
		"unknown subcommand": {
			args: []string{"topics", "crate"}, code: cli.ExitUsage,
			stderr: "tidings: unknown command \"crate\" for \"tidings topics\"; did you mean \"create\"?\nsee 'tidings topics --help'\n",
		},
		"unknown flag": {
			args: []string{"tail", "order", "--form-beginning"}, code: cli.ExitUsage,
			stderr: "tidings: unknown flag: --form-beginning\nsee 'tidings tail --help'\n",
		},
		"argument missing": {
			args: []string{"tail"}, code: cli.ExitUsage,
			stderr: "tidings: tidings tail wants a topic: tidings tail order\nsee 'tidings tail --help'\n",
		},
		"argument too many": {
			args: []string{"version", "1"}, code: cli.ExitUsage,
			stderr: "tidings: tidings version: unexpected argument \"1\"\nsee 'tidings version --help'\n",
		},
		"address without a port": {
			args: []string{"topics", "list", "--brokers", "kafka"}, code: cli.ExitUsage,
			stderr: "tidings: connection: Brokers[0] is \"kafka\": write host:port, such as \"localhost:9092\" or \"[::1]:9092\"\nsee 'tidings topics list --help'\n",
		},
		"user without a mechanism": {
			args: []string{"topics", "list", "--sasl-username", "u"}, code: cli.ExitUsage,
			stderr: "tidings: --sasl-username or a password is set but --sasl-mechanism is not; say PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512\nsee 'tidings topics list --help'\n",
		},
		"two passwords": {
			args: []string{"topics", "list", "--sasl-password", "p", "--sasl-password-file", "f"}, code: cli.ExitUsage,
			stderr: "tidings: --sasl-password and --sasl-password-file are both set (flag, environment or file); leave one out\nsee 'tidings topics list --help'\n",
		},
		"certificate without key": {
			args: []string{"topics", "list", "--tls-cert", "c.pem"}, code: cli.ExitUsage,
			stderr: "tidings: --tls-cert needs --tls-key\nsee 'tidings topics list --help'\n",
		},
		"two starts": {
			args: []string{"tail", "order", "--since", "1h", "--from-beginning"}, code: cli.ExitUsage,
			stderr: "tidings: --from-beginning and --since are both set; leave one out\nsee 'tidings tail --help'\n",
		},
		"no database": {
			args: []string{"migrate"}, code: cli.ExitUsage,
			stderr: "tidings: which database? say --postgres URL or --sqlite PATH\nsee 'tidings migrate --help'\n",
		},
		"wrong database URL": {
			args: []string{"migrate", "--postgres", "mysql://u:secret@db/orders"}, code: cli.ExitUsage,
			stderr: "tidings: --postgres \"mysql://u:xxxxx@db/orders\" is not a PostgreSQL URL; use postgres://user:password@host:5432/database\nsee 'tidings migrate --help'\n",
		},
		"database URL that is none": {
			args: []string{"migrate", "--postgres", "postgres://u:se%cret@db/orders"}, code: cli.ExitUsage,
			stderr: "tidings: --postgres is not a URL (a password with special characters must be percent-encoded); use postgres://user:password@host:5432/database\nsee 'tidings migrate --help'\n",
		},
		"directory of the database missing": {
			args: []string{"migrate", "--sqlite", dir + "/no/orders.db"}, code: cli.ExitUsage,
			stderr: "tidings: --sqlite " + dir + "/no/orders.db: its directory does not exist; make " + dir + "/no first\nsee 'tidings migrate --help'\n",
		},
		"demo too small": {
			args: []string{"demo", "--events", "3"}, code: cli.ExitUsage,
			stderr: "tidings: events: 3 are too few: with less than 100 there is no middle in which to break things\nsee 'tidings demo --help'\n",
		},
		"demo of nothing": {
			args: []string{"demo", "--events", "0"}, code: cli.ExitUsage,
			stderr: "tidings: --events 0: say 100 or more, or leave it out for 5000\nsee 'tidings demo --help'\n",
		},
		"topic's name": {
			args: []string{"topics", "create", "order", "bad topic!"}, code: cli.ExitUsage,
			stderr: "tidings: create topic: topic name \"bad topic!\" has ' ' in it: Kafka allows letters, digits, '.', '_' and '-'\nsee 'tidings topics create --help'\n",
		},
		"broker on every address": {
			args: []string{"broker", "--addr", "0.0.0.0:9092"}, code: cli.ExitUsage,
			stderr: "tidings: broker address \"0.0.0.0:9092\" names no host that clients could be sent to; use the address they reach it by, such as 127.0.0.1:9092\nsee 'tidings broker --help'\n",
		},
		"file missing": {
			args: []string{"publish", dir + "/no.json"}, code: cli.ExitUsage,
			stderr: "tidings: open " + dir + "/no.json: no such file or directory\nsee 'tidings publish --help'\n",
		},
	} {
		t.Run(name, g.check)
	}
}

func TestWhatCannotBeReachedIsNamed(t *testing.T) {
	for name, g := range map[string]golden{
		"broker": {
			args: []string{"tail", "order", "--brokers", "127.0.0.1:1"}, code: cli.ExitUnreachable,
			stderr: "tidings: no broker reachable at 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused; check --brokers, or start one with 'tidings broker'\n",
		},
		"broker of the demo": {
			args: []string{"demo", "--kafka", "127.0.0.1:1"}, code: cli.ExitUnreachable,
			stderr: "tidings: no broker reachable at 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused; check --kafka, or start one with 'tidings broker'\n",
		},
		"database": {
			args: []string{"migrate", "--postgres", "postgres://u:secret@127.0.0.1:1/orders?sslmode=disable"}, code: cli.ExitUnreachable,
			stderr: "tidings: postgres 127.0.0.1:1/orders cannot be reached: dial tcp 127.0.0.1:1: connect: connection refused; check the host and port in the URL, and that it runs\n",
		},
		"admin port": {
			args: []string{"health", "--addr", "127.0.0.1:1"}, code: cli.ExitUnreachable,
			stderr: "tidings: asking whether the service is ready: Get \"http://127.0.0.1:1/health/ready\": dial tcp 127.0.0.1:1: connect: connection refused; is it running, and is this its admin address?\n",
		},
	} {
		t.Run(name, g.check)
	}
}

func TestAPortThatIsNoBrokerIsNotWaitedForForEver(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	r := run(t, "", "topics", "list", "--brokers", l.Addr().String(), "--timeout", "300ms")
	require.Equal(t, cli.ExitUnreachable, r.code)
	require.Contains(t, r.stderr, "no broker at "+l.Addr().String()+" answered")
}

func TestWrongCredentialsAreRefusedWithTheUsersName(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "orders", "right"))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	addr := c.ListenAddrs()[0]
	t.Setenv("TIDINGS_BROKERS", addr)
	t.Setenv("TIDINGS_SASL_MECHANISM", "plain")
	t.Setenv("TIDINGS_SASL_USERNAME", "orders")
	require.Equal(t, "TOPIC  PARTITIONS  RECORDED  REPLICATION  \n",
		ok(t, "", "topics", "list", "--sasl-password-file", write(t, "password", "right\n")))

	// kfake hangs up on a wrong password; Kafka answers first, as here.
	golden{
		args: []string{"topics", "list", "--sasl-password", "wrong"}, code: cli.ExitUnreachable,
		stderr: "tidings: brokers " + addr + " hung up on user \"orders\" with PLAIN: check --sasl-username and the password, and whether they want --tls\n",
	}.check(t)
	c.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return resp, nil, true
	})
	for _, args := range [][]string{{"topics", "list"}, {"tail", "order"}} {
		golden{
			args: append(args, "--sasl-password", "wrong"), code: cli.ExitRefused,
			stderr: "tidings: brokers " + addr + " refused user \"orders\" with PLAIN: SASL_AUTHENTICATION_FAILED: SASL Authentication failed.; check --sasl-username and the password\n",
		}.check(t)
	}
}

func TestADatabaseThatIsNotMigratedSaysSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "or ders?.db")
	golden{
		args: []string{"migrate", "--status", "--sqlite", path}, code: cli.ExitFailed,
		stderr: "tidings: sqlite " + path + " does not exist; 'tidings migrate --sqlite " + path + "' makes it\n",
	}.check(t)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	golden{
		args: []string{"migrate", "--status", "--sqlite", path}, code: cli.ExitFailed,
		stderr: "tidings: sqlite " + path + ": database is not migrated: it has schema version 0 and this binary needs 1; run `tidings migrate --sqlite ...`, or call schema.MigrateSQLite at start\n",
	}.check(t)
	require.Equal(t, "sqlite "+path+": migrated from version 0 to 1\n", ok(t, "", "migrate", "--sqlite", path))
	require.Equal(t, "sqlite "+path+": schema version 1, nothing to do\n", ok(t, "", "migrate", "--sqlite", path))
	require.Equal(t, "sqlite "+path+": schema version 1, nothing to do\n", ok(t, "", "migrate", "--status", "--sqlite", path))

	db, err := sql.Open("sqlite", "file:"+strings.ReplaceAll(path, "?", "%3f"))
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), `UPDATE tidings_meta SET version = 9, oldest_binary = 9, oldest_release = '7.0.0'`)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	for _, args := range [][]string{{"migrate", "--status", "--sqlite", path}, {"migrate", "--sqlite", path}} {
		r := run(t, "", args...)
		require.Equal(t, cli.ExitFailed, r.code)
		require.Contains(t, r.stderr, "database is of a newer, incompatible schema: it has version 9, for binaries of level 9 and above, and this one has level 1; upgrade this binary to release 7.0.0 or later\n")
	}

	other := write(t, "letter.txt", strings.Repeat("this is no database. ", 100))
	r := run(t, "", "migrate", "--sqlite", other)
	require.Equal(t, cli.ExitFailed, r.code)
	require.Contains(t, r.stderr, "file is not a database")
}

func TestExitCodesFollowTheCause(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{fmt.Errorf("x: %w", &net.OpError{Op: "dial", Err: errors.New("refused")}), 3},
		{context.DeadlineExceeded, 3},
		{fmt.Errorf("x: %w", kerr.SaslAuthenticationFailed), 4},
		{fmt.Errorf("x: %w", kerr.TopicAuthorizationFailed), 4},
		{&pgconn.PgError{Code: "28P01"}, 4},
		{&pgconn.PgError{Code: "42501"}, 4},
		{&pgconn.PgError{Code: "42P01"}, 1},
		{fmt.Errorf("x: %w", context.Canceled), 130},
	} {
		require.Equal(t, c.want, cli.ExitCode(c.err), "%v", c.err)
	}
	text := ok(t, "", "help", "exit-codes")
	for _, code := range []int{
		cli.ExitOK, cli.ExitFailed, cli.ExitUsage, cli.ExitUnreachable,
		cli.ExitRefused, cli.ExitBadInput, cli.ExitInterrupted,
	} {
		require.Regexp(t, fmt.Sprintf(`(?m)^ +%d  `, code), text)
	}
}

func TestMoreCopiesThanBrokersSayHowManyBrokersThereAre(t *testing.T) {
	startBroker(t)
	golden{
		args: []string{"topics", "create", "order", "--replication", "3"}, code: cli.ExitFailed,
		stderr: "tidings: create topic \"order\": [38] Invalid Replication Factor: the replication-factor is invalid: the cluster has 1 broker: lower the replication from 3, or set 0 for the brokers' default\n",
	}.check(t)
}

func TestABrokerThatWantsTLSSaysTheFlag(t *testing.T) {
	pair := certificate(t)
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	addr := c.ListenAddrs()[0]
	golden{
		args: []string{"topics", "list", "--brokers", addr}, code: cli.ExitUnreachable,
		stderr: "tidings: brokers " + addr + " hung up at once: if they want TLS, add --tls (with --tls-ca for an authority of your own); if they want a user, --sasl-mechanism\n",
	}.check(t)
}

// certificate makes a certificate that nobody trusts.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
