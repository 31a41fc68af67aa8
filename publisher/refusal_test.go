package publisher

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/event"
)

func TestASingleEventThatIsTooLargeIsFoundAndTheOthersArePublished(t *testing.T) {
	c := cluster(t, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "4000"}), kfake.SeedTopics(1, "one"))
	config := to(c)
	config.TopicFor = func(event.Event) string { return "one" }
	p := start(t, config)
	var events []event.Event
	for i := range 60 {
		events = append(events, ev(t, fmt.Sprintf("o-%d", i%3), text(i)))
	}
	events[31] = ev(t, "o-1", strings.Repeat("x", 5000))
	err := p.Publish(within(t, 20*time.Second), events...)
	e := failures(t, err)
	require.ErrorIs(t, err, ErrTooLarge)
	require.ErrorContains(t, err, `topic "one"`)
	require.ErrorContains(t, err, "raise max.message.bytes of the topic")
	assert.Equal(t, 31, e.Failed[0].Index)
	assert.Len(t, e.Failed, 10, "and what is behind it under its key")
	for _, f := range e.Failed[1:] {
		require.ErrorIs(t, f.Err, ErrHeldBack)
		assert.Equal(t, "o-1", f.Event.Aggregate().ID)
	}
	assert.Len(t, log(t, c, "one"), 50)
}

func TestBatchesAreCappedByBytes(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "one"))
	config := to(c)
	config.TopicFor = func(event.Event) string { return "one" }
	config.MaxBatchBytes = 5000
	p := start(t, config)
	var largest atomic.Int64
	producing(c, func(r *kmsg.ProduceRequest) (kmsg.Response, error, bool) {
		for _, topic := range r.Topics {
			for _, p := range topic.Partitions {
				largest.Store(max(largest.Load(), int64(len(p.Records))))
			}
		}
		return asUsual()
	})
	var events []event.Event
	for i := range 100 {
		events = append(events, ev(t, "o", strings.Repeat(text(i), 100)))
	}
	require.NoError(t, p.Publish(within(t, 10*time.Second), events...))
	assert.LessOrEqual(t, largest.Load(), int64(5000))
	assert.Greater(t, largest.Load(), int64(2500), "and filled")
	assert.Len(t, log(t, c, "one"), 100)
}

func TestBatchesGrowAgainWhenTheTopicIsLookedAtAnew(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "one"))
	config := to(c)
	config.TopicFor = func(event.Event) string { return "one" }
	config.MetadataMaxAge = 200 * time.Millisecond
	p := start(t, config)
	ctx := within(t, 10*time.Second)
	require.NoError(t, p.Publish(ctx, ev(t, "o", "first")))
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "one", Err: kerr.MessageTooLarge, Count: 1})
	require.NoError(t, p.Publish(ctx, ev(t, "o", "1"), ev(t, "o", "2"), ev(t, "o", "3")))
	assert.Less(t, p.topic("one").batchBytes.Load(), int64(20_000))
	shrunk := p.topic("one").now.Load()
	eventually(t, "the knowledge of the topic is old", func() bool { return time.Since(shrunk.checked) > config.MetadataMaxAge })
	require.NoError(t, p.Publish(ctx, ev(t, "o", "4")))
	assert.EqualValues(t, 1_000_000, p.topic("one").batchBytes.Load())
}

func TestAnEventLargerThanTheBufferIsRefusedBeforeItIsSent(t *testing.T) {
	c := cluster(t)
	config := to(c)
	config.MaxBufferedBytes = 2000
	p := start(t, config)
	err := p.Publish(within(t, 5*time.Second), ev(t, "a", "1"), ev(t, "b", strings.Repeat("x", 3000)), ev(t, "c", "2"))
	require.ErrorIs(t, err, ErrTooLarge)
	require.ErrorContains(t, err, "MaxBufferedBytes is 2000")
	assert.Len(t, failures(t, err).Failed, 1)
	assert.Len(t, log(t, c, "order"), 2)
}

func TestTheRecordThatTheBrokerNamesIsRefusedAlone(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "one"))
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		req := r.(*kmsg.ProduceRequest)
		if req.Topics[0].Topic != "one" {
			return asUsual()
		}
		res := req.ResponseKind().(*kmsg.ProduceResponse)
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic = "one"
		rp := kmsg.NewProduceResponseTopicPartition()
		rp.ErrorCode = kerr.InvalidRecord.Code
		bad := kmsg.NewProduceResponseTopicPartitionErrorRecord()
		bad.RelativeOffset = 1
		bad.ErrorMessage = new("the schema registry does not know it")
		rp.ErrorRecords = append(rp.ErrorRecords, bad)
		rt.Partitions = append(rt.Partitions, rp)
		res.Topics = append(res.Topics, rt)
		return res, nil, true
	})
	config := to(c)
	config.TopicFor = func(event.Event) string { return "one" }
	p := start(t, config)
	err := p.Publish(within(t, 5*time.Second), ev(t, "a", "1"), ev(t, "b", "2"), ev(t, "c", "3"))
	require.ErrorContains(t, err, "the schema registry does not know it")
	e := failures(t, err)
	require.Len(t, e.Failed, 1)
	assert.Equal(t, 1, e.Failed[0].Index)
	assert.Len(t, log(t, c, "one"), 2)
}

