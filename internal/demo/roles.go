package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// The consuming services.
const (
	billing  = "billing"
	shipping = "shipping"
	mail     = "mail"
)

// services are the consuming services, in the order they are shown, and the
// types each of them handles.
var services = []struct {
	name  string
	types []string
}{
	{billing, []string{typePlaced, typePaid, typeShipped, typeCanceled}},
	{shipping, []string{typePaid, typeShipped, typeCanceled}},
	{mail, []string{typePlaced, typeShipped, typeCanceled}},
}

// role is what a consuming service does.
type role struct {
	service string
	member  string  // the process's name
	mailer  *mailer // of mail
}

// roleHandlers makes the handlers of a role. Billing and shipping have their
// effects in the inbox's transaction; mail has its effect elsewhere.
func roleHandlers[Tx any](r role, box inbox.Inbox[Tx], ledger inbox.Ledger, in func(Tx) querier) []handlers.Handler {
	switch r.service {
	case billing:
		return []handlers.Handler{
			handlers.InTx("open-invoice", box, func(ctx context.Context, tx Tx, e event.Of[OrderPlaced]) error {
				return r.effect(ctx, in(tx), e.Event, 0)
			}),
			handlers.InTx("book-payment", box, func(ctx context.Context, tx Tx, e event.Of[OrderPaid]) error {
				return r.effect(ctx, in(tx), e.Event, e.Payload.Amount)
			}),
			handlers.InTx("bill-parcel", box, func(ctx context.Context, tx Tx, e event.Of[OrderShipped]) error {
				return r.effect(ctx, in(tx), e.Event, 0)
			}),
			handlers.InTx("refund", box, func(ctx context.Context, tx Tx, e event.Of[OrderCanceled]) error {
				return r.effect(ctx, in(tx), e.Event, -e.Payload.Refund)
			}),
		}
	case shipping:
		return []handlers.Handler{
			handlers.InTx("release", box, func(ctx context.Context, tx Tx, e event.Of[OrderPaid]) error {
				return r.effect(ctx, in(tx), e.Event, 0)
			}),
			handlers.InTx("hand-over", box, func(ctx context.Context, tx Tx, e event.Of[OrderShipped]) error {
				return r.effect(ctx, in(tx), e.Event, 1)
			}),
			handlers.InTx("stop", box, func(ctx context.Context, tx Tx, e event.Of[OrderCanceled]) error {
				return r.effect(ctx, in(tx), e.Event, 0)
			}),
		}
	case mail:
		// The provider is known to fail and to recover soon.
		patience := handlers.Settings{Tries: 8, MinBackoff: 50 * time.Millisecond, MaxBackoff: time.Second}
		return []handlers.Handler{
			handlers.On("confirm", func(ctx context.Context, e event.Of[OrderPlaced]) error {
				return r.mailer.send(ctx, e.Event, "We got your order.")
			}).With(patience).Remember(ledger),
			handlers.On("announce", func(ctx context.Context, e event.Of[OrderShipped]) error {
				return r.mailer.send(ctx, e.Event, fmt.Sprintf("Parcel %d is on its way.", e.Payload.Parcel))
			}).With(patience).Remember(ledger),
			handlers.On("regret", func(ctx context.Context, e event.Of[OrderCanceled]) error {
				return r.mailer.send(ctx, e.Event, "Your order is canceled.")
			}).With(patience).Remember(ledger),
		}
	}
	return nil
}

// effect writes the effect of e: a row that names it, and a sum that would be
// wrong if it were applied twice.
func (r role) effect(ctx context.Context, q querier, e event.Event, amount int64) error {
	err := q.exec(ctx, `INSERT INTO demo_effect (service, member, event_id, order_id, sequence, type) VALUES ($1, $2, $3, $4, $5, $6)`,
		r.service, r.member, e.ID().String(), e.Aggregate().ID, e.Sequence(), e.Type())
	if err != nil {
		return fmt.Errorf("writing the effect of %s: %w", e.ID(), err)
	}
	err = q.exec(ctx, `INSERT INTO demo_balance (service, order_id, balance) VALUES ($1, $2, $3)
		ON CONFLICT (service, order_id) DO UPDATE SET balance = demo_balance.balance + excluded.balance`,
		r.service, e.Aggregate().ID, amount)
	if err != nil {
		return fmt.Errorf("updating the balance of %s: %w", e.Aggregate().ID, err)
	}
	return nil
}
