package broker_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/tidings-bus/tidings/internal/broker"
)

// childEnv makes the test binary a broker process of its own, so that it can be killed.
const childEnv = "TIDINGS_TEST_BROKER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		b, err := broker.Start(broker.Config{Addr: "127.0.0.1:0", DataDir: dir})
		if err != nil {
			panic(err)
		}
		os.Stdout.WriteString(b.Addr() + "\n")
		select {}
	}
	// kfake's connection goroutines end when the clients hang up, a moment after they do.
	goleak.VerifyTestMain(m)
}

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr))...)
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	return cl
}

func ctx(t *testing.T) context.Context {
	t.Helper()
	c, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return c
}

func start(t *testing.T, cfg broker.Config) *broker.Broker {
	t.Helper()
	b, err := broker.Start(cfg)
	require.NoError(t, err)
	return b
}

func TestRecordsAndOffsetsSurviveARestartOnTheSameAddress(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "when missing")
	b := start(t, broker.Config{Addr: "127.0.0.1:0", DataDir: dir})
	addr := b.Addr()
	cl := client(t, addr, kgo.DefaultProduceTopic("order"))
	adm := kadm.NewClient(cl)
	_, err := adm.CreateTopic(ctx(t), 3, 1, nil, "order")
	require.NoError(t, err)
	require.NoError(t, cl.ProduceSync(ctx(t), kgo.KeySliceRecord([]byte("o-1"), []byte("kept"))).FirstErr())
	var offs kadm.Offsets
	offs.AddOffset("order", 0, 1, -1)
	_, err = adm.CommitOffsets(ctx(t), "billing", offs)
	require.NoError(t, err)
	b.Close()

	b = start(t, broker.Config{Addr: addr, DataDir: dir})
	t.Cleanup(b.Close)
	require.Equal(t, addr, b.Addr())
	require.Equal(t, "kept", readOne(t, addr))
	got, err := adm.FetchOffsets(ctx(t), "billing")
	require.NoError(t, err)
	o, ok := got.Lookup("order", 0)
	require.True(t, ok)
	require.EqualValues(t, 1, o.At)
	require.NoError(t, cl.ProduceSync(ctx(t), kgo.KeySliceRecord([]byte("o-1"), []byte("next"))).FirstErr(),
		"a client from before the restart goes on")
}

func readOne(t *testing.T, addr string) string {
	t.Helper()
	cl := client(t, addr, kgo.ConsumeTopics("order"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	fs := cl.PollRecords(ctx(t), 1)
	require.NoError(t, fs.Err())
	require.Equal(t, 1, fs.NumRecords())
	return string(fs.Records()[0].Value)
}

func TestAcknowledgedRecordsSurviveSIGKILL(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	addr := line[:len(line)-1]

	cl := client(t, addr, kgo.DefaultProduceTopic("order"))
	_, err = kadm.NewClient(cl).CreateTopic(ctx(t), 1, 1, nil, "order")
	require.NoError(t, err)
	for range 50 {
		require.NoError(t, cl.ProduceSync(ctx(t), kgo.KeySliceRecord([]byte("o-1"), []byte("v"))).FirstErr())
	}
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()

	b := start(t, broker.Config{Addr: addr, DataDir: dir})
	t.Cleanup(b.Close)
	ends, err := kadm.NewClient(client(t, addr)).ListEndOffsets(ctx(t), "order")
	require.NoError(t, err)
	o, ok := ends.Lookup("order", 0)
	require.True(t, ok)
	require.EqualValues(t, 50, o.Offset)
}

func TestTopicsAreNeverCreatedSilently(t *testing.T) {
	b := start(t, broker.Config{Addr: "127.0.0.1:0"})
	t.Cleanup(b.Close)
	cl := client(t, b.Addr(), kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(0))
	err := cl.ProduceSync(ctx(t), &kgo.Record{Topic: "nobody-made-it", Value: []byte("v")}).FirstErr()
	require.ErrorIs(t, err, kerr.UnknownTopicOrPartition)
}

func TestASecondBrokerIsRefused(t *testing.T) {
	dir := t.TempDir()
	b := start(t, broker.Config{Addr: "127.0.0.1:0", DataDir: dir})
	t.Cleanup(b.Close)

	_, err := broker.Start(broker.Config{Addr: "127.0.0.1:0", DataDir: dir})
	require.ErrorIs(t, err, broker.ErrInUse)
	require.EqualError(t, err, "data directory "+dir+" is in use by another broker; stop it, or choose another directory")

	_, err = broker.Start(broker.Config{Addr: b.Addr()})
	require.ErrorIs(t, err, broker.ErrInUse)
	require.EqualError(t, err, "starting the broker on "+b.Addr()+": address in use by another process; choose another address, or port 0 for a free one")
}

func TestAddressesThatCannotBeServedAreNamed(t *testing.T) {
	for addr, want := range map[string]string{
		"9092":            `broker address "9092" is not host:port: address 9092: missing port in address; use for example 127.0.0.1:9092`,
		"127.0.0.1:kafka": `broker address "127.0.0.1:kafka": port "kafka" is not a number from 0 to 65535`,
		"0.0.0.0:9092":    `broker address "0.0.0.0:9092" names no host that clients could be sent to; use the address they reach it by, such as 127.0.0.1:9092`,
		":9092":           `broker address ":9092" names no host that clients could be sent to; use the address they reach it by, such as 127.0.0.1:9092`,
	} {
		_, err := broker.Start(broker.Config{Addr: addr})
		require.EqualError(t, err, want)
	}
}
