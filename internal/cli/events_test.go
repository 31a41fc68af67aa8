package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/internal/cli"
)

func cloudEvent(id, key, typ string, seq int) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/test","type":%q,"time":"2026-11-21T09:00:00Z","partitionkey":%q,"aggregatetype":"order","sequence":"%d","datacontenttype":"application/json","data":{"n":%d}}`,
		id, typ, key, seq, seq)
}

const badLines = `{"specversion":"1.0","id":"b1","source":"/test","type":"order.paid","aggregatetype":"order","data":1}
{"specversion":"1.0","id":"b2"
{}
`

func TestTheEventInPublishsHelpCanBePublished(t *testing.T) {
	startBroker(t)
	ok(t, "", "topics", "create", "order")
	help := ok(t, "", "help", "publish")
	shown := help[strings.Index(help, "  {"):strings.Index(help, "\n\nUsage:")]
	require.Contains(t, ok(t, shown, "publish"), "order 1\n")
	require.Contains(t, ok(t, "", "tail", "order", "--from-beginning", "--follow=false"), `{"total":100}`)
}

func TestPublishTakesOneEventABatchAndLines(t *testing.T) {
	addr := startBroker(t)
	ok(t, "", "topics", "create", "order", "--partitions", "1")
	one, two := cloudEvent("a1", "o-1", "order.placed", 1), cloudEvent("a2", "o-1", "order.paid", 2)
	var pretty bytes.Buffer
	require.NoError(t, json.Indent(&pretty, []byte(one), "", "  "))
	for _, c := range []struct {
		form, text string
		sent       int
	}{
		{"event", one, 1},
		{"event over many lines", "\n" + pretty.String() + "\n", 1},
		{"batch", "[" + one + ",\n " + two + "]", 2},
		{"empty batch", "[]", 0},
		{"lines", one + "\r\n\n" + two + "\n", 2},
		{"last line without its end", one + "\n" + two, 2},
		{"nothing", "", 0},
	} {
		t.Run(c.form, func(t *testing.T) {
			before := endOffset(t, addr, "order")
			want := fmt.Sprintf("sent %d events: order %d\n", c.sent, c.sent)
			if c.sent == 0 {
				want = "sent 0 events\n"
			}
			require.Equal(t, want, ok(t, c.text, "publish"))
			require.Equal(t, want, ok(t, "", "publish", write(t, "in.json", c.text)))
			require.Equal(t, before+2*int64(c.sent), endOffset(t, addr, "order"))
		})
	}
}

func TestBadInputIsNamedByNumberAndNothingIsSent(t *testing.T) {
	addr := startBroker(t)
	ok(t, "", "topics", "create", "order", "--partitions", "1")
	good := cloudEvent("a1", "o-1", "order.placed", 1) + "\n"
	const (
		line2 = "line 2: it has no key: set \"partitionkey\" to the ID of its aggregate\n"
		line3 = "line 3: invalid JSON: it ends in the middle\n"
		line4 = "line 4: read a cloud event: invalid event: specversion \"\": is missing: this is no CloudEvent; a producer must send specversion 1.0, id, source and type\n"
	)
	golden{
		args: []string{"publish"}, stdin: good + badLines, code: cli.ExitBadInput,
		stderr: "stdin: " + line2 + "stdin: " + line3 + "stdin: " + line4 +
			"tidings: 3 of 4 events in stdin are bad: nothing was sent; correct them, or send the others with --skip-bad\n",
	}.check(t)
	require.Zero(t, endOffset(t, addr, "order"))

	r := run(t, good+badLines, "publish", "--skip-bad", "--json")
	require.Equal(t, cli.ExitBadInput, r.code)
	require.JSONEq(t, `{"sent":1,"bad":3,"topics":{"order":1}}`, r.stdout)
	require.Contains(t, r.stderr, "tidings: 3 of 4 events in stdin were bad and skipped\n")
	require.EqualValues(t, 1, endOffset(t, addr, "order"))

	for name, c := range map[string]struct{ text, want string }{
		"broken array":        {"[" + good + ",{", "stdin: event 2: invalid JSON: it ends in the middle\n"},
		"array not closed":    {"[" + good, "stdin: event 2: the array is not closed: invalid JSON: it ends in the middle\n"},
		"after the array":     {"[" + good + "] true", "stdin: event 2: there is something after the end of the array\n"},
		"event too large":     {strings.Replace(good, `{"n":1}`, `"`+strings.Repeat("x", event.MaxDataBytes)+`"`, 1), "stdin: line 1: "},
		"no text at all":      {"\x00\x01", "stdin: line 1: invalid JSON at byte 1: "},
		"a line that is huge": {`{"a":"` + strings.Repeat("x", 17<<20) + "\"}\n" + good, "stdin: line 1: longer than 16 MiB\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, c.text, "publish")
			require.Equal(t, cli.ExitBadInput, r.code, r.stderr)
			require.Contains(t, r.stderr, c.want)
			require.Less(t, len(r.stderr), 1000, "what is refused is not repeated")
			require.EqualValues(t, 1, endOffset(t, addr, "order"))
		})
	}
}

