package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"lograft/raft"
)

// GroupID is the uuid of a Raft group.
type GroupID = [16]byte

// A frame is a head and the payloads (Entry.Context and Entry.Data, snapshot data) that it names, in order:
//
//	version u8=1 | messages u32 | head bytes u32 | crc-32c of the head from byte 13 on u32
//	per message: group 16 | type u8 (below OwnTypes Raft's) | flags u8 (1 reject, 2 snapshot, 4 no answer) | to, from, term, log term, index, commit, commit term,
//	             reject hint, request snapshot: u64 | priority i64 | context: u16 + bytes
//	             | entries u32, each: type u8, term u64, index u64, context bytes u16, data bytes u32
//	             | snapshot: index u64, term u64, 4 lists of ids (u16 + u64s), auto leave u8, data bytes u32
//	payloads, concatenated
//
// Integers are little-endian. The head's checksum guards what has no other; record batches and segments carry their own.
const (
	frameVersion    = 1
	frameHeadFixed  = 1 + 4 + 4 + 4
	messageBytesMin = 16 + 2 + 9*8 + 8 + 2 + 4
	entryHeadBytes  = 1 + 8 + 8 + 2 + 4

	// frameHintMax bounds what an encoder makes room for beforehand.
	frameHintMax = 256 << 10

	flagReject   = 1
	flagSnapshot = 2
	flagNoAnswer = 4 // an older broker answers in spite of it
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Ref names a message of a frame, for who must be told that it was dropped.
type Ref struct {
	Group    GroupID
	From, To uint64 // replica ids
	Type     raft.MessageType
}

// Frame is an encoded frame. Payloads belong to the messages' entries: nobody changes them.
type Frame struct {
	Head     []byte
	Payloads [][]byte
	Refs     []Ref
	Bytes    int // of head and payloads
}

// Encoder collects the messages of one frame.
type Encoder struct {
	head     []byte
	payloads [][]byte
	refs     []Ref
	bytes    int
	// headHint and refsHint are what the last frame took: frames of heartbeats are alike, and growing step by step costs more than they do.
	headHint, refsHint int
}

// NewEncoder makes an empty encoder.
func NewEncoder() *Encoder { return &Encoder{} }

// Len is the number of messages collected, Bytes the size of the frame so far.
func (e *Encoder) Len() int { return len(e.refs) }

// Bytes is the size of the frame so far.
func (e *Encoder) Bytes() int { return len(e.head) + e.bytes }

// Add copies a message's header; m is the caller's again when Add returns, but for the immutable bytes of its entries.
func (e *Encoder) Add(group GroupID, m *raft.Message) {
	le := binary.LittleEndian
	if len(e.head) == 0 {
		e.head = make([]byte, frameHeadFixed, max(256, e.headHint))
		e.refs = make([]Ref, 0, e.refsHint)
	}
	b := append(e.head, group[:]...)
	flags := byte(0)
	if m.Reject {
		flags |= flagReject
	}
	if m.Snapshot != nil {
		flags |= flagSnapshot
	}
	if m.NoAnswer {
		flags |= flagNoAnswer
	}
	b = append(b, byte(m.Type), flags)
	for _, v := range [...]uint64{m.To, m.From, m.Term, m.LogTerm, m.Index, m.Commit, m.CommitTerm, m.RejectHint, m.RequestSnapshot, uint64(m.Priority)} {
		b = le.AppendUint64(b, v)
	}
	b = le.AppendUint16(b, uint16(len(m.Context)))
	b = append(b, m.Context...)
	b = le.AppendUint32(b, uint32(len(m.Entries)))
	for i := range m.Entries {
		en := &m.Entries[i]
		b = append(b, byte(en.Type))
		b = le.AppendUint64(b, en.Term)
		b = le.AppendUint64(b, en.Index)
		b = le.AppendUint16(b, uint16(len(en.Context)))
		b = le.AppendUint32(b, uint32(len(en.Data)))
		e.payload(en.Context)
		e.payload(en.Data)
	}
	if s := m.Snapshot; s != nil {
		b = le.AppendUint64(b, s.Metadata.Index)
		b = le.AppendUint64(b, s.Metadata.Term)
		cs := &s.Metadata.ConfState
		for _, ids := range [...][]uint64{cs.Voters, cs.Learners, cs.VotersOutgoing, cs.LearnersNext} {
			b = le.AppendUint16(b, uint16(len(ids)))
			for _, id := range ids {
				b = le.AppendUint64(b, id)
			}
		}
		leave := byte(0)
		if cs.AutoLeave {
			leave = 1
		}
		b = append(b, leave)
		b = le.AppendUint32(b, uint32(len(s.Data)))
		e.payload(s.Data)
	}
	e.head = b
	e.refs = append(e.refs, Ref{Group: group, From: m.From, To: m.To, Type: m.Type})
}

func (e *Encoder) payload(p []byte) {
	if len(p) > 0 {
		e.payloads = append(e.payloads, p)
		e.bytes += len(p)
	}
}

// Frame ends the frame; the encoder is empty again and shares nothing with it.
func (e *Encoder) Frame() Frame {
	le := binary.LittleEndian
	f := Frame{Head: e.head, Payloads: e.payloads, Refs: e.refs, Bytes: len(e.head) + e.bytes}
	f.Head[0] = frameVersion
	le.PutUint32(f.Head[1:], uint32(len(e.refs)))
	le.PutUint32(f.Head[5:], uint32(len(f.Head)))
	le.PutUint32(f.Head[9:], crc32.Checksum(f.Head[frameHeadFixed:], castagnoli))
	*e = Encoder{headHint: min(len(f.Head), frameHintMax), refsHint: min(len(f.Refs), frameHintMax/messageBytesMin)}
	return f
}

// Limits bound what Decode accepts.
type Limits struct {
	FrameBytes, Messages, Entries int // Entries: of one message
}

// DefaultLimits hold everything that our own brokers send.
func DefaultLimits() Limits {
	return Limits{FrameBytes: FrameBytesMax, Messages: 1 << 20, Entries: 1 << 16}
}

// FrameBytesMax bounds a frame on the wire.
const FrameBytesMax = 64 << 20

// GroupMessage is a decoded message.
type GroupMessage struct {
	Group GroupID
	Msg   raft.Message
}

// ErrFrame is matched by every error of Decode: the stream can't be trusted any more.
var ErrFrame = errors.New("malformed frame")

// Decode reads a frame. Entries and contexts alias buf, which the caller gives up. Every count is checked against the bytes that
// are there before anything is allocated.
func Decode(buf []byte, lim Limits) ([]GroupMessage, error) {
	le := binary.LittleEndian
	if len(buf) < frameHeadFixed || len(buf) > lim.FrameBytes {
		return nil, fmt.Errorf("%w: %d bytes, want [%d, %d]", ErrFrame, len(buf), frameHeadFixed, lim.FrameBytes)
	}
	if buf[0] != frameVersion {
		return nil, fmt.Errorf("%w: version %d, this program reads %d", ErrFrame, buf[0], frameVersion)
	}
	count, headBytes := int(le.Uint32(buf[1:])), int(le.Uint32(buf[5:]))
	if headBytes < frameHeadFixed || headBytes > len(buf) || count > lim.Messages || count*messageBytesMin > headBytes {
		return nil, fmt.Errorf("%w: %d messages in a head of %d of %d bytes", ErrFrame, count, headBytes, len(buf))
	}
	if got, want := crc32.Checksum(buf[frameHeadFixed:headBytes], castagnoli), le.Uint32(buf[9:]); got != want {
		return nil, fmt.Errorf("%w: head checksum %08x, want %08x", ErrFrame, got, want)
	}
	d := decoder{head: buf[frameHeadFixed:headBytes], payload: buf[headBytes:], lim: lim}
	msgs := make([]GroupMessage, count)
	for i := range msgs {
		d.message(&msgs[i])
	}
	if d.bad == "" && (len(d.head) != 0 || len(d.payload) != 0) {
		d.bad = "bytes are left"
	}
	if d.bad != "" {
		return nil, fmt.Errorf("%w: %s", ErrFrame, d.bad)
	}
	return msgs, nil
}

// decoder walks head and payloads. After the first fault (bad) everything it returns is zero.
type decoder struct {
	head, payload []byte
	lim           Limits
	bad           string
}

func (d *decoder) take(n int) []byte {
	if d.bad != "" || n > len(d.head) {
		d.bad = "the head ends too early"
		return nil
	}
	p := d.head[:n:n]
	d.head = d.head[n:]
	return p
}

func (d *decoder) takePayload(n int) []byte {
	if n == 0 {
		return nil
	}
	if d.bad != "" || n > len(d.payload) {
		d.bad = "the payloads end too early"
		return nil
	}
	p := d.payload[:n:n]
	d.payload = d.payload[n:]
	return p
}

func (d *decoder) u8() byte {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) u16() int {
	if p := d.take(2); p != nil {
		return int(binary.LittleEndian.Uint16(p))
	}
	return 0
}

func (d *decoder) u32() int {
	if p := d.take(4); p != nil {
		return int(binary.LittleEndian.Uint32(p))
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if p := d.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (d *decoder) message(g *GroupMessage) {
	copy(g.Group[:], d.take(16))
	m := &g.Msg
	m.Type = raft.MessageType(d.u8())
	flags := d.u8()
	m.Reject, m.NoAnswer = flags&flagReject != 0, flags&flagNoAnswer != 0
	for _, p := range [...]*uint64{&m.To, &m.From, &m.Term, &m.LogTerm, &m.Index, &m.Commit, &m.CommitTerm, &m.RejectHint, &m.RequestSnapshot} {
		*p = d.u64()
	}
	m.Priority = int64(d.u64())
	if n := d.u16(); n > 0 {
		m.Context = d.take(n)
	}
	n := d.u32()
	if n > d.lim.Entries || n*entryHeadBytes > len(d.head) {
		d.bad = fmt.Sprintf("%d entries in a message", n)
		return
	}
	if n > 0 {
		m.Entries = make([]raft.Entry, n)
	}
	for i := range m.Entries {
		e := &m.Entries[i]
		e.Type, e.Term, e.Index = raft.EntryType(d.u8()), d.u64(), d.u64()
		context, data := d.u16(), d.u32()
		e.Context, e.Data = d.takePayload(context), d.takePayload(data)
	}
	if flags&flagSnapshot != 0 {
		m.Snapshot = d.snapshot()
	}
}

func (d *decoder) snapshot() *raft.Snapshot {
	s := &raft.Snapshot{}
	s.Metadata.Index, s.Metadata.Term = d.u64(), d.u64()
	cs := &s.Metadata.ConfState
	for _, ids := range [...]*[]uint64{&cs.Voters, &cs.Learners, &cs.VotersOutgoing, &cs.LearnersNext} {
		n := d.u16()
		if n*8 > len(d.head) {
			d.bad = fmt.Sprintf("%d ids in a configuration", n)
			return s
		}
		for range n {
			*ids = append(*ids, d.u64())
		}
	}
	cs.AutoLeave = d.u8() == 1
	s.Data = d.takePayload(d.u32())
	return s
}
