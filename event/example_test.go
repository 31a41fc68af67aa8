package event_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/tidings-bus/tidings/event"
)

// OrderCanceled is the newest version of the event "order.canceled".
type OrderCanceled struct {
	Reason string `json:"reason"`
	By     string `json:"by"`
}

// OrderCanceledV1 did not know who canceled.
type OrderCanceledV1 struct {
	Reason string `json:"reason"`
}

// Order is an aggregate that records what happens to it.
type Order struct {
	event.Recorder

	canceled bool
}

// Cancel changes the order and records the event.
func (o *Order) Cancel(reason, by string) {
	o.canceled = true
	o.Record(OrderCanceled{Reason: reason, By: by})
}

func newCatalog() (*event.Catalog, error) {
	catalog, err := event.NewCatalog(event.CatalogConfig{Source: "/orders"})
	if err != nil {
		return nil, err
	}
	return catalog, errors.Join(
		event.Register[OrderCanceled](catalog, "order.canceled", 2),
		event.Upcast(catalog, "order.canceled", 1, func(v OrderCanceledV1) (OrderCanceled, error) {
			return OrderCanceled{Reason: v.Reason, By: "unknown"}, nil
		}),
	)
}

// From a method of an aggregate to Kafka and back.
func Example() {
	catalog, err := newCatalog()
	if err != nil {
		fmt.Println(err)
		return
	}
	order := &Order{}
	order.Identify(event.Aggregate{Type: "order", ID: "o-4711"}, 2) // as loaded: two events so far
	order.Cancel("too late", "ann")

	for _, raised := range order.Recorded() {
		e, err := catalog.Event(context.Background(), raised)
		if err != nil {
			fmt.Println(err)
			return
		}
		record := event.ToKafka(e)
		fmt.Printf("key %s, value %s\n", record.Key, record.Value)

		read, err := event.FromKafka(record)
		if err != nil {
			fmt.Println(err)
			return
		}
		payload, err := catalog.Decode(read)
		fmt.Printf("%s #%d: %+v, %v\n", read.Type(), read.Sequence(), payload, err)
	}
	// Output:
	// key o-4711, value {"reason":"too late","by":"ann"}
	// order.canceled #3: {Reason:too late By:ann}, <nil>
}

// An event of an older version is led up to the newest one.
func ExampleUpcast() {
	catalog, err := newCatalog()
	if err != nil {
		fmt.Println(err)
		return
	}
	old, err := event.New(event.Draft{
		Type: "order.canceled", Version: 1, Source: "/orders",
		Aggregate: event.Aggregate{Type: "order", ID: "o-1"}, Data: []byte(`{"reason":"too late"}`),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	payload, err := catalog.Decode(old)
	fmt.Printf("%+v, %v\n", payload, err)
	// Output: {Reason:too late By:unknown}, <nil>
}

// What New refuses, it names.
func ExampleNew() {
	_, err := event.New(event.Draft{Type: "order.placed", Source: "/orders", Aggregate: event.Aggregate{Type: "order"}})
	fmt.Println(err)

	var invalid *event.InvalidError
	fmt.Println(errors.As(err, &invalid), invalid.Field)
	// Output:
	// invalid event: aggregate.id "": is empty: name the aggregate the event belongs to; its ID is the Kafka key and gives the order
	// true aggregate.id
}

// New events follow from the one being handled.
func ExampleWithCause() {
	catalog, err := newCatalog()
	if err != nil {
		fmt.Println(err)
		return
	}
	raised := event.Raised{Aggregate: event.Aggregate{Type: "order", ID: "o-1"}, Payload: OrderCanceled{}}

	ctx := event.WithCorrelation(context.Background(), "request-17")
	first, err := catalog.Event(ctx, raised)
	if err != nil {
		fmt.Println(err)
		return
	}
	second, err := catalog.Event(event.WithCause(context.Background(), first), raised)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(second.Correlation(), second.Causation() == first.CloudEventID())
	// Output: request-17 true
}

// The JSON form is that of the CloudEvents specification.
func ExampleMarshalCloudEvent() {
	e, err := event.New(event.Draft{
		ID: uuid.MustParse("0192f0c4-7d2a-7c3e-9f10-1a2b3c4d5e6f"), Type: "order.placed", Source: "/orders",
		Aggregate: event.Aggregate{Type: "order", ID: "o-1"}, Sequence: 1,
		Time: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), Data: []byte(`{"total":3}`),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := event.MarshalCloudEvent(e)
	fmt.Println(string(b), err)
	// Output: {"specversion":"1.0","id":"0192f0c4-7d2a-7c3e-9f10-1a2b3c4d5e6f","source":"/orders","type":"order.placed","time":"2026-01-31T12:00:00Z","datacontenttype":"application/json","sequence":"0000000000000000001","partitionkey":"o-1","aggregatetype":"order","dataversion":"1","data":{"total":3}} <nil>
}
