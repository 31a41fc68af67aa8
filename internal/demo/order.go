package demo

import (
	"errors"
	"fmt"

	"github.com/tidings-bus/tidings/event"
)

// aggregateType is the type of the one aggregate there is.
const aggregateType = "order"

// The events of an order. Amounts are in cents.
type (
	// OrderPlaced opens an order.
	OrderPlaced struct {
		Customer string `json:"customer"`
		Total    int64  `json:"total"`
	}
	// OrderPaid is one instalment.
	OrderPaid struct {
		Amount int64 `json:"amount"`
	}
	// OrderShipped is one parcel.
	OrderShipped struct {
		Parcel int64 `json:"parcel"`
	}
	// OrderCanceled ends an order and gives back what was paid.
	OrderCanceled struct {
		Reason string `json:"reason"`
		Refund int64  `json:"refund"`
	}
)

// The wire names.
const (
	typePlaced   = "order.placed"
	typePaid     = "order.paid"
	typeShipped  = "order.shipped"
	typeCanceled = "order.canceled"
)

// catalog knows the order's events.
func catalog() (*event.Catalog, error) {
	c, err := event.NewCatalog(event.CatalogConfig{Source: "/demo/orders"})
	if err != nil {
		return nil, err
	}
	return c, errors.Join(
		event.Register[OrderPlaced](c, typePlaced, 1),
		event.Register[OrderPaid](c, typePaid, 1),
		event.Register[OrderShipped](c, typeShipped, 1),
		event.Register[OrderCanceled](c, typeCanceled, 1),
	)
}

// The states of an order; one that is not placed has none.
const (
	stateOpen     = "open"
	stateCanceled = "canceled"
)

// order is the aggregate. Its methods hold the rules and record what happened.
type order struct {
	event.Recorder

	id      string
	state   string // "", open, canceled
	paid    int64
	parcels int64
}

func newOrder(id, state string, paid, parcels, sequence int64) *order {
	o := &order{id: id, state: state, paid: paid, parcels: parcels}
	o.Identify(event.Aggregate{Type: aggregateType, ID: id}, sequence)
	return o
}

func (o *order) place(customer string, total int64) error {
	if o.state != "" {
		return fmt.Errorf("placing order %s: it is %s already", o.id, o.state)
	}
	o.state = stateOpen
	o.Record(OrderPlaced{Customer: customer, Total: total})
	return nil
}

func (o *order) pay(amount int64) error {
	if o.state != stateOpen {
		return fmt.Errorf("paying order %s: it is %q, not open", o.id, o.state)
	}
	o.paid += amount
	o.Record(OrderPaid{Amount: amount})
	return nil
}

func (o *order) ship() error {
	if o.state != stateOpen || o.paid == 0 {
		return fmt.Errorf("shipping order %s: it is %q with %d paid; only open, paid orders are shipped", o.id, o.state, o.paid)
	}
	o.parcels++
	o.Record(OrderShipped{Parcel: o.parcels})
	return nil
}

func (o *order) cancel(reason string) error {
	if o.state != stateOpen {
		return fmt.Errorf("canceling order %s: it is %q, not open", o.id, o.state)
	}
	o.state = stateCanceled
	o.Record(OrderCanceled{Reason: reason, Refund: o.paid})
	o.paid = 0
	return nil
}
