package publisher_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/publisher"
)

func Example() {
	kafka := kfake.MustCluster(kfake.NumBrokers(1)) // stands in for your cluster
	defer kafka.Close()
	cluster := connection.Config{Brokers: kafka.ListenAddrs(), ClientID: "orders"}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	topics, err := publisher.NewTopics(publisher.TopicsConfig{Connection: cluster})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = topics.Close() }()
	if err := topics.Create(ctx, publisher.TopicSpec{Name: "order", Partitions: 6}); err != nil {
		fmt.Println(err)
		return
	}

	p, err := publisher.New(publisher.Config{Connection: cluster})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = p.Close(ctx) }()
	placed, err := event.New(event.Draft{
		Type: "order.placed", Source: "/orders",
		Aggregate: event.Aggregate{Type: "order", ID: "o-4711"},
		Data:      []byte(`{"total": 42}`),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Publish(ctx, placed))
	// Output: <nil>
}

// What failed is listed; what is not listed is in the log.
func ExamplePublishError() {
	kafka := kfake.MustCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "order"))
	defer kafka.Close()
	p, err := publisher.New(publisher.Config{Connection: connection.Config{Brokers: kafka.ListenAddrs()}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	defer func() { _ = p.Close(ctx) }()
	draft := func(typ string) event.Draft {
		return event.Draft{Type: typ + ".placed", Source: "/orders", Aggregate: event.Aggregate{Type: typ, ID: "1"}, Data: []byte(`{}`)}
	}
	order, _ := event.New(draft("order"))
	quote, _ := event.New(draft("quote")) // there is no topic "quote"

	err = p.Publish(ctx, order, quote)
	if failed, is := errors.AsType[*publisher.PublishError](err); is {
		for _, f := range failed.Failed {
			fmt.Println(f.Index, f.Event.Type(), f.InDoubt, f.Err)
		}
	}
	// Output: 1 quote.placed false unknown topic "quote": create it with publisher.Topics or tidings topics create
}
