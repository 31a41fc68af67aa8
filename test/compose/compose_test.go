package compose_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/modules/compose"
)

const (
	root = "../.."
	file = root + "/docker-compose.yml"
	// step is how many more effects each phase waits for.
	step = 200
)

// I3, I4 and I5 on the compose file: whatever joins and leaves, each event has
// its effect once at each service, in the order of its aggregate.
func TestEachEventIsBilledAndShippedOnceWhileBillingIsScaled(t *testing.T) {
	docker := needDocker(t)
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	s := start(ctx, t, docker)

	s.scale(ctx, t, 2)
	db := s.database(ctx, t)
	s.awaitEffects(ctx, t, db, "billing", step)
	s.awaitEffects(ctx, t, db, "shipping", step/2)
	for _, replicas := range []int{3, 1} {
		s.scale(ctx, t, replicas)
		s.awaitRunning(ctx, t, "billing", replicas)
		s.awaitEffects(ctx, t, db, "billing", count(ctx, t, db, effects, "billing")+step)
	}
	s.stop(ctx, t, "order")

	await(ctx, t, func(ctx context.Context) error {
		var missing []string
		rows, err := db.Query(ctx, lost)
		if err == nil {
			missing, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if err == nil && len(missing) > 0 {
			err = fmt.Errorf("%d effects are missing, the first: %s", len(missing), missing[0])
		}
		return err
	})
	require.Greater(t, count(ctx, t, db, "SELECT count(*) FROM demo_journal"), 3*step)
	require.Positive(t, count(ctx, t, db, "SELECT count(*) FROM demo_journal WHERE twice"),
		"no event was published twice: that effects happen once was not put to the test")
	require.Zero(t, count(ctx, t, db, doubled), "events with a second effect")
	require.Zero(t, count(ctx, t, db, breaks), "effects before those of an earlier event")
	require.Zero(t, count(ctx, t, db, strange), "effects of events that never happened")
}

const (
	effects = `SELECT count(*) FROM demo_effect WHERE service = $1`
	// What each service handles, event by event.
	expected = `WITH expected AS (
		SELECT service, event_id FROM demo_journal, (VALUES ('billing'), ('shipping')) AS s (service)
		WHERE service = 'billing' OR type <> 'order.placed'
	) `
	lost = expected + `SELECT service || ' of ' || event_id FROM expected LEFT JOIN demo_effect e USING (service, event_id)
		WHERE e.place IS NULL ORDER BY 1`
	// The other way round: nothing but what was to happen.
	strange = expected + `SELECT count(*) FROM demo_effect LEFT JOIN expected e USING (service, event_id) WHERE e.event_id IS NULL`
	doubled = `SELECT count(*) FROM (SELECT FROM demo_effect GROUP BY service, event_id HAVING count(*) > 1) AS d`
	breaks  = `SELECT count(*) FROM (
		SELECT sequence <= lag(sequence) OVER (PARTITION BY service, order_id ORDER BY place) AS back FROM demo_effect
	) AS o WHERE back`
)

// stack is one running copy of the compose file.
type stack struct {
	name     string
	env      map[string]string
	docker   *testcontainers.DockerClient
	postgres int
}

// start builds the image and leaves the rest to scale.
func start(ctx context.Context, t *testing.T, docker *testcontainers.DockerClient) *stack {
	t.Helper()
	name := fmt.Sprintf("tidings-test-%08x", rand.Uint32())
	image := "tidings:" + name
	build := exec.CommandContext(ctx, "make", "-C", root, "image", "TIDINGS_IMAGE="+image)
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	s := &stack{name: name, docker: docker, postgres: freePort(t)}
	s.env = map[string]string{
		"TIDINGS_IMAGE":         image,
		"TIDINGS_KAFKA_PORT":    strconv.Itoa(freePort(t)),
		"TIDINGS_POSTGRES_PORT": strconv.Itoa(s.postgres),
		"TIDINGS_ORDER_RATE":    "50",
	}
	for _, variable := range []string{"TIDINGS_KAFKA_IMAGE", "TIDINGS_POSTGRES_IMAGE"} {
		if value := os.Getenv(variable); value != "" {
			s.env[variable] = value
		}
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
		defer cancel()
		if t.Failed() {
			s.logs(ctx, t)
		}
		down := s.load(t, 0)
		require.NoError(t, down.Down(ctx, compose.RemoveOrphans(true), compose.RemoveVolumes(true)))
		_, err := docker.ImageRemove(ctx, image, client.ImageRemoveOptions{Force: true})
		require.NoError(t, err)
	})
	return s
}

