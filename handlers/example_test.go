package handlers_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox/sqlinbox"
)

// OrderPlaced is an event's payload.
type OrderPlaced struct {
	Total int `json:"total"`
}

func ExampleOn() {
	notify := handlers.On("notify-warehouse", func(ctx context.Context, e event.Of[OrderPlaced]) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://warehouse.example/orders", http.NoBody)
		if err != nil {
			return handlers.Reject(err)
		}
		request.Header.Set("Idempotency-Key", e.ID().String())
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err // tried again by the handler's settings
		}
		defer response.Body.Close()
		if response.StatusCode == http.StatusTooManyRequests {
			return handlers.RetryAfter(10 * time.Second).Because(errors.New(response.Status))
		}
		return nil
	}).With(handlers.Settings{Timeout: 5 * time.Second, Tries: 8})
	fmt.Println(notify.Name())
	// Output: notify-warehouse
}

func ExampleInTx() {
	var box *sqlinbox.Inbox // from sqlinbox.New, over the service's own *sql.DB
	charge := handlers.InTx("charge", box, func(ctx context.Context, tx *sql.Tx, e event.Of[OrderPlaced]) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO invoice (order_id, total) VALUES ($1, $2)`, e.Aggregate().ID, e.Payload.Total)
		return err // rolls back, and is tried again
	})
	fmt.Println(charge.Name())
	// Output: charge
}
