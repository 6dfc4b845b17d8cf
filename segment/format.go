package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// FormatVersion is the version of every file that this package writes. A file of a higher version is refused, never guessed at.
const FormatVersion = 1

// A segment file is a header, frames, and once sealed a footer. The header:
//
//	  0  8    magic "LGFTSEGM"
//	  8  u16  format version
//	 10  u16  0
//	 12  u32  header bytes, 128
//	 16  16   group uuid
//	 32  u64  base index: of the first frame
//	 40  i64  base offset: next offset before the first frame
//	 48  u64  term of the entry before
//	 56  i64  append time of the entry before
//	 64  32   hash of the segment before; zeros if there was none
//	 96  i64  limit: the segment ends with the frame that brings header and frames to this many bytes, or with a roll frame
//	104  20   0
//	124  u32  CRC-32C of [0,124)
const (
	segmentHeaderBytes = 128
	segmentMagic       = "LGFTSEGM"
)

// header is a segment's header.
type header struct {
	group  GroupID
	base   uint64
	offset int64
	prev   entryID // the entry before; prev.index == base-1
	time   int64   // append time of the entry before
	hash   [32]byte
	limit  int64
}

// entryID is the name of an entry: two entries with the same one are the same entry.
type entryID struct{ index, term uint64 }

func (h *header) encode() []byte {
	b := make([]byte, segmentHeaderBytes)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint16(b[8:], FormatVersion)
	binary.LittleEndian.PutUint32(b[12:], segmentHeaderBytes)
	copy(b[16:], h.group[:])
	binary.LittleEndian.PutUint64(b[32:], h.base)
	binary.LittleEndian.PutUint64(b[40:], uint64(h.offset))
	binary.LittleEndian.PutUint64(b[48:], h.prev.term)
	binary.LittleEndian.PutUint64(b[56:], uint64(h.time))
	copy(b[64:], h.hash[:])
	binary.LittleEndian.PutUint64(b[96:], uint64(h.limit))
	binary.LittleEndian.PutUint32(b[124:], crc32.Checksum(b[:124], castagnoli))
	return b
}

// ErrVersion says that a file was written by a newer program.
var ErrVersion = errors.New("format version is newer than this program: start the version that wrote it, or a later one")

