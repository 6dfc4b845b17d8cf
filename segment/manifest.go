package segment

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"lograft/segment/vfs"
)

// Manifest is a snapshot of a log as of a sealed index: the state machine's checkpoint there and the sealed segments up to there,
// possibly none (architecture D12). Segments are the same bytes on every replica, so any replica that sealed them can send them.
type Manifest struct {
	Group      GroupID
	Start      Start            // the entry before the first segment
	Last       Start            // the entry that the snapshot ends with; its Hash is the last segment's
	Segments   []SegmentSummary // consecutive, from Start.Index+1 to Last.Index
	Checkpoint []byte           // the state as of Last
}

// SegmentSummary names one sealed segment: two files with the same one hold the same bytes.
type SegmentSummary struct {
	Base, Last uint64
	Bytes      int64 // of the file, with header and footer
	Hash       [32]byte
}

// ManifestBytesMax bounds an encoded manifest.
const ManifestBytesMax = checkpointBytesMax + 64<<20

// A manifest:
//
//	  0  8    magic "LGFTMNFS"
//	  8  u16  format version
//	 10  u16  0
//	 12  u32  CRC-32C of the rest, and of [0,12)
//	 16  16   group uuid
//	 32  72   start: u64 index, u64 term, i64 next offset, i64 append time, 32 hash, i64 limit
//	104  72   last, likewise
//	176  u32  segments
//	180  u32  checkpoint bytes
//	184       segments of 56 bytes: u64 base, u64 last, i64 file bytes, 32 hash
//	          the checkpoint
const (
	manifestMagic     = "LGFTMNFS"
	manifestHeadBytes = 184
	summaryBytes      = 56
	segmentFileMax    = int64(1) << 40
)

// Encode returns m as bytes; DecodeManifest reads them.
func (m *Manifest) Encode() []byte {
	b := make([]byte, manifestHeadBytes, manifestHeadBytes+len(m.Segments)*summaryBytes+len(m.Checkpoint))
	copy(b, manifestMagic)
	binary.LittleEndian.PutUint16(b[8:], FormatVersion)
	copy(b[16:], m.Group[:])
	putStart(b[32:], &m.Start)
	putStart(b[104:], &m.Last)
	binary.LittleEndian.PutUint32(b[176:], uint32(len(m.Segments)))
	binary.LittleEndian.PutUint32(b[180:], uint32(len(m.Checkpoint)))
	for _, s := range m.Segments {
		b = binary.LittleEndian.AppendUint64(b, s.Base)
		b = binary.LittleEndian.AppendUint64(b, s.Last)
		b = binary.LittleEndian.AppendUint64(b, uint64(s.Bytes))
		b = append(b, s.Hash[:]...)
	}
	b = append(b, m.Checkpoint...)
	binary.LittleEndian.PutUint32(b[12:], manifestSum(b))
	return b
}

func manifestSum(b []byte) uint32 {
	crc := crc32.Checksum(b[:12], castagnoli)
	return crc32.Update(crc, castagnoli, b[16:])
}

// DecodeManifest decodes and checks a manifest of group. Checkpoint shares b. Its memory is bounded by len(b). Errors: ErrInvalid with
// what is wrong, ErrVersion.
func DecodeManifest(b []byte, group GroupID) (Manifest, error) {
	m, err := decodeManifest(b)
	if errors.Is(err, ErrVersion) {
		return Manifest{}, err
	}
	if err == nil && m.Group != group {
		err = fmt.Errorf("it is of group %x", m.Group)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: manifest: %w", ErrInvalid, err)
	}
	return m, nil
}

