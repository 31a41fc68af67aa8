package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/tidings-bus/tidings/event"
)

// The life of an order: placed once, changed often, closed once.
const (
	placed  = "order.placed"
	changed = "order.changed"
	closed  = "order.closed"
)

// aggregateType of all events here. It ends the topic's name too.
const aggregateType = "order"

type orderPlaced struct {
	Customer string `json:"customer"`
}

type orderChanged struct {
	Amount amount `json:"amount"`
}

type orderClosed struct {
	Reason string `json:"reason"`
}

// amount is a number on the wire. Some producer may send it as a text, which
// only a lenient binary reads: what is undecodable to one version of a service
// is an event to the next.
type amount int

var lenient bool

// UnmarshalJSON reads a number, and a text when lenient.
func (a *amount) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		if !lenient {
			return errors.New("amount is a text, a number is expected")
		}
		var s string
		if err := json.Unmarshal(text, &s); err != nil {
			return err
		}
		n, err := strconv.Atoi(s)
		*a = amount(n)
		return err
	}
	n, err := strconv.Atoi(string(text))
	*a = amount(n)
	return err
}

// newCatalog registers what the suites publish and handle.
func newCatalog() (*event.Catalog, error) {
	c, err := event.NewCatalog(event.CatalogConfig{Source: "/orders"})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(
		event.Register[orderPlaced](c, placed, 1),
		event.Register[orderChanged](c, changed, 1),
		event.Register[orderClosed](c, closed, 1),
	); err != nil {
		return nil, fmt.Errorf("register the events: %w", err)
	}
	return c, nil
}