func TestAMissingTopicIsToldAndNotMade(t *testing.T) {
	c := cluster(t, kfake.AllowAutoTopicCreation())
	config := to(c)
	config.TopicPrefix = "missing-"
	p := start(t, config)
	err := p.Publish(within(t, 20*time.Second), ev(t, "a", "1"), ev(t, "b", "2"))
	require.ErrorIs(t, err, ErrUnknownTopic)
	require.ErrorContains(t, err, `publish: 2 of 2 not acknowledged: first order.placed`)
	require.ErrorContains(t, err, `unknown topic "missing-order": create it with publisher.Topics or tidings topics create`)

	topics := admin(t, c)
	list, err := topics.List(within(t, 5*time.Second))
	require.NoError(t, err)
	for _, l := range list {
		assert.NotEqual(t, "missing-order", l.Name)
	}
	// Once it is there, the same publisher goes on.
	require.NoError(t, topics.Create(within(t, 5*time.Second), TopicSpec{Name: "missing-order", Partitions: 2}))
	require.NoError(t, p.Publish(within(t, 5*time.Second), ev(t, "a", "1")))
}

func TestATopicThatIsDeletedWhileEventsWaitIsTold(t *testing.T) {
	c := cluster(t)
	p := start(t, to(c))
	require.NoError(t, p.Publish(within(t, 5*time.Second), ev(t, "a", "1")))
	deleteTopic(t, c, "order")
	require.ErrorIs(t, p.Publish(within(t, 20*time.Second), ev(t, "a", "2")), ErrUnknownTopic)
}

func TestWhatCannotBePublishedIsRefusedByName(t *testing.T) {
	c := cluster(t)
	p := start(t, to(c))
	foreign := func(id, typ string) event.Event {
		e, err := event.FromKafka(event.KafkaRecord{Value: []byte("{}"), Headers: []event.KafkaHeader{
			{Key: "ce_specversion", Value: []byte("1.0")},
			{Key: "ce_id", Value: []byte("1")},
			{Key: "ce_source", Value: []byte("/x")},
			{Key: "ce_type", Value: []byte("x.happened")},
			{Key: "ce_partitionkey", Value: []byte(id)},
			{Key: "ce_aggregatetype", Value: []byte(typ)},
		}})
		require.NoError(t, err)
		return e
	}
	for name, c := range map[string]struct {
		event event.Event
		want  string
	}{
		"the zero event":    {event.Event{}, "topic name is empty"},
		"a bad topic name":  {ev(t, "x", ""), ""},
		"no aggregate type": {foreign("o-1", ""), "topic name is empty"},
	} {
		if c.want == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			err := p.Publish(within(t, 5*time.Second), ev(t, "good", "1"), c.event)
			require.ErrorIs(t, err, ErrInvalid)
			require.ErrorContains(t, err, c.want)
			e := failures(t, err)
			require.Len(t, e.Failed, 1)
			assert.Equal(t, 1, e.Failed[0].Index)
		})
	}
	keyed := to(c)
	keyed.TopicFor = func(event.Event) string { return "order" }
	err := start(t, keyed).Publish(within(t, 5*time.Second), event.Event{})
	require.ErrorContains(t, err, "aggregate ID is empty")

	slash := to(c)
	slash.TopicFor = func(event.Event) string { return "a/b" }
	err = start(t, slash).Publish(within(t, 5*time.Second), ev(t, "o", "1"))
	require.ErrorContains(t, err, `topic name "a/b" has '/' in it`)
}

