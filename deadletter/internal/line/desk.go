package line

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/tidings-bus/tidings/deadletter"
)

// Note is one record of the log of notes. One field is set.
type Note struct {
	Ask     *Ask              `json:"ask,omitempty"`
	Select  *Select           `json:"select,omitempty"`
	Claim   *Claim            `json:"claim,omitempty"`
	Renew   *Claim            `json:"renew,omitempty"`
	Release *Release          `json:"release,omitempty"`
	Settle  *Settle           `json:"settle,omitempty"`
	Permit  int64             `json:"permit,omitempty"` // the request
	Audit   *deadletter.Entry `json:"audit,omitempty"`
}

// Ask records a request, a retry with the keys that it consists of.
type Ask struct {
	deadletter.Request

	Select Select           `json:"select"`
	Entry  deadletter.Entry `json:"entry"` // for the audit log
}

// Select adds keys to those that a request to retry consists of.
type Select struct {
	Request int64   `json:"request"`
	Keys    []int64 `json:"keys"`
	Last    bool    `json:"last"` // there are no more
	Gone    bool    `json:"gone"` // instead: these are no longer parked
}

// Claim asks for keys, or renews claims on them. An Act's is short, by one who
// changes a letter.
type Claim struct {
	Member string        `json:"member"`
	Keys   []int64       `json:"keys"`
	Lease  time.Duration `json:"lease"`
	Act    bool          `json:"act,omitempty"`
}

// Release gives a claim back.
type Release struct {
	Member   string              `json:"member"`
	Key      int64               `json:"key"`
	Done     bool                `json:"done"`
	Progress deadletter.Progress `json:"progress"`
}

// Settle ends a request.
type Settle struct {
	Request int64            `json:"request"`
	State   deadletter.State `json:"state"`
	Error   string           `json:"error,omitempty"`
	Act     *deadletter.Act  `json:"act,omitempty"` // of somebody who ended it
}

// Granted is what a note came to.
type Granted struct {
	ID   int64         // of an Ask or Audit
	Keys []int64       // of a Claim or Renew: those that are the member's
	OK   bool          // the note was of effect
	Wait time.Duration // of a Permit
}

// Holder is who has a key.
type Holder struct {
	Member  string
	Until   time.Time // by the log's time
	Request int64
	Act     bool
	// Unfinished: a member began with the key and gave it back before it was done.
	Unfinished bool

	begun bool // before an act took the key
}

// What a Desk keeps of the past.
const (
	keptRequests = 1000
	keptEntries  = 10_000
	keptBytes    = 32 << 20 // of entries
	// A claim that nobody gave back says for so long that its key was begun
	// because it was due; others are dropped sooner.
	keptBegun = 30 * 24 * time.Hour
	keptClaim = time.Hour
)

// Desk is what members do and are asked to do with the parked keys of a group.
// Not safe for concurrent use.
type Desk struct {
	holders  map[int64]Holder
	requests []*request // oldest first
	open     []*request // of them, those to retry that have keys left or are to be selected
	audit    []deadletter.Entry
	bytes    int // of audit
	pruned   time.Time
}

type request struct {
	deadletter.Request

	selected bool
	left     map[int64]struct{} // keys
	seen     map[int64]struct{}
	next     time.Time // turn
}

// NewDesk returns an empty one.
func NewDesk() *Desk { return &Desk{holders: map[int64]Holder{}} }

// Apply takes the note at a position of the log, appended at the given time.
func (d *Desk) Apply(position int64, at time.Time, n Note) Granted {
	id := position + 1
	at = at.UTC().Round(0)
	switch {
	case n.Ask != nil:
		return d.ask(id, at, n.Ask)
	case n.Select != nil:
		return d.choose(at, n.Select)
	case n.Claim != nil:
		return d.claim(at, n.Claim)
	case n.Renew != nil:
		return d.renew(at, n.Renew)
	case n.Release != nil:
		return d.release(at, n.Release)
	case n.Settle != nil:
		return d.settle(id, at, n.Settle)
	case n.Permit != 0:
		return d.permit(at, n.Permit)
	case n.Audit != nil:
		d.record(id, at, *n.Audit)
		return Granted{ID: id, OK: true}
	default:
		return Granted{} // of a later version
	}
}

