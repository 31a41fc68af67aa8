package testenv

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/testcontainers/testcontainers-go/wait"
)

// PostgresImage is the database that suites run against:
// TIDINGS_POSTGRES_IMAGE, or the public image.
func PostgresImage() string { return image("TIDINGS_POSTGRES_IMAGE", "postgres:17") }

// Server is a PostgreSQL server.
type Server struct {
	*Container

	// URL is that of the server's own database, for a superuser.
	URL string
}

// PostgresOptions shapes a server; the zero value is useful.
type PostgresOptions struct {
	// Settings are server settings by name, such as "max_connections".
	Settings map[string]string
}

const (
	postgresPort = 5432
	// superuser is the name of the user, its password and its database.
	superuser = "postgres"
)

// Postgres returns the URL of a fresh, empty database on a server that all
// tests of the binary share. The database is dropped at the end of the test.
func Postgres(t testing.TB) string {
	t.Helper()
	Docker(t)
	s, err := shared.postgres.get(func() (*Server, error) {
		s, err := startPostgres(PostgresOptions{})
		if err == nil {
			shared.add(s.Container)
		}
		return s, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.Database(t)
}

// StartPostgres starts a server for this test alone and removes it at its end.
func StartPostgres(t testing.TB, options PostgresOptions) *Server {
	t.Helper()
	Docker(t)
	s, err := startPostgres(options)
	if err != nil {
		t.Fatal(err)
	}
	s.removeAfter(t)
	return s
}

// Database makes a fresh database on the server, to be dropped at the end of
// the test, and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := "test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	quoted := pgx.Identifier{name}.Sanitize()
	if err := s.execute("CREATE DATABASE " + quoted); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A server the test left stopped takes the database with it.
		_ = s.execute("DROP DATABASE IF EXISTS " + quoted + " WITH (FORCE)")
	})
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

func startPostgres(options PostgresOptions) (*Server, error) {
	s := &Server{}
	c, err := start(func() (spec, error) { return s.spec(options) })
	if err != nil {
		return nil, err
	}
	s.Container = c
	return s, nil
}

func (s *Server) spec(options PostgresOptions) (spec, error) {
	port, err := freePort(context.Background())
	if err != nil {
		return spec{}, err
	}
	s.URL = (&url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, superuser),
		Host: address(port), Path: "/" + superuser, RawQuery: "sslmode=disable",
	}).String()
	settings := map[string]string{"max_connections": "200"}
	maps.Copy(settings, options.Settings)
	args := []string{"postgres"}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	return spec{
		image: PostgresImage(),
		env:   map[string]string{"POSTGRES_PASSWORD": superuser},
		args:  args,
		ports: map[int]int{postgresPort: port},
		// The first line is that of the server that sets the data directory up.
		wait: wait.ForLog("database system is ready to accept connections").
			WithOccurrence(2).WithStartupTimeout(startTimeout),
		ready: s.answers,
	}, nil
}

func (s *Server) answers(ctx context.Context) error {
	return until(ctx, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, s.URL)
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}

func (s *Server) execute(sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("run %q: %w", sql, err)
	}
	return nil
}
