package router

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidings-bus/tidings/event"
	"github.com/tidings-bus/tidings/handlers/inbox"
)

// Held is an event that this process holds: it and what is behind it under its
// key wait until it is applied.
type Held struct {
	Topic     string
	Partition int32 // -1: unknown
	Offset    int64 // -1: unknown
	Key       string
	EventID   uuid.UUID // zero when undecodable
	EventType string
	Handler   string // "*": held for every handler of the subscription
	Reason    string // such as rejected, late, undecodable, error
	Cause     error
	Since     time.Time
}

// heldEvents are the events held now. An entry that was not tried again when it
// was due has gone with its partition, to another process or to no one.
type heldEvents struct {
	mu      sync.Mutex
	byPlace map[heldPlace]*heldEntry
}

type heldPlace struct {
	topic     string
	partition int32
	offset    int64
	id        string // when the place is unknown
	handler   string
}

type heldEntry struct {
	Held

	gauge prometheus.Gauge
	full  *fullness // of its handler, when it waits for room among the dead letters
	gone  time.Time // when it counts as gone
}

// fullness is a handler whose dead letters are full: how many events wait for
// room in their lanes.
type fullness struct {
	gauge  prometheus.Gauge
	events int
	since  time.Time
}

// count adds n events. It reports whether they are the first. The lock of the
// heldEvents is held.
func (f *fullness) count(n int) (first bool) {
	if f == nil {
		return false
	}
	f.events += n
	f.gauge.Set(float64(f.events))
	if first = n > 0 && f.events == n; first {
		f.since = time.Now()
	}
	return first
}

// put adds an entry, or renews it. It reports whether the handler's dead letters
// have become full by it.
func (h *heldEvents) put(at heldPlace, e *heldEntry) (full bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.byPlace[at]; old != nil {
		old.gone, old.Cause, old.Reason = e.gone, e.Cause, e.Reason
		if old.full == e.full {
			return false
		}
		old.full.count(-1)
		old.full = e.full
		return e.full.count(1)
	}
	if h.byPlace == nil {
		h.byPlace = map[heldPlace]*heldEntry{}
	}
	h.byPlace[at] = e
	e.gauge.Inc()
	return e.full.count(1)
}

// drop removes an entry. h.mu is held.
func (h *heldEvents) drop(at heldPlace, e *heldEntry) {
	e.gauge.Dec()
	e.full.count(-1)
	delete(h.byPlace, at)
}

// renew keeps an entry until gone.
func (h *heldEvents) renew(at heldPlace, gone time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.byPlace[at]; e != nil {
		e.gone = gone
	}
}

func (h *heldEvents) remove(at heldPlace) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.byPlace[at]; e != nil {
		h.drop(at, e)
	}
}

// purge removes what is gone by now.
func (h *heldEvents) purge(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for at, e := range h.byPlace {
		if now.After(e.gone) {
			h.drop(at, e)
		}
	}
}

// clear removes everything: the router has stopped.
func (h *heldEvents) clear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for at, e := range h.byPlace {
		h.drop(at, e)
	}
}

// fullWarnings says whose dead letters are full.
func (r *Router) fullWarnings() []string {
	if r.phase.Load() < phaseRunning { // its handlers are being bound
		return nil
	}
	r.held.mu.Lock()
	defer r.held.mu.Unlock()
	var list []string
	for _, s := range r.subs {
		for _, h := range s.bound {
			if f := h.met.full; f.events > 0 {
				list = append(list, fmt.Sprintf("dead letters of handler %q are full since %s: %d events wait in their lanes; retry or discard parked events (tidings dlq list), or raise its Settings.Bounds",
					h.name, f.since.UTC().Format(time.RFC3339), f.events))
			}
		}
	}
	return list
}

// Held lists the events that this process holds, in no order.
func (r *Router) Held() []Held {
	r.held.mu.Lock()
	defer r.held.mu.Unlock()
	list := make([]Held, 0, len(r.held.byPlace))
	for _, e := range r.held.byPlace {
		list = append(list, e.Held)
	}
	return list
}

// goneAfter is how long after its due time an untried event counts as gone.
const goneAfter = time.Minute