func (d *Desk) record(id int64, at time.Time, e deadletter.Entry) {
	e.ID, e.At = id, at
	d.audit = append(d.audit, e)
	d.bytes += room(&e)
	for len(d.audit) > keptEntries || d.bytes > keptBytes && len(d.audit) > 1 {
		d.bytes -= room(&d.audit[0])
		d.audit[0] = deadletter.Entry{} // it shares an array with those that stay
		d.audit = d.audit[1:]
	}
}

// room is what an entry holds of memory.
func room(e *deadletter.Entry) int {
	return len(e.Before) + len(e.After) + len(e.Key) + len(e.Act.Who) + len(e.Act.Reason)
}

func (d *Desk) ask(id int64, at time.Time, q *Ask) Granted {
	r := &request{Request: q.Request, left: map[int64]struct{}{}, seen: map[int64]struct{}{}}
	r.ID, r.Asked, r.State = id, at, deadletter.Open
	e := q.Entry
	e.Request = id
	d.record(id, at, e)
	if len(d.requests) >= 2*keptRequests {
		old := d.requests[:keptRequests]
		d.requests = slices.Concat(slices.DeleteFunc(slices.Clone(old), func(r *request) bool { return r.State != deadletter.Open }), d.requests[keptRequests:])
	}
	d.requests = append(d.requests, r)
	if r.Kind == deadletter.RequestRetry {
		d.open = append(d.open, r)
		q.Select.Request = id
		d.choose(at, &q.Select)
	}
	return Granted{ID: id, OK: true}
}

func (d *Desk) choose(at time.Time, s *Select) Granted {
	r := d.find(s.Request)
	if r == nil || r.State != deadletter.Open || r.Kind != deadletter.RequestRetry {
		return Granted{}
	}
	if s.Gone {
		for _, k := range s.Keys {
			if _, left := r.left[k]; left {
				delete(r.left, k)
				r.KeysDone++
			}
		}
		d.finish(r, at)
		return Granted{OK: true}
	}
	if r.selected {
		return Granted{} // another member has
	}
	for _, k := range s.Keys {
		if _, seen := r.seen[k]; seen {
			continue
		}
		r.seen[k] = struct{}{}
		if d.requestOf(k) != 0 {
			r.Busy++ // it is part of another one
			continue
		}
		r.left[k] = struct{}{}
		r.Keys++
	}
	r.selected = s.Last
	d.finish(r, at)
	return Granted{OK: true}
}

// finish ends a request that has nothing left to do.
func (d *Desk) finish(r *request, at time.Time) {
	if r.selected && len(r.left) == 0 && r.State == deadletter.Open {
		d.end(r, at, deadletter.Done)
	}
}

func (d *Desk) end(r *request, at time.Time, state deadletter.State) {
	r.State, r.Ended = state, at
	r.left, r.seen = nil, nil
	d.open = slices.DeleteFunc(d.open, func(o *request) bool { return o == r })
}

// Unfinished reports that a member began with a key because it was due and is not
// done with it: it gave it back before, or vanished.
func (d *Desk) Unfinished(key int64, at time.Time) bool {
	h, ok := d.holders[key]
	return ok && h.due() && !at.Before(h.Until)
}

// due: a member began with the key because it was due.
func (h *Holder) due() bool { return h.begun || !h.Act && h.Request == 0 }

// Held reports who has a key at a time of the log; not ok: nobody.
func (d *Desk) Held(key int64, at time.Time) (h Holder, ok bool) {
	h, ok = d.holders[key]
	return h, ok && at.Before(h.Until)
}

