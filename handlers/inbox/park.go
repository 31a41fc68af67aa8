package inbox

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/tidings-bus/tidings/event"
)

// ErrFull is wrapped by the error of a Park, or of an Apply whose answer would
// be Parked, when the handler's dead letters have reached a bound. Nothing is
// written, and nothing may be acknowledged.
var ErrFull = errors.New("dead letters are full")

// Bounds are how much one handler may have parked; zero: no bound. They are
// looked up at intervals of a second, so that parking stays quick: what is parked
// within one may exceed them.
type Bounds struct {
	Events int64
	Bytes  int64
	Age    time.Duration // of the oldest
}

// Message is a message as it was read.
type Message struct {
	Record event.KafkaRecord
	Time   time.Time // the record's timestamp
}

// Cause is why an event was parked: one fixed word, fit for a metric's label.
type Cause string

// The causes.
const (
	CauseError       Cause = "error"        // its tries were spent
	CauseTimeout     Cause = "timeout"      // so they were, the last one by its timeout
	CausePanic       Cause = "panic"        // so they were, the last one by a panic
	CauseRejected    Cause = "rejected"     // the handler said so
	CauseLater       Cause = "later"        // the handler asked to be tried later than a lane waits
	CauseDeadline    Cause = "deadline"     // the handler's deadline for the event passed
	CauseLate        Cause = "late"         // disorder: see Late
	CauseUndecodable Cause = "undecodable"  // it could not be decoded
	CauseUnknownType Cause = "unknown_type" // the catalog does not know its type, and the router refuses such
	CauseBehind      Cause = "behind"       // nothing of its own: its key has parked events
)

// Failure is what is written about an event that is parked.
type Failure struct {
	Cause    Cause
	Error    string // the last error
	Stack    string // of a panic
	Attempts int
	First    time.Time // the first failed attempt
	Last     time.Time // the last one
	// Due, unless zero, is when the event is tried again by itself. Without it,
	// it waits for somebody to ask.
	Due time.Time
}

// Parker is an inbox whose database has dead letters. Order is kept by the same
// key row that admissions lock: as soon as Park has committed, every later
// event of the key is answered Parked, by any member, until the last one that is
// parked has left.
type Parker interface {
	Keeper
	// Park writes a to the dead letters of its handler, behind what its key has
	// there, in a transaction of its own that locks the key row. Answers:
	//
	//   Parked     it is there now, or was before: acknowledge it.
	//   Duplicate  it was applied meanwhile (by a member that had it before):
	//              nothing was written, acknowledge it.
	//   Fresh      only with CauseBehind: its key has no parked events any more.
	//              Nothing was written, admit it again.
	//
	// With a.Letter it books a failed retry of that parked event instead: its
	// cause, error and due time change, its attempts grow by one or to
	// f.Attempts, whichever is more, and its place stays. Gone: it is not there
	// any more. Duplicate: it was applied meanwhile, and has left.
	//
	// Errors wrap ErrFull, or as Apply's ErrNotAdmitted and ErrCommitUnknown:
	// asking again settles it.
	Park(ctx context.Context, a Admission, f Failure) (Answer, error)
}

// messageSpace is the namespace of MessageID and RecordID.
var messageSpace = uuid.MustParse("6f1d2a52-7b0c-4d0c-9d3e-6a3c1f5d8e21")

// MessageID is the ID of a message that carries none that can be read: it
// derives from its place (RFC 9562, UUIDv5).
func MessageID(topic string, partition int32, offset int64) uuid.UUID {
	return uuid.NewSHA1(messageSpace, []byte(topic+"/"+strconv.Itoa(int(partition))+"@"+strconv.FormatInt(offset, 10)))
}

// RecordID is MessageID of a message whose place is not known, as some
// subscribers do not tell it: it derives from the record, so that another one is
// never taken for it. Equal records have the same.
func RecordID(topic string, r event.KafkaRecord) uuid.UUID {
	var all []byte
	part := func(b []byte) { all = append(binary.AppendUvarint(all, uint64(len(b))), b...) }
	part([]byte(topic))
	part(r.Key)
	part(r.Value)
	for _, h := range r.Headers {
		part([]byte(h.Key))
		part(h.Value)
	}
	return uuid.NewSHA1(messageSpace, all)
}
