package line

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/tidings-bus/tidings/deadletter"
	"github.com/tidings-bus/tidings/handlers/inbox"
	"github.com/tidings-bus/tidings/internal/parking"
)

// Change is one record of the log of letters.
type Change struct {
	// Name is the letter's, the same for each record of it: see Name.
	Name string
	// Letter is the letter from now on; nil: it has left. With ID 0 it is parked
	// now, at the end of its line, and gets the ID of its place in the log;
	// otherwise it replaces the letter of that ID, at its place in the line.
	Letter *deadletter.Letter
	// Line and Since are its key's, as the writer saw it: its ID, and when it was
	// parked. Zero: it was not parked.
	Line  int64
	Since time.Time
	// Restored: by one who has read what was wrong with the log, see
	// Lines.Stale. It counts also when the letter is known by another ID: a
	// compaction has left the record that was wrong.
	Restored bool
}

// Name is what the records of one parked event have in common, in words fit for
// people: group, handler, epoch, topic, key, event.
func Name(h inbox.Handler, topic string, key []byte, event uuid.UUID) string {
	return keyName(h, topic, key, event) + "/" + event.String()
}

// Key names the key of a letter.
func Key(l *deadletter.Letter) string {
	return keyName(l.Handler, l.Place.Topic, l.Place.Key, l.EventID)
}

// keyName tells keys apart. An event without a key is a key of its own.
func keyName(h inbox.Handler, topic string, key []byte, event uuid.UUID) string {
	var b strings.Builder
	b.WriteString(url.PathEscape(h.Group) + "/" + url.PathEscape(h.Name) + "/" + strconv.Itoa(h.Epoch) + "/" + url.PathEscape(topic) + "/")
	if len(key) == 0 {
		b.WriteString("/" + event.String()) // no key begins with an unescaped slash
	} else {
		b.WriteString(url.PathEscape(string(key)))
	}
	return b.String()
}

func letterName(l *deadletter.Letter) string {
	return Name(l.Handler, l.Place.Topic, l.Place.Key, l.EventID)
}

// Size is what a letter counts for against bounds.
func Size(l *deadletter.Letter) int64 { return parking.Size(l.Record) }