func TestAMissingTopicIsToldBeforeAnythingIsSent(t *testing.T) {
	addr := startBroker(t)
	ok(t, "", "topics", "create", "order", "--partitions", "1")
	in := cloudEvent("a1", "o-1", "order.placed", 1) + "\n" + strings.Replace(cloudEvent("a2", "i-1", "invoice.sent", 1), `"aggregatetype":"order"`, `"aggregatetype":"invoice"`, 1)
	const missing = "tidings: topic \"invoice\" does not exist; 'tidings topics list' shows those that do, 'tidings topics create invoice' makes it"
	golden{args: []string{"publish"}, stdin: in, code: cli.ExitFailed, stderr: missing + "; nothing was sent\n"}.check(t)
	require.Zero(t, endOffset(t, addr, "order"))
	golden{args: []string{"tail", "invoice"}, code: cli.ExitFailed, stderr: missing + "\n"}.check(t)
	require.Equal(t, "sent 2 events: order 2\n", ok(t, in, "publish", "--topic", "order"))
}

func TestWhatTheBrokerRefusesIsNamedByItsLine(t *testing.T) {
	addr := startBroker(t)
	ok(t, "", "topics", "create", "order", "--partitions", "1", "--set", "max.message.bytes=2000")
	large := strings.Replace(cloudEvent("a2", "o-2", "order.placed", 1), `{"n":1}`, `"`+strings.Repeat("x", 3000)+`"`, 1)
	in := cloudEvent("a1", "o-1", "order.placed", 1) + "\n" + large + "\n" + cloudEvent("a3", "o-3", "order.placed", 1) + "\n"
	r := run(t, in, "publish")
	require.Equal(t, cli.ExitFailed, r.code, r.stderr)
	require.Empty(t, r.stdout)
	require.Contains(t, r.stderr, "stdin: line 2: not sent: ")
	require.Contains(t, r.stderr, "tidings: 2 of 3 events were sent; the first that was not is line 2: ")
	require.Contains(t, r.stderr, "event too large")
	require.EqualValues(t, 2, endOffset(t, addr, "order"))
}

func TestLongInputIsSentInOrder(t *testing.T) {
	startBroker(t)
	ok(t, "", "topics", "create", "order", "--partitions", "3")
	var in strings.Builder
	for i := range 2500 {
		in.WriteString(cloudEvent(fmt.Sprintf("e%d", i), fmt.Sprintf("o-%d", i%7), "order.paid", i+1) + "\n")
	}
	require.Equal(t, "sent 2500 events: order 2500\n", ok(t, in.String(), "publish"))
	out := ok(t, "", "tail", "order", "--from-beginning", "--follow=false", "--json")
	last, n := map[string]int{}, 0
	for line := range strings.Lines(out) {
		e, err := event.UnmarshalCloudEvent([]byte(line))
		require.NoError(t, err)
		require.Greater(t, int(e.Sequence()), last[e.Aggregate().ID])
		last[e.Aggregate().ID] = int(e.Sequence())
		n++
	}
	require.Equal(t, 2500, n)
}