// load reads the compose file as an environment with replicas does.
func (s *stack) load(t *testing.T, replicas int) *compose.DockerCompose {
	t.Helper()
	c, err := compose.NewDockerComposeWith(compose.StackIdentifier(s.name), compose.WithStackFiles(file))
	require.NoError(t, err)
	env := map[string]string{"TIDINGS_BILLING_REPLICAS": strconv.Itoa(replicas)}
	maps.Copy(env, s.env)
	c.WithEnv(env)
	return c
}

// scale does what docker compose up --detach --no-recreate --scale billing=N does.
func (s *stack) scale(ctx context.Context, t *testing.T, replicas int) {
	t.Helper()
	c := s.load(t, replicas)
	defer func() { require.NoError(t, c.Close()) }()
	require.NoError(t, c.Up(ctx, compose.WithRecreate("never"), compose.WithRecreateDependencies("never")))
}

func (s *stack) stop(ctx context.Context, t *testing.T, service string) {
	t.Helper()
	for _, c := range s.containers(ctx, t, service) {
		_, err := s.docker.ContainerStop(ctx, c.ID, client.ContainerStopOptions{})
		require.NoError(t, err)
	}
}

func (s *stack) containers(ctx context.Context, t *testing.T, service string) []container.Summary {
	t.Helper()
	filters := make(client.Filters).Add("label", "com.docker.compose.project="+s.name)
	if service != "" {
		filters = filters.Add("label", "com.docker.compose.service="+service)
	}
	// Beyond the deadline of a wait too: the complaint is the wait's to make.
	found, err := s.docker.ContainerList(context.WithoutCancel(ctx), client.ContainerListOptions{All: true, Filters: filters})
	require.NoError(t, err)
	return found.Items
}

// awaitRunning waits until a service has so many processes, all healthy.
func (s *stack) awaitRunning(ctx context.Context, t *testing.T, service string, processes int) {
	t.Helper()
	await(ctx, t, func(ctx context.Context) error {
		found := s.containers(ctx, t, service)
		if len(found) != processes {
			return fmt.Errorf("%s has %d processes, not %d", service, len(found), processes)
		}
		for _, c := range found {
			// A list has no health before version 1.52 of the API.
			got, err := s.docker.ContainerInspect(ctx, c.ID, client.ContainerInspectOptions{})
			if err != nil {
				return err
			}
			if state := got.Container.State; state == nil || state.Health == nil || state.Health.Status != container.Healthy {
				return fmt.Errorf("%s %.12s is not healthy: %s", service, c.ID, c.Status)
			}
		}
		return nil
	})
}

func (s *stack) awaitEffects(ctx context.Context, t *testing.T, db *pgx.Conn, service string, atLeast int) {
	t.Helper()
	await(ctx, t, func(ctx context.Context) error {
		var n int
		err := db.QueryRow(ctx, effects, service).Scan(&n)
		if err == nil && n < atLeast {
			err = fmt.Errorf("%s has had %d effects, not %d", service, n, atLeast)
		}
		return err
	})
}

// database connects, once the services have made their tables.
func (s *stack) database(ctx context.Context, t *testing.T) *pgx.Conn {
	t.Helper()
	var db *pgx.Conn
	await(ctx, t, func(ctx context.Context) (err error) {
		url := fmt.Sprintf("postgres://tidings:tidings@127.0.0.1:%d/tidings?sslmode=disable", s.postgres)
		if db, err = pgx.Connect(ctx, url); err != nil {
			return err
		}
		if _, err = db.Exec(ctx, "SELECT FROM demo_effect, demo_journal LIMIT 0"); err != nil {
			_ = db.Close(ctx)
		}
		return err
	})
	t.Cleanup(func() { _ = db.Close(context.WithoutCancel(ctx)) })
	return db
}

// logs shows the last words of each service.
func (s *stack) logs(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, c := range s.containers(ctx, t, "") {
		out, _ := exec.CommandContext(ctx, "docker", "logs", "--tail", "40", c.ID).CombinedOutput()
		t.Logf("%v %s\n%s", c.Names, c.Status, out)
	}
}

func count(ctx context.Context, t *testing.T, db *pgx.Conn, query string, args ...any) int {
	t.Helper()
	var n int
	require.NoError(t, db.QueryRow(ctx, query, args...).Scan(&n))
	return n
}

// await asks until ask has no complaint, for two minutes at most.
func await(ctx context.Context, t *testing.T, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil || last == nil {
			last = err // not what the deadline itself made fail
		}
		select {
		case <-ctx.Done():
			t.Fatalf("gave up waiting: %v", last)
		case <-tick.C:
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func needDocker(t *testing.T) *testcontainers.DockerClient {
	t.Helper()
	docker, err := testcontainers.NewDockerClientWithOpts(t.Context())
	if err == nil {
		t.Cleanup(func() { _ = docker.Close() })
		return docker
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("needs Docker, and CI=true allows no suite to be left out: %v", err)
	}
	t.Skipf("LEFT OUT: needs Docker: %v", err)
	return nil
}
