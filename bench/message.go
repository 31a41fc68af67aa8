package main

import (
	"strconv"
	"strings"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tidings-bus/tidings/event"
)

// placed is what every message carries: about 300 bytes of JSON.
type placed struct {
	Number int    `json:"number"`
	Note   string `json:"note"`
}

const eventType = "order.placed"

var payload = []byte(`{"number":4711,"note":"` + strings.Repeat("n", 270) + `"}`)

func key(n int) string { return "order-" + strconv.Itoa(n%publishKeys) }

func newEvent(n int) (event.Event, error) {
	return event.New(event.Draft{
		Type: eventType, Source: "/bench",
		Aggregate: event.Aggregate{Type: "order", ID: key(n)},
		Data:      payload,
	})
}

func newMessage(n int) *message.Message {
	m := message.NewMessage(watermill.NewUUID(), payload)
	m.Metadata.Set("key", key(n))
	return m
}