func TestTailFiltersShowsTheUndecodableAndRoundTrips(t *testing.T) {
	addr := startBroker(t)
	ok(t, "", "topics", "create", "order", "copy", "--partitions", "1")
	ok(t, cloudEvent("a1", "o-1", "order.placed", 1)+"\n"+cloudEvent("a2", "o-2", "order.placed", 1)+"\n"+cloudEvent("a3", "o-1", "order.paid", 2), "publish")
	cl := client(t, addr)
	require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{
		Topic: "order", Key: []byte("o-1"), Value: []byte("no\nevent"), Timestamp: time.Date(2026, 11, 21, 9, 0, 1, 0, time.UTC),
	}).FirstErr())
	all := func(args ...string) string {
		return ok(t, "", append([]string{"tail", "order", "--from-beginning", "--follow=false"}, args...)...)
	}
	const (
		first  = "0:0      2026-11-21 09:00:00.000  order.placed      o-1 #1        {\"n\":1}\n"
		second = "0:1      2026-11-21 09:00:00.000  order.placed      o-2 #1        {\"n\":1}\n"
		third  = "0:2      2026-11-21 09:00:00.000  order.paid        o-1 #2        {\"n\":2}\n"
	)
	out := all()
	require.True(t, strings.HasPrefix(out, first+second+third+"0:3      2026-11-21 09:00:01.000  undecodable  key \"o-1\": "), out)
	require.True(t, strings.HasSuffix(out, `; 8 bytes: "no\nevent"`+"\n"), out)
	require.Equal(t, 4, strings.Count(out, "\n"))
	require.Equal(t, third, all("--type", "order.paid,order.shipped"))
	require.Equal(t, second, all("--key", "o-2"))
	require.Equal(t, first, all("--type", "order.placed", "--key", "o-1"))
	require.Equal(t, first+second, all("-n", "2"))
	require.Empty(t, ok(t, "", "tail", "order", "--follow=false"), "from now on there is nothing")
	require.Contains(t, ok(t, "", "tail", "order", "--follow=false", "--since", "2026-01-01T00:00:00Z"), second)

	asJSON := all("--json")
	var bad struct {
		Undecodable string `json:"undecodable"`
		Value       []byte `json:"value"`
		Offset      int64  `json:"offset"`
	}
	lines := strings.Split(strings.TrimSpace(asJSON), "\n")
	require.Len(t, lines, 4)
	require.NoError(t, json.Unmarshal([]byte(lines[3]), &bad))
	require.NotEmpty(t, bad.Undecodable)
	require.Equal(t, "no\nevent", string(bad.Value))
	require.EqualValues(t, 3, bad.Offset)

	r := run(t, asJSON, "publish", "--topic", "copy", "--skip-bad")
	require.Equal(t, cli.ExitBadInput, r.code)
	require.Equal(t, "sent 3 events: copy 3\n", r.stdout)
	require.Equal(t, strings.Join(lines[:3], "\n")+"\n",
		ok(t, "", "tail", "copy", "--from-beginning", "--follow=false", "--json"), "the same events, IDs and times included")
}

func TestTailFollowsUntilItHasEnoughOrIsInterrupted(t *testing.T) {
	addr := startBroker(t)
	ok(t, "", "topics", "create", "order", "--partitions", "2")
	ctx, cancel := context.WithCancel(t.Context())
	pr, pw := io.Pipe()
	done := make(chan int)
	go func() {
		code := cli.Run(ctx, cli.Process{Args: []string{"tail", "order", "--from-beginning"}, Stdin: strings.NewReader(""), Stdout: pw, Stderr: io.Discard})
		_ = pw.Close()
		done <- code
	}()
	ok(t, cloudEvent("a1", "o-1", "order.placed", 1), "publish")
	line := make([]byte, 200)
	n, err := pr.Read(line)
	require.NoError(t, err)
	require.Contains(t, string(line[:n]), "order.placed")
	cancel()
	require.Equal(t, cli.ExitOK, <-done)
	require.Contains(t, ok(t, "", "tail", "order", "--from-beginning", "-n", "1", "--brokers", addr), "order.placed")
}

func TestTailLeavesOutAbortedTransactions(t *testing.T) {
	addr := startBroker(t)
	ok(t, "", "topics", "create", "order", "--partitions", "1")
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.TransactionalID("t"), kgo.DefaultProduceTopic("order"))
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	e, err := event.UnmarshalCloudEvent([]byte(cloudEvent("a1", "o-1", "order.placed", 1)))
	require.NoError(t, err)
	k := event.ToKafka(e)
	for _, commit := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
		require.NoError(t, cl.BeginTransaction())
		r := &kgo.Record{Key: k.Key, Value: k.Value}
		for _, h := range k.Headers {
			r.Headers = append(r.Headers, kgo.RecordHeader(h))
		}
		require.NoError(t, cl.ProduceSync(t.Context(), r).FirstErr())
		require.NoError(t, cl.EndTransaction(t.Context(), commit))
	}
	out := ok(t, "", "tail", "order", "--from-beginning", "--follow=false")
	require.Equal(t, 1, strings.Count(out, "\n"), out)
	require.True(t, strings.HasPrefix(out, "0:2 "), out)
}

func TestTopicsAreCreatedOnceAndListedWithTheirRecordedCount(t *testing.T) {
	startBroker(t)
	args := []string{"topics", "create", "order", "--partitions", "6", "--replication", "1", "--retention", "168h"}
	require.Equal(t, "topic order is there with 6 partitions\n", ok(t, "", args...))
	require.Equal(t, "topic order is there with 6 partitions\n", ok(t, "", args...), "at every deployment")
	r := run(t, "", "topics", "create", "order", "--partitions", "12")
	require.Equal(t, cli.ExitFailed, r.code)
	require.Contains(t, r.stderr, `create topic "order" with 12 partitions: it is there with 6`)
	require.Equal(t, "TOPIC  PARTITIONS  RECORDED  REPLICATION  \norder  6           6         1            \n", ok(t, "", "topics", "list"))
}