// hold marks the state as held; it logs and counts the event the first time.
func (m *delivered) hold(st *tryState, handler string, met *handlerMetrics, why cause, err error, attrs []any) {
	r := m.sub.router
	e := &heldEntry{
		Held: Held{
			Topic: m.place.Topic, Partition: m.place.Partition, Offset: m.place.Offset, Key: string(m.place.Key),
			EventID: m.event.ID(), EventType: m.event.Type(), Handler: handler,
			Reason: why.String(), Cause: err, Since: time.Now(),
		},
		gauge: met.held,
		gone:  st.due.Add(goneAfter),
	}
	if why == causeFull {
		e.full = met.full
	}
	if r.held.put(m.heldPlace(handler), e) {
		r.log.Error("dead letters are full: what the handler cannot apply waits in its lane, and its partition with it; retry or discard parked events (tidings dlq list), or raise the handler's Settings.Bounds",
			slog.String("handler", handler), slog.Any("cause", err))
	}
	attrs = append(attrs, slog.String("class", why.String()), slog.Any("cause", err), slog.Time("due", st.due))
	if st.held {
		r.log.Debug("event is still held", attrs...)
		return
	}
	st.held = true
	met.heldTotal.Inc()
	if why == causeFull { // said above, once for all
		r.log.Info("event is held until it can be parked", attrs...)
		return
	}
	r.log.Error("event is held, and what follows it under its key: it is tried again slowly", attrs...)
}

// stillHeld keeps a held event among the held when its last try did not come to
// a result.
func (m *delivered) stillHeld(st *tryState, handler string) {
	if st.held {
		m.sub.router.held.renew(m.heldPlace(handler), st.due.Add(goneAfter))
	}
}

func (m *delivered) release(handler string) {
	m.sub.router.held.remove(m.heldPlace(handler))
	attrs := append(placeAttrs(m.place), eventAttrs(m.event)...)
	m.sub.router.log.Info("event is no longer held", append(attrs, slog.String("handler", handler))...)
}

func (m *delivered) heldPlace(handler string) heldPlace {
	return heldPlace{topic: m.place.Topic, partition: m.place.Partition, offset: m.place.Offset, id: m.id, handler: handler}
}

// The bounds of what is logged of a message that cannot be decoded.
const (
	dumpValue       = 512 // bytes
	dumpHeaders     = 32
	dumpHeaderValue = 128 // bytes
)

// dump describes a raw record, within bounds.
func dump(rec event.KafkaRecord) slog.Attr {
	attrs := make([]any, 0, 3)
	attrs = append(attrs,
		slog.String("value", clip(rec.Value, dumpValue)),
		slog.Int("value_bytes", len(rec.Value)))
	hs := make([]string, 0, min(len(rec.Headers), dumpHeaders))
	for _, h := range rec.Headers[:min(len(rec.Headers), dumpHeaders)] {
		hs = append(hs, clip([]byte(h.Key), dumpHeaderValue)+": "+clip(h.Value, dumpHeaderValue))
	}
	return slog.Group("record", append(attrs, slog.Any("headers", hs), slog.Int("header_count", len(rec.Headers)))...)
}

func clip(b []byte, n int) string {
	if len(b) <= n {
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("%q... (%d bytes)", b[:n], len(b))
}

func placeAttrs(p inbox.Place) []any {
	attrs := make([]any, 0, 16)
	return append(attrs,
		slog.String("topic", p.Topic), slog.Int("partition", int(p.Partition)),
		slog.Int64("offset", p.Offset), slog.String("key", clip(p.Key, 256)))
}

func eventAttrs(e event.Event) []any {
	attrs := []any{
		slog.String("event_id", e.CloudEventID()), slog.String("event_type", e.Type()),
		slog.String("aggregate_type", e.Aggregate().Type), slog.String("aggregate_id", e.Aggregate().ID),
		slog.Int64("sequence", e.Sequence()),
	}
	if c := e.Correlation(); c != "" {
		attrs = append(attrs, slog.String("correlation", c))
	}
	if t := e.TraceParent(); t != "" {
		attrs = append(attrs, slog.String("traceparent", t))
	}
	return attrs
}
