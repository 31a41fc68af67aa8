package parking

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"

	"github.com/google/uuid"
)

// What an index row has room for, all parts of a stream's key together: a third
// of PostgreSQL's page, 2,704 bytes.
const (
	longestKey  = 1000
	longestName = 400
)

// lockClass sets the advisory locks on events apart: "tidi" in ASCII.
const lockClass int32 = 0x74696469

// Key returns the key as its row has it: nil where it is empty, and its digest
// where it is over 1,000 bytes.
func Key(raw []byte) []byte {
	switch {
	case len(raw) == 0:
		return nil
	case len(raw) > longestKey:
		sum := sha256.Sum256(raw)
		return append([]byte("sha256:"), sum[:]...)
	}
	return raw
}

// Name returns a source, aggregate type or aggregate ID as the key row has it:
// its digest where it is over 400 bytes.
func Name(s string) string {
	if len(s) <= longestName {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// EventLock returns the two numbers of the advisory lock that stands for the key
// row of an event without a key. Equal numbers of different events only wait.
func EventLock(handler int32, event uuid.UUID) (class, number int32) {
	h := fnv.New32a()
	_, _ = h.Write(binary.BigEndian.AppendUint32(event[:], uint32(handler))) //nolint:gosec // only hashed
	return lockClass, int32(h.Sum32())                                       //nolint:gosec // only hashed
}