func decodeManifest(b []byte) (m Manifest, err error) {
	if len(b) < manifestHeadBytes || len(b) > ManifestBytesMax || string(b[:8]) != manifestMagic {
		return m, fmt.Errorf("%d bytes that are none", len(b))
	}
	if manifestSum(b) != binary.LittleEndian.Uint32(b[12:]) {
		return m, errors.New("checksum")
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v > FormatVersion {
		return m, fmt.Errorf("manifest version %d: %w", v, ErrVersion)
	}
	n, state := int(binary.LittleEndian.Uint32(b[176:])), int(binary.LittleEndian.Uint32(b[180:]))
	if int64(len(b)) != manifestHeadBytes+int64(n)*summaryBytes+int64(state) {
		return m, fmt.Errorf("%d bytes for %d segments and a checkpoint of %d", len(b), n, state)
	}
	copy(m.Group[:], b[16:])
	m.Start, m.Last = getStart(b[32:]), getStart(b[104:])
	m.Segments = make([]SegmentSummary, n)
	at := b[manifestHeadBytes:]
	for i := range m.Segments {
		s := &m.Segments[i]
		s.Base, s.Last = binary.LittleEndian.Uint64(at), binary.LittleEndian.Uint64(at[8:])
		s.Bytes = int64(binary.LittleEndian.Uint64(at[16:]))
		copy(s.Hash[:], at[24:])
		at = at[summaryBytes:]
	}
	m.Checkpoint = at[:len(at):len(at)]
	return m, m.check()
}

// check reports the first thing in m that no log could have said.
func (m *Manifest) check() error {
	next := m.Start
	for _, s := range m.Segments {
		if s.Base != next.Index+1 || s.Last < s.Base || s.Bytes < segmentHeaderBytes+trailerBytes || s.Bytes > segmentFileMax {
			return fmt.Errorf("segment [%d, %d] of %d bytes after entry %d", s.Base, s.Last, s.Bytes, next.Index)
		}
		next.Index, next.Hash = s.Last, s.Hash
	}
	for _, p := range []Start{m.Start, m.Last} {
		if p.Index == 0 || p.Offset < 0 || p.Offset > offsetMax || p.Limit < 0 {
			return fmt.Errorf("a bound at entry %d, offset %d, limit %d", p.Index, p.Offset, p.Limit)
		}
	}
	if next.Index != m.Last.Index || next.Hash != m.Last.Hash || m.Last.Term < m.Start.Term || m.Last.Offset < m.Start.Offset {
		return fmt.Errorf("it ends with entry %d, its segments with %d", m.Last.Index, next.Index)
	}
	return nil
}

// Hash names m.
func (m *Manifest) Hash() [32]byte { return sha256.Sum256(m.Encode()) }

// Bytes is the size of all segment files.
func (m *Manifest) Bytes() int64 {
	var n int64
	for _, s := range m.Segments {
		n += s.Bytes
	}
	return n
}

// Sealed returns the sealed segments that hold an entry at or after from, oldest first, to be compared with other replicas'.
func (l *Log) Sealed(from uint64) []SegmentSummary {
	var out []SegmentSummary
	for _, s := range l.segs {
		if s.sealed && s.last.index >= from {
			out = append(out, s.summary())
		}
	}
	return out
}

func (s *segment) summary() SegmentSummary {
	return SegmentSummary{Base: s.head.base, Last: s.last.index, Bytes: s.fileBytes, Hash: s.sum}
}

// ManifestTask makes a manifest: Do reads the checkpoint, on any goroutine. Afterwards Manifest or Err says what came of it, and Pin
// holds the listed files.
type ManifestTask struct {
	Manifest Manifest
	Pin      *Pin
	Err      error

	fs      vfs.FS
	name    string
	seg     *segment // whose checkpoint it is; nil: the start's
	missing bool
}

// BeginManifest begins the newest manifest that this log can give, and pins its segments: Unpin t.Pin when it is not needed any more.
// nil: there is no checkpoint of a sealed index (commit a roll and wait until the segment is sealed), or a listed segment is damaged.
func (l *Log) BeginManifest() *ManifestTask {
	if l.failed != nil {
		return nil
	}
	m := Manifest{Group: l.o.Group, Start: l.start, Last: l.start}
	t := &ManifestTask{fs: l.o.FS, name: l.startState}
	for _, s := range l.segs {
		if !s.sealed || l.damaged(s) {
			break
		}
		m.Segments = append(m.Segments, s.summary())
		if s.state {
			m.Last, t.seg, t.name = s.end(), s, stateName(s.head.base)
		}
	}
	if t.name == "" {
		return nil
	}
	n := 0
	for n < len(m.Segments) && m.Segments[n].Last <= m.Last.Index {
		n++
	}
	m.Segments = slices.Clip(m.Segments[:n])
	if n == 0 && m.Last.Limit == 0 {
		m.Last.Limit = l.limitAt(m.Last.Index + 1)
		if len(l.segs) > 0 {
			m.Last.Limit = l.segs[0].head.limit
		}
	}
	t.name = l.path(t.name)
	t.Manifest = m
	t.Pin = l.pin(&m)
	return t
}

// end is the point behind a sealed segment.
func (s *segment) end() Start {
	return Start{Index: s.last.index, Term: s.last.term, Offset: s.next, AppendTime: s.time, Hash: s.sum, Limit: s.nextLimit}
}

// Do reads the checkpoint.
func (t *ManifestTask) Do() {
	b, err := readWhole(t.fs, t.name, checkpointBytesMax)
	if err == nil {
		var at Start
		at, t.Manifest.Checkpoint, err = decodePoint(b, stateMagic, t.Manifest.Group)
		if err == nil && at.Index != t.Manifest.Last.Index {
			err = fmt.Errorf("it is as of entry %d", at.Index)
		}
		t.missing = err != nil
	}
	if err != nil {
		t.missing = t.missing || vfs.IsNotExist(err) || errors.Is(err, errTooLarge)
		t.Err = fmt.Errorf("checkpoint %s: %w", t.name, err)
	}
}

// EndManifest takes t back: after an error its pin goes, and a checkpoint that was found bad is not tried again, so that the next
// BeginManifest takes an older one.
func (l *Log) EndManifest(t *ManifestTask) error {
	if t.Err == nil {
		return nil
	}
	if t.missing && t.seg != nil {
		t.seg.state = false
	} else if t.missing {
		l.startState = ""
	}
	l.Unpin(t.Pin)
	return t.Err
}