func TestNoBrokerReachableIsToldWithTheLastCause(t *testing.T) {
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p := start(t, Config{Connection: connection.Config{Brokers: []string{address}}})
	err := p.Ping(within(t, 5*time.Second))
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorContains(t, err, "no broker reachable of "+address)
	require.ErrorContains(t, err, "connection refused")

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = p.Publish(ctx, ev(t, "o", "1"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorContains(t, err, "connection refused")
	assert.False(t, failures(t, err).Failed[0].InDoubt)
}

func TestEveryConcurrentCallerLearnsWhyNoBrokerIsReachable(t *testing.T) {
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p := start(t, Config{Connection: connection.Config{Brokers: []string{address}}})
	ctx := within(t, 300*time.Millisecond)
	errs := make([]error, 4)
	together(len(errs), func(i int) { errs[i] = p.Publish(ctx, ev(t, "o", text(i))) })
	for _, err := range errs {
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, ErrUnreachable)
	}
	l := newLedger(p.wire)
	require.ErrorIs(t, l.record(within(t, 5*time.Second), "order", 1), ErrUnreachable)
	l.gate <- struct{}{} // another is at it
	err := l.record(ctx, "order", 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, ErrUnreachable)
}

func TestWrongCredentialsAreGivenUpAtOnce(t *testing.T) {
	for _, m := range []connection.Mechanism{connection.Plain, connection.ScramSHA256, connection.ScramSHA512} {
		t.Run(string(m), func(t *testing.T) {
			c := cluster(t, kfake.EnableSASL(), kfake.Superuser(string(m), "ann", "right"))
			config := to(c)
			config.Connection.SASL = &connection.SASL{Mechanism: m, Username: "ann", Password: "wrong"}
			p := start(t, config)
			ctx := within(t, 20*time.Second)
			for what, err := range map[string]error{"ping": p.Ping(ctx), "publish": p.Publish(ctx, ev(t, "o", "1"))} {
				require.ErrorIs(t, err, ErrCredentials, what)
				require.ErrorContains(t, err, `user "ann" by `+string(m), what)
				require.ErrorContains(t, err, "check SASL.Username, SASL.Password", what)
				require.NotContains(t, err.Error(), "wrong\"", what)
			}
			config.Connection.SASL = &connection.SASL{Mechanism: m, Username: "ann", Password: "right"}
			require.NoError(t, start(t, config).Publish(ctx, ev(t, "o", "1")))
		})
	}
	t.Run("a mechanism the broker does not offer", func(t *testing.T) {
		c := cluster(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "ann", "right"))
		config := to(c)
		config.Connection.SASL = &connection.SASL{Mechanism: connection.ScramSHA512, Username: "ann", Password: "right"}
		require.ErrorIs(t, start(t, config).Ping(within(t, 5*time.Second)), ErrCredentials)
	})
}

func TestTLSIsSpokenAndAForeignCertificateIsGivenUpAtOnce(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS() // only for its certificate
	defer server.Close()
	c := cluster(t, kfake.TLS(&tls.Config{Certificates: server.TLS.Certificates, MinVersion: tls.VersionTLS12}))
	ctx := within(t, 20*time.Second)

	config := to(c)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	config.Connection.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	require.NoError(t, start(t, config).Publish(ctx, ev(t, "o", "1")))

	config.Connection.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	err := start(t, config).Publish(ctx, ev(t, "o", "2"))
	var certificate *tls.CertificateVerificationError
	require.ErrorAs(t, err, &certificate)
	require.ErrorContains(t, err, "check Connection.TLS")

	config.Connection.TLS = nil
	config.DialTimeout = 200 * time.Millisecond // the broker waits for more
	err = start(t, config).Ping(ctx)
	require.ErrorContains(t, err, "does this listener want TLS? then set Connection.TLS")

	plain := to(cluster(t))
	plain.DialTimeout = config.DialTimeout
	plain.Connection.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	require.ErrorContains(t, start(t, plain).Ping(ctx), "tls handshake")
}

func TestConfigIsValidatedByNameValueAndWayOut(t *testing.T) {
	good := connection.Config{Brokers: []string{"localhost:9092"}}
	for name, c := range map[string]struct {
		config Config
		want   []string
	}{
		"no brokers":       {Config{}, []string{"Brokers is empty"}},
		"compression":      {Config{Connection: good, Compression: "brotli"}, []string{`Compression is "brotli"`, "zstd"}},
		"prefix":           {Config{Connection: good, TopicPrefix: "a b"}, []string{`TopicPrefix is "a b"`, `has ' ' in it`}},
		"prefix and func":  {Config{Connection: good, TopicPrefix: "a", TopicFor: func(event.Event) string { return "" }}, []string{"put the prefix into TopicFor"}},
		"negative buffer":  {Config{Connection: good, MaxBufferedBytes: -1}, []string{"MaxBufferedBytes is -1"}},
		"negative timeout": {Config{Connection: good, RequestTimeout: -time.Second}, []string{"RequestTimeout is -1s"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(c.config)
			for _, w := range c.want {
				require.ErrorContains(t, err, w)
			}
		})
	}
}

func TestPublishErrorIsShortAndFindsEveryCause(t *testing.T) {
	a, b := errors.New("too big"), errors.New("no luck")
	err := &PublishError{Total: 1000, Failed: []FailedEvent{
		{Index: 3, Event: ev(t, "o-1", "x"), Err: a}, {Index: 4, Event: ev(t, "o-1", "x"), Err: heldBack(a), InDoubt: true}, {Index: 9, Err: b, Topic: "t"},
	}}
	require.ErrorIs(t, err, a)
	require.ErrorIs(t, err, b)
	require.ErrorIs(t, err, ErrHeldBack)
	assert.Regexp(t, `^publish: 3 of 1000 not acknowledged, 1 of them may be in the log: first order.placed [0-9a-f-]{36} of order "o-1": too big$`, err.Error())
	assert.Len(t, err.Events(), 3)
	raw := &PublishError{Total: 1, Failed: []FailedEvent{{Topic: "t", Err: b}}}
	require.EqualError(t, raw, `publish: 1 of 1 not acknowledged: message 0 for topic "t": no luck`)
}
