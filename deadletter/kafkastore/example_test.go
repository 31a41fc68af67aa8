package kafkastore_test

import (
	"context"
	"fmt"

	"github.com/tidings-bus/tidings/connection"
	"github.com/tidings-bus/tidings/deadletter/kafkastore"
	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
)

// A handler of a group without a database: an order whose mail fails stops its
// own mails only, and keeps their order. The router runs the store.
func Example() {
	type Placed struct{ Customer string }
	store, err := kafkastore.New(kafkastore.Config{
		Connection: connection.Config{Brokers: []string{"localhost:9092"}},
		Group:      "mails",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	mail := handlers.On("mail", func(ctx context.Context, e event.Of[Placed]) error {
		return nil // send it, with e.ID() as the key by which the server knows a repeat
	}).ParkIn(store)
	fmt.Println(mail.Name(), "parks in", store.ID())
	// Output: mail parks in kafka topic tidings.parked.mails
}
