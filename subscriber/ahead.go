package subscriber

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strings"

	"github.com/tidings-bus/tidings/internal/lanes"
)

// ahead is what is finished above a committed offset. It goes with the offset as
// the commit's metadata, so that the next owner of the partition hands out only
// what is not finished.
//
// It is text, for tools that show it: "t1." and, in base64, a CRC-32C (four
// bytes, big endian), the epoch plus one, and for each run the distance from the
// one before it (from the offset, for the first) and its length, as varints. The
// sum covers the place, too: the topic's ID, the partition and the offset. So
// metadata that came to another place, as by a tool that moves offsets or copies
// them to another cluster, says nothing there.
type ahead struct {
	// epoch is the highest leader epoch of what was read. A record of a later
	// one is not what was finished under its offset: the log was cut off.
	epoch int32
	runs  []lanes.Run
}

// place is what an offset is committed for.
type place struct {
	topic     [16]byte
	partition int32
	offset    int64
}

const (
	aheadVersion = "t1."
	// aheadSize bounds the metadata; brokers take 4,096 bytes unless they are
	// told otherwise (offset.metadata.max.bytes).
	aheadSize = 2048
	aheadRuns = 1024 // a run takes two bytes at least; more never fit
)

var (
	errForeign = errors.New("it is not ours")
	errGarbled = errors.New("it is garbled, or of another place")
)

// encode returns the longest prefix of a that fits, "" when there is nothing to
// say. Runs lie above the offset, in order, apart.
func (a *ahead) encode(at place) string {
	const most = (aheadSize - len(aheadVersion)) / 4 * 3
	b := make([]byte, 4, most)
	b = binary.AppendUvarint(b, uint64(a.epoch+1)) //nolint:gosec // -1 or above
	empty := len(b)
	next := at.offset
	for _, r := range a.runs {
		n := len(b)
		b = binary.AppendUvarint(b, uint64(r.From-next)) //nolint:gosec // in order
		b = binary.AppendUvarint(b, uint64(r.To-r.From)) //nolint:gosec // in order
		if base64.RawURLEncoding.EncodedLen(len(b))+len(aheadVersion) > aheadSize {
			b = b[:n]
			break
		}
		next = r.To
	}
	if len(b) == empty {
		return ""
	}
	binary.BigEndian.PutUint32(b, at.sum(b[4:]))
	return aheadVersion + base64.RawURLEncoding.EncodeToString(b)
}

// decode reads what encode wrote for the same place. Errors wrap errForeign or
// errGarbled.
func decodeAhead(text string, at place) (ahead, error) {
	data, ours := strings.CutPrefix(text, aheadVersion)
	if !ours {
		return ahead{}, errForeign
	}
	if len(text) > aheadSize {
		return ahead{}, fmt.Errorf("%w: %d bytes", errGarbled, len(text))
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(data)
	if err != nil {
		return ahead{}, fmt.Errorf("%w: %w", errGarbled, err)
	}
	if len(b) < 4 || at.sum(b[4:]) != binary.BigEndian.Uint32(b) {
		return ahead{}, fmt.Errorf("%w: its sum is wrong", errGarbled)
	}
	b = b[4:]
	number := func(least, most uint64) (int64, bool) {
		v, n := binary.Uvarint(b)
		if n <= 0 || v < least || v > most {
			return 0, false
		}
		b = b[n:]
		return int64(v), true //nolint:gosec // most is an int64
	}
	epoch, ok := number(0, math.MaxInt32)
	a := ahead{epoch: int32(epoch - 1)} //nolint:gosec // an int32 by its bound
	next := at.offset
	for ok && len(b) > 0 {
		var gap, length int64
		if gap, ok = number(1, uint64(math.MaxInt64-next)); !ok { //nolint:gosec // offsets are not negative
			break
		}
		if length, ok = number(1, uint64(math.MaxInt64-next-gap)); !ok { //nolint:gosec // checked above
			break
		}
		a.runs = append(a.runs, lanes.Run{From: next + gap, To: next + gap + length})
		next += gap + length
	}
	if !ok || at.offset < 0 {
		return ahead{}, fmt.Errorf("%w: a number is out of range", errGarbled)
	}
	return a, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (p place) sum(data []byte) uint32 {
	var b [28]byte
	copy(b[:], p.topic[:])
	binary.BigEndian.PutUint32(b[16:], uint32(p.partition)) //nolint:gosec // only its bits matter
	binary.BigEndian.PutUint64(b[20:], uint64(p.offset))    //nolint:gosec // only its bits matter
	return crc32.Update(crc32.Checksum(b[:], castagnoli), castagnoli, data)
}

// finished tells whether offset, read at an epoch, is among a's. It is asked for
// rising offsets and forgets what lies below.
func (a *ahead) finished(offset int64, epoch int32) bool {
	if epoch > a.epoch { // epochs rise with offsets: what is above was written later, too
		a.runs = nil
	}
	for len(a.runs) > 0 && a.runs[0].To <= offset {
		a.runs = a.runs[1:]
	}
	return len(a.runs) > 0 && offset >= a.runs[0].From
}

// with returns runs, which end below next, and after them those of a that lie at
// next or above.
func (a *ahead) with(runs []lanes.Run, next int64) []lanes.Run {
	for _, r := range a.runs {
		if r.From = max(r.From, next); r.From >= r.To {
			continue
		}
		if n := len(runs); n > 0 && runs[n-1].To == r.From {
			runs[n-1].To = r.To
			continue
		}
		runs = append(runs, r)
	}
	return runs
}
