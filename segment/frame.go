package segment

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A frame is one entry of the log:
//
//	 0  u32  header CRC-32C, salted: over bytes [4,48) and, of a data payload, [0,21); of any other payload all of it
//	 4  u32  payload length
//	 8  u8   frame version, 1
//	 9  u8   entry type (opaque: the core's)
//	10  u8   kind
//	11  u8   flags (opaque)
//	12  u32  records; 0 unless the kind is data
//	16  u64  index
//	24  u64  term
//	32  i64  offset: of the first record, or the next offset for other kinds
//	40  i64  append time, ms since 1970
//	48       payload
//
// All numbers are little-endian. A data payload is a record batch, format 2: its own CRC-32C stands big-endian at [17,21) and covers
// [21,end), so every byte of a frame is covered by exactly one of the two sums and a payload is summed once. The salt is the CRC-32C
// of group uuid and segment base index: a block of another group or segment does not check.
const (
	frameHeaderBytes = 48
	frameVersion     = 1

	batchCRCAt       = 17
	batchSummedFrom  = 21
	batchBytesMin    = 61
	offsetMax        = int64(1) << 62
	payloadBytesLeft = frameHeaderBytes + batchSummedFrom // what a look at a data frame's header needs
)

// PayloadBytesMaxDefault bounds a payload unless Options say otherwise.
const PayloadBytesMaxDefault = 16 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// GroupID is the uuid of a Raft group.
type GroupID [16]byte

// Kind says what a payload is. It is stored in the frame; the log itself tells data (offsets), KindRoll (ends a segment) and
// KindConfig (may change the limit of later segments) apart.
type Kind uint8

const (
	KindRaft    Kind = iota // made by the core: no-op or configuration change
	KindData                // a record batch
	KindCommand             // a command of the group's state machine
	KindRoll                // ends its segment
	KindConfig              // a topic configuration
)

var kindNames = [...]string{"raft", "data", "command", "roll", "config"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Frame is one entry of the log. Payload is shared: nobody changes it.
type Frame struct {
	EntryType  uint8
	Kind       Kind
	Flags      uint8
	Count      uint32 // records; 0 unless data
	Index      uint64
	Term       uint64
	Offset     int64 // of the first record; for other kinds the next offset, unchanged
	AppendTime int64 // ms since 1970
	Payload    []byte
}

// NextOffset is the offset after the frame's last record.
func (f Frame) NextOffset() int64 { return f.Offset + int64(f.Count) }

func (f *Frame) encodedBytes() int64 { return frameHeaderBytes + int64(len(f.Payload)) }

// summed is the part of a payload that the header's CRC covers.
func summed(kind Kind, payload []byte) []byte {
	if kind == KindData {
		return payload[:batchSummedFrom]
	}
	return payload
}

func saltOf(group GroupID, base uint64) uint32 {
	var b [24]byte
	copy(b[:], group[:])
	binary.LittleEndian.PutUint64(b[16:], base)
	return crc32.Checksum(b[:], castagnoli)
}

// putHeader encodes the header of f into b, which has frameHeaderBytes.
func putHeader(b []byte, f *Frame, salt uint32) {
	_ = b[frameHeaderBytes-1]
	binary.LittleEndian.PutUint32(b[4:], uint32(len(f.Payload)))
	b[8], b[9], b[10], b[11] = frameVersion, f.EntryType, byte(f.Kind), f.Flags
	binary.LittleEndian.PutUint32(b[12:], f.Count)
	binary.LittleEndian.PutUint64(b[16:], f.Index)
	binary.LittleEndian.PutUint64(b[24:], f.Term)
	binary.LittleEndian.PutUint64(b[32:], uint64(f.Offset))
	binary.LittleEndian.PutUint64(b[40:], uint64(f.AppendTime))
	crc := crc32.Update(salt, castagnoli, b[4:frameHeaderBytes])
	crc = crc32.Update(crc, castagnoli, summed(f.Kind, f.Payload))
	binary.LittleEndian.PutUint32(b, crc)
}

// frameError says what about the bytes at a position is no frame. It is compared by kind only.
type frameError struct {
	what string
	need int64 // more bytes would be needed than there are
}

func (e *frameError) Error() string { return e.what }

var (
	errFrameVersion = &frameError{what: "frame version"}
	errFrameLength  = &frameError{what: "payload length beyond its bound"}
	errFrameFields  = &frameError{what: "fields of the header contradict each other"}
	errFrameSum     = &frameError{what: "header checksum"}
	errBatchSum     = &frameError{what: "batch checksum"}
	errFrameCut     = &frameError{what: "the file ends within a frame"}
)

// parseHeader decodes the fields of a header without checking its sum. b has at least frameHeaderBytes. The length is checked
// against payloadMax before anyone allocates by it.
func parseHeader(b []byte, payloadMax int) (f Frame, payload int, err error) {
	if b[8] != frameVersion {
		return f, 0, errFrameVersion
	}
	n := binary.LittleEndian.Uint32(b[4:])
	if uint64(n) > uint64(payloadMax) {
		return f, 0, errFrameLength
	}
	f = Frame{
		EntryType: b[9], Kind: Kind(b[10]), Flags: b[11],
		Count:      binary.LittleEndian.Uint32(b[12:]),
		Index:      binary.LittleEndian.Uint64(b[16:]),
		Term:       binary.LittleEndian.Uint64(b[24:]),
		Offset:     int64(binary.LittleEndian.Uint64(b[32:])),
		AppendTime: int64(binary.LittleEndian.Uint64(b[40:])),
	}
	if f.Offset < 0 || f.Offset > offsetMax || int(f.Kind) >= len(kindNames) {
		return f, 0, errFrameFields
	}
	if f.Kind == KindData && (n < batchBytesMin || f.Count == 0) || f.Kind != KindData && f.Count != 0 {
		return f, 0, errFrameFields
	}
	return f, int(n), nil
}

// checkHeader verifies the header's sum. b holds the header and at least the payload bytes that it covers.
func checkHeader(b []byte, kind Kind, payload int, salt uint32) error {
	covered := payload
	if kind == KindData {
		covered = batchSummedFrom
	}
	crc := crc32.Update(salt, castagnoli, b[4:frameHeaderBytes+covered])
	if crc != binary.LittleEndian.Uint32(b) {
		return errFrameSum
	}
	return nil
}

// checkBatch verifies a data payload against the sum that it carries.
func checkBatch(payload []byte) error {
	if crc32.Checksum(payload[batchSummedFrom:], castagnoli) != binary.BigEndian.Uint32(payload[batchCRCAt:]) {
		return errBatchSum
	}
	return nil
}

// decodeFrame decodes the frame at the start of b and verifies every byte of it. The payload aliases b. A frame that b ends within
// answers a frameError with need set.
func decodeFrame(b []byte, salt uint32, payloadMax int) (Frame, int64, error) {
	if len(b) < frameHeaderBytes {
		return Frame{}, 0, &frameError{what: errFrameCut.what, need: frameHeaderBytes}
	}
	f, n, err := parseHeader(b, payloadMax)
	if err != nil {
		return Frame{}, 0, err
	}
	end := frameHeaderBytes + n
	if len(b) < end {
		return Frame{}, 0, &frameError{what: errFrameCut.what, need: int64(end)}
	}
	if err := checkHeader(b, f.Kind, n, salt); err != nil {
		return Frame{}, 0, err
	}
	f.Payload = b[frameHeaderBytes:end:end]
	if f.Kind == KindData {
		if err := checkBatch(f.Payload); err != nil {
			return Frame{}, 0, err
		}
	}
	return f, int64(end), nil
}
