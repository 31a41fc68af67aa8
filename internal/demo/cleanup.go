package demo

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// end stops what still runs and removes what the run made, unless it is to be
// kept: after a failure it is evidence.
func (r *run) end(ctx context.Context, ok bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	r.screen.end()
	var errs []error
	for _, p := range r.live {
		if !p.ended() {
			p.kill()
		}
	}
	for _, s := range r.stores {
		s.close()
	}
	if r.provider != nil {
		r.provider.close()
	}
	keep := r.Keep || !ok
	if r.cluster != nil {
		if r.Kafka != nil && !keep {
			errs = append(errs, r.cluster.remove(ctx, r.groups()))
		}
		r.cluster.close()
	}
	if r.broker != nil && !r.broker.ended() {
		errs = append(errs, r.broker.stop())
	}
	if keep {
		r.kept = r.dir
		if r.database != nil {
			r.kept += ", database " + r.database.name
		}
		if r.Kafka != nil && r.topic != "" {
			r.kept += ", topic " + r.topic
		}
		return errors.Join(errs...)
	}
	if r.database != nil {
		errs = append(errs, r.database.drop(ctx))
	}
	errs = append(errs, os.RemoveAll(r.dir))
	return errors.Join(errs...)
}

// database is a PostgreSQL database of the run's own.
type database struct {
	server string // the URL that was given
	url    string
	name   string
}

// createDatabase makes a database on the server, so that nothing of the run
// stays behind in somebody else's.
func createDatabase(ctx context.Context, server, id string) (*database, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, errors.New("--postgres is not a URL; use postgres://user:password@host:5432/database")
	}
	d := &database{server: server, name: "tidings_" + strings.ReplaceAll(id, "-", "_")}
	if err := d.admin(ctx, "CREATE DATABASE "+pgx.Identifier{d.name}.Sanitize()); err != nil {
		return nil, fmt.Errorf("making the database %s (the user needs CREATEDB): %w", d.name, err)
	}
	own := *u
	own.Path = "/" + d.name
	d.url = own.String()
	return d, nil
}

func (d *database) drop(ctx context.Context) error {
	if err := d.admin(ctx, "DROP DATABASE "+pgx.Identifier{d.name}.Sanitize()+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("dropping the database %s: %w", d.name, err)
	}
	return nil
}

func (d *database) admin(ctx context.Context, statement string) (err error) {
	conn, err := pgx.Connect(ctx, d.server)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, statement)
	return err
}
