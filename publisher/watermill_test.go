package publisher

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tidings-bus/tidings/event"
)

func TestAWatermillMessageOfAnEventIsThatEventInTheLog(t *testing.T) {
	c := cluster(t)
	p := start(t, to(c))
	w := Watermill(p, WatermillConfig{})
	sent := ev(t, "o-1", "data")
	require.NoError(t, w.Publish("order", Message(sent)))
	require.NoError(t, p.Publish(within(t, 5*time.Second), sent))

	records := log(t, c, "order")
	require.Len(t, records, 2)
	assert.Equal(t, records[0].Partition, records[1].Partition)
	for _, r := range records {
		k := event.KafkaRecord{Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			k.Headers = append(k.Headers, event.KafkaHeader(h))
		}
		got, err := event.FromKafka(k)
		require.NoError(t, err)
		assert.Equal(t, sent, got)
	}
	require.NoError(t, w.Close())
	require.ErrorIs(t, w.Publish("order", Message(sent)), ErrClosed)
	require.NoError(t, p.Publish(within(t, 5*time.Second), sent), "the publisher under it stays open")
}

func TestAMessageThatIsNoEventIsRefusedByTheEventMarshaler(t *testing.T) {
	c := cluster(t)
	w := Watermill(start(t, to(c)), WatermillConfig{})
	keyless := message.NewMessage("u-1", []byte("x"))
	require.ErrorContains(t, w.Publish("order", keyless), "set metadata tidings_key")
	keyed := message.NewMessage("u-2", []byte("x"))
	keyed.Metadata.Set(KeyMetadata, "o-1")
	err := w.Publish("order", Message(ev(t, "o-2", "x")), keyed)
	require.ErrorIs(t, err, ErrInvalid)
	require.ErrorContains(t, err, "u-2")
	require.ErrorContains(t, err, "publish raw messages with RawMarshaler")
	assert.Len(t, failures(t, err).Failed, 1)
	assert.Len(t, log(t, c, "order"), 1)
	require.ErrorContains(t, w.Publish("not a topic", keyed), `has ' ' in it`)
}

func TestRawMessagesKeepUUIDMetadataAndPayload(t *testing.T) {
	c := cluster(t)
	w := Watermill(start(t, to(c)), WatermillConfig{Marshal: RawMarshaler{Key: PayloadKey}})
	m := message.NewMessage("u-1", []byte("payload"))
	m.Metadata.Set("b", "2")
	m.Metadata.Set("a", "1")
	require.NoError(t, w.Publish("order", m))
	r := log(t, c, "order")[0]
	assert.Equal(t, "payload", string(r.Key))
	assert.Equal(t, "payload", string(r.Value))
	var names []string
	for _, h := range r.Headers {
		names = append(names, h.Key+"="+string(h.Value))
	}
	assert.Equal(t, []string{"_watermill_message_uuid=u-1", "a=1", "b=2"}, names)

	reserved := message.NewMessage("u-2", nil)
	reserved.Metadata.Set(UUIDHeader, "x")
	require.ErrorContains(t, w.Publish("order", reserved), "reserved")

	keyless := RawMarshaler{}
	record, err := keyless.Marshal("order", m)
	require.NoError(t, err)
	assert.Nil(t, record.Key)
	m.Metadata.Set(KeyMetadata, "k")
	record, err = keyless.Marshal("order", m)
	require.NoError(t, err)
	assert.Equal(t, "k", string(record.Key))
}