// decodeHeader decodes and checks a segment header of a named group and base.
func decodeHeader(b []byte, group GroupID, base uint64) (header, error) {
	if len(b) < segmentHeaderBytes || string(b[:8]) != segmentMagic {
		return header{}, errors.New("no segment header")
	}
	if crc32.Checksum(b[:124], castagnoli) != binary.LittleEndian.Uint32(b[124:]) {
		return header{}, errors.New("segment header checksum")
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v > FormatVersion {
		return header{}, fmt.Errorf("segment version %d: %w", v, ErrVersion)
	}
	h := header{
		base: binary.LittleEndian.Uint64(b[32:]), offset: int64(binary.LittleEndian.Uint64(b[40:])),
		time: int64(binary.LittleEndian.Uint64(b[56:])), limit: int64(binary.LittleEndian.Uint64(b[96:])),
	}
	copy(h.group[:], b[16:])
	copy(h.hash[:], b[64:])
	if h.group != group || h.base != base || h.base == 0 || h.offset < 0 || h.offset > offsetMax || h.limit <= 0 {
		return header{}, fmt.Errorf("segment header is of group %x base %d", h.group, h.base)
	}
	h.prev = entryID{h.base - 1, binary.LittleEndian.Uint64(b[48:])}
	return h, nil
}

// A footer follows the last frame of a sealed segment:
//
//	index entries of 32 bytes: u64 index, i64 offset, i64 position, i64 append time
//	term runs of 16 bytes: u64 first index, u64 term
//	trailer, the last 128 bytes of the file:
//	  0  8    magic "LGFTFOOT"
//	  8  u16  format version
//	 10  u16  0
//	 12  u32  CRC-32C of the rest of the footer, salted like a frame
//	 16  u64  base index
//	 24  u64  last index
//	 32  u64  last term
//	 40  i64  next offset
//	 48  i64  last append time
//	 56  i64  position of the footer = end of the frames
//	 64  32   hash of all frames
//	 96  u32  index entries
//	100  u32  term runs
//	104  i64  limit of the next segment
//	112  16   0
//
// The hash is SHA-256 over each frame's header and the first 21 bytes of a data payload: with the two checksums in them, those
// bytes stand for all others.
const (
	trailerBytes    = 128
	footerMagic     = "LGFTFOOT"
	indexEntryBytes = 32
	termRunBytes    = 16
	// sparseBytes is the distance in a file between two entries of the index.
	sparseBytes = 4096
)

// indexEntry places one frame.
type indexEntry struct {
	index    uint64
	offset   int64
	position int64
	time     int64
}

// termRun says that entries from index on have term.
type termRun entryID

type footer struct {
	last      entryID
	next      int64
	time      int64
	position  int64
	hash      [32]byte
	nextLimit int64
	index     []indexEntry
	runs      []termRun
}

func (f *footer) encode(group GroupID, base uint64) []byte {
	size := len(f.index)*indexEntryBytes + len(f.runs)*termRunBytes
	b := make([]byte, size+trailerBytes)
	at := 0
	for _, e := range f.index {
		binary.LittleEndian.PutUint64(b[at:], e.index)
		binary.LittleEndian.PutUint64(b[at+8:], uint64(e.offset))
		binary.LittleEndian.PutUint64(b[at+16:], uint64(e.position))
		binary.LittleEndian.PutUint64(b[at+24:], uint64(e.time))
		at += indexEntryBytes
	}
	for _, r := range f.runs {
		binary.LittleEndian.PutUint64(b[at:], r.index)
		binary.LittleEndian.PutUint64(b[at+8:], r.term)
		at += termRunBytes
	}
	t := b[at:]
	copy(t, footerMagic)
	binary.LittleEndian.PutUint16(t[8:], FormatVersion)
	binary.LittleEndian.PutUint64(t[16:], base)
	binary.LittleEndian.PutUint64(t[24:], f.last.index)
	binary.LittleEndian.PutUint64(t[32:], f.last.term)
	binary.LittleEndian.PutUint64(t[40:], uint64(f.next))
	binary.LittleEndian.PutUint64(t[48:], uint64(f.time))
	binary.LittleEndian.PutUint64(t[56:], uint64(f.position))
	copy(t[64:], f.hash[:])
	binary.LittleEndian.PutUint32(t[96:], uint32(len(f.index)))
	binary.LittleEndian.PutUint32(t[100:], uint32(len(f.runs)))
	binary.LittleEndian.PutUint64(t[104:], uint64(f.nextLimit))
	binary.LittleEndian.PutUint32(t[12:], footerSum(b, t, group, base))
	return b
}

// footerSum sums a whole footer b whose trailer is t, without the sum's own field.
func footerSum(b, t []byte, group GroupID, base uint64) uint32 {
	crc := crc32.Update(saltOf(group, base), castagnoli, b[:len(b)-trailerBytes])
	crc = crc32.Update(crc, castagnoli, t[:12])
	return crc32.Update(crc, castagnoli, t[16:trailerBytes])
}

var errNoFooter = errors.New("no footer")

// footerBytes returns the length of the footer whose trailer is t in a file of size bytes.
func footerBytes(t []byte, size int64) (int64, error) {
	if string(t[:8]) != footerMagic {
		return 0, errNoFooter
	}
	n := int64(binary.LittleEndian.Uint32(t[96:]))*indexEntryBytes + int64(binary.LittleEndian.Uint32(t[100:]))*termRunBytes + trailerBytes
	if pos := int64(binary.LittleEndian.Uint64(t[56:])); pos < segmentHeaderBytes || pos != size-n {
		return 0, errNoFooter
	}
	return n, nil
}

// decodeFooter decodes a whole footer.
func decodeFooter(b []byte, group GroupID, base uint64) (footer, error) {
	t := b[len(b)-trailerBytes:]
	if footerSum(b, t, group, base) != binary.LittleEndian.Uint32(t[12:]) || binary.LittleEndian.Uint64(t[16:]) != base {
		return footer{}, errNoFooter
	}
	if v := binary.LittleEndian.Uint16(t[8:]); v > FormatVersion {
		return footer{}, fmt.Errorf("footer version %d: %w", v, ErrVersion)
	}
	f := footer{
		last: entryID{binary.LittleEndian.Uint64(t[24:]), binary.LittleEndian.Uint64(t[32:])},
		next: int64(binary.LittleEndian.Uint64(t[40:])), time: int64(binary.LittleEndian.Uint64(t[48:])),
		position: int64(binary.LittleEndian.Uint64(t[56:])), nextLimit: int64(binary.LittleEndian.Uint64(t[104:])),
		index: make([]indexEntry, binary.LittleEndian.Uint32(t[96:])), runs: make([]termRun, binary.LittleEndian.Uint32(t[100:])),
	}
	copy(f.hash[:], t[64:])
	for i := range f.index {
		e := b[i*indexEntryBytes:]
		f.index[i] = indexEntry{
			index: binary.LittleEndian.Uint64(e), offset: int64(binary.LittleEndian.Uint64(e[8:])),
			position: int64(binary.LittleEndian.Uint64(e[16:])), time: int64(binary.LittleEndian.Uint64(e[24:])),
		}
	}
	runs := b[len(f.index)*indexEntryBytes:]
	for i := range f.runs {
		f.runs[i] = termRun{binary.LittleEndian.Uint64(runs[i*termRunBytes:]), binary.LittleEndian.Uint64(runs[i*termRunBytes+8:])}
	}
	return f, nil
}

// A state file `<base>.state` is the checkpoint of the state machine as of a segment's last index, and a start file `start` says
// where a trimmed log begins:
//
//	 0  8    magic "LGFTSTAT" or "LGFTSTRT"
//	 8  u16  format version
//	10  u16  0
//	12  u32  CRC-32C of the rest, salted with the group and the index below
//	16  u64  index
//	24  u64  term
//	32  i64  next offset
//	40  i64  append time
//	48  32   hash of the segment that ends there
//	80  i64  limit of the segment that follows; 0: not known, the one that the group was opened with
//	88  u64  payload length
//	96       payload (the checkpoint; none in a start file)
const (
	pointBytes = 96
	stateMagic = "LGFTSTAT"
	startMagic = "LGFTSTRT"
)

func encodePoint(magic string, group GroupID, s Start, payload []byte) []byte {
	b := make([]byte, pointBytes+len(payload))
	copy(b, magic)
	binary.LittleEndian.PutUint16(b[8:], FormatVersion)
	putStart(b[16:], &s)
	binary.LittleEndian.PutUint64(b[88:], uint64(len(payload)))
	copy(b[pointBytes:], payload)
	binary.LittleEndian.PutUint32(b[12:], pointSum(b, group, s.Index))
	return b
}

// putStart encodes s into 72 bytes: [16,88) of a point file.
func putStart(b []byte, s *Start) {
	binary.LittleEndian.PutUint64(b, s.Index)
	binary.LittleEndian.PutUint64(b[8:], s.Term)
	binary.LittleEndian.PutUint64(b[16:], uint64(s.Offset))
	binary.LittleEndian.PutUint64(b[24:], uint64(s.AppendTime))
	copy(b[32:], s.Hash[:])
	binary.LittleEndian.PutUint64(b[64:], uint64(s.Limit))
}

func getStart(b []byte) Start {
	s := Start{
		Index: binary.LittleEndian.Uint64(b), Term: binary.LittleEndian.Uint64(b[8:]),
		Offset: int64(binary.LittleEndian.Uint64(b[16:])), AppendTime: int64(binary.LittleEndian.Uint64(b[24:])),
		Limit: int64(binary.LittleEndian.Uint64(b[64:])),
	}
	copy(s.Hash[:], b[32:])
	return s
}

func pointSum(b []byte, group GroupID, index uint64) uint32 {
	crc := crc32.Update(saltOf(group, index), castagnoli, b[:12])
	return crc32.Update(crc, castagnoli, b[16:])
}

func decodePoint(b []byte, magic string, group GroupID) (Start, []byte, error) {
	if len(b) < pointBytes || string(b[:8]) != magic {
		return Start{}, nil, errors.New("no " + magic + " file")
	}
	s := getStart(b[16:])
	if pointSum(b, group, s.Index) != binary.LittleEndian.Uint32(b[12:]) || binary.LittleEndian.Uint64(b[88:]) != uint64(len(b)-pointBytes) {
		return Start{}, nil, errors.New("checksum")
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v > FormatVersion {
		return Start{}, nil, fmt.Errorf("version %d: %w", v, ErrVersion)
	}
	return s, b[pointBytes:], nil
}

const (
	logSuffix   = ".log"
	stateSuffix = ".state"
	stageSuffix = ".stage" // a verified file of a snapshot that is not installed
	partSuffix  = ".part"  // the beginning of one
	startName   = "start"
	asideDir    = "aside"
	baseDigits  = 20
)

func segmentName(base uint64) string { return fmt.Sprintf("%0*d%s", baseDigits, base, logSuffix) }

func stateName(base uint64) string { return fmt.Sprintf("%0*d%s", baseDigits, base, stateSuffix) }

// baseOfName returns the base index that a file's name says, if it has the suffix.
func baseOfName(name, suffix string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != baseDigits {
		return 0, false
	}
	base, err := strconv.ParseUint(digits, 10, 64)
	return base, err == nil && base > 0
}