func (d *Desk) claim(at time.Time, c *Claim) Granted {
	g := Granted{OK: true}
	d.prune(at)
	for _, k := range c.Keys {
		if _, held := d.Held(k, at); held {
			continue
		}
		begun := c.Act && d.Unfinished(k, at)
		d.holders[k] = Holder{Member: c.Member, Until: at.Add(c.Lease), Request: d.requestOf(k), Act: c.Act, begun: begun}
		g.Keys = append(g.Keys, k)
	}
	return g
}

// prune drops the claims of members that vanished long ago, now and then.
func (d *Desk) prune(at time.Time) {
	if at.Sub(d.pruned) < keptClaim {
		return
	}
	d.pruned = at
	for k, h := range d.holders {
		if gone := at.Sub(h.Until); gone > keptBegun || gone > keptClaim && !h.due() {
			delete(d.holders, k)
		}
	}
}

func (d *Desk) renew(at time.Time, c *Claim) Granted {
	g := Granted{OK: true}
	for _, k := range c.Keys {
		h, held := d.Held(k, at)
		if !held || h.Member != c.Member {
			continue
		}
		h.Until = at.Add(c.Lease)
		d.holders[k] = h
		g.Keys = append(g.Keys, k)
	}
	return g
}

// release also counts when the lease has passed and nobody took the key.
func (d *Desk) release(at time.Time, rel *Release) Granted {
	h, ok := d.holders[rel.Key]
	if !ok || h.Member != rel.Member || h.Unfinished {
		return Granted{}
	}
	delete(d.holders, rel.Key)
	if !rel.Done && !h.Act && h.Request == 0 || h.begun {
		d.holders[rel.Key] = Holder{Until: at, Unfinished: true}
	}
	r := d.find(h.Request)
	if r == nil {
		return Granted{OK: true}
	}
	r.Applied += rel.Progress.Applied
	r.Failed += rel.Progress.Failed
	if _, left := r.left[rel.Key]; rel.Done && (left || r.State == deadletter.Ended) {
		delete(r.left, rel.Key)
		r.KeysDone += rel.Progress.KeysDone
		r.KeysStopped += rel.Progress.KeysStopped
	}
	d.finish(r, at)
	return Granted{OK: true}
}

func (d *Desk) settle(id int64, at time.Time, s *Settle) Granted {
	r := d.find(s.Request)
	if r == nil || r.State != deadletter.Open {
		return Granted{}
	}
	r.Error = s.Error
	d.end(r, at, s.State)
	switch e := (deadletter.Entry{Act: r.Act, Group: r.Group, Letter: r.Letter, Request: r.ID}); {
	case s.Act != nil:
		e.Act, e.Action = *s.Act, deadletter.ActionEnd
		d.record(id, at, e)
	case s.State == deadletter.Refused:
		e.Action = deadletter.ActionRefuse
		e.After, _ = json.Marshal(map[string]any{"state": s.State, "error": s.Error}) //nolint:errchkjson // strings
		d.record(id, at, e)
	}
	return Granted{OK: true}
}

func (d *Desk) permit(at time.Time, id int64) Granted {
	r := d.find(id)
	if r == nil || r.State != deadletter.Open {
		return Granted{}
	}
	if r.Rate <= 0 {
		return Granted{OK: true}
	}
	turn := r.next
	if turn.Before(at) {
		turn = at
	}
	r.next = turn.Add(time.Duration(float64(time.Second) / r.Rate))
	return Granted{OK: true, Wait: turn.Sub(at)}
}

// requestOf returns the oldest open request that still has the key, or 0.
func (d *Desk) requestOf(key int64) int64 {
	for _, r := range d.open {
		if _, left := r.left[key]; left {
			return r.ID
		}
	}
	return 0
}

func (d *Desk) find(id int64) *request {
	for _, r := range slices.Backward(d.requests) {
		if r.ID == id {
			return r
		}
	}
	return nil
}
