package partition

import (
	"encoding/binary"
	"errors"
	"fmt"

	"lograft/raft"
	"lograft/segment"
)

// Segment files that are missing as a whole are fetched from a peer that has sealed the same ones: it is asked which files hold the
// entries, they are pulled as those of a snapshot are (fill.go), and each is put in its place (segment.InstallSegment). That a file is
// ours is proven by the next segment's header, which holds its hash; of several lost ones in a row the last comes first.

// Types of messages by which a replica learns which files hold entries that it lost (see MsgRepairAsk).
const (
	MsgFilesAsk    raft.MessageType = 135 // Context: filesAsk
	MsgFilesAnswer raft.MessageType = 136 // Context: version u8=1 | token u64; Entries: one, whose Data are summaries of 56 bytes
)

// filesMax bounds the files of one answer: the rest is asked for when they are in place.
const filesMax = 64

// filesAsk asks for the sealed segments from entry from to entry to. The last one named ends with to.
//
//	version u8=1 | token u64 | from, to u64   (little-endian)
type filesAsk struct{ token, from, to uint64 }

const (
	filesVersion  = 1
	filesAskBytes = 1 + 3*8
	fileBytes     = 3*8 + 32
)

func (a *filesAsk) encode() []byte {
	b := []byte{filesVersion}
	for _, v := range [...]uint64{a.token, a.from, a.to} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

func decodeFilesAsk(b []byte) (a filesAsk, ok bool) {
	if len(b) != filesAskBytes || b[0] != filesVersion {
		return a, false
	}
	for i, p := range [...]*uint64{&a.token, &a.from, &a.to} {
		*p = binary.LittleEndian.Uint64(b[1+8*i:])
	}
	return a, a.from > 0 && a.from <= a.to
}

func encodeFiles(files []segment.SegmentSummary) []byte {
	b := make([]byte, 0, len(files)*fileBytes)
	for i := range files {
		f := &files[i]
		for _, v := range [...]uint64{f.Base, f.Last, uint64(f.Bytes)} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		b = append(b, f.Hash[:]...)
	}
	return b
}

func decodeFiles(b []byte) (files []segment.SegmentSummary, ok bool) {
	if len(b) == 0 || len(b)%fileBytes != 0 || len(b) > filesMax*fileBytes {
		return nil, false
	}
	for ; len(b) > 0; b = b[fileBytes:] {
		f := segment.SegmentSummary{Base: binary.LittleEndian.Uint64(b), Last: binary.LittleEndian.Uint64(b[8:]), Bytes: int64(binary.LittleEndian.Uint64(b[16:]))}
		copy(f.Hash[:], b[24:])
		files = append(files, f)
	}
	return files, true
}

// lostFiles is the fetch of files that are missing.
type lostFiles struct {
	token uint64
	peer  uint64 // replica id that was asked last
	ticks int    // until the next question
	asked segment.FaultyRange
	busy  bool // the fill under way is one of them
}

const filesAskTicks = 10

// filesTick asks the next peer for what is missing as a whole.
func (r *Replica) filesTick(env *Env) {
	l := &r.lost
	if r.fill.phase != fillNone || l.busy {
		return
	}
	if l.ticks--; l.ticks > 0 {
		return
	}
	l.ticks = filesAskTicks
	peers := r.repairPeers()
	for i := range r.damage.ranges {
		f := &r.damage.ranges[i]
		if !f.Lost || f.To == 0 || len(peers) == 0 {
			continue
		}
		l.token++
		l.peer, l.asked = peerAfter(peers, l.peer), *f
		ask := filesAsk{token: l.token, from: f.From, to: f.To}
		r.send(env, &raft.Message{Type: MsgFilesAsk, From: r.opts.ReplicaID, To: l.peer, Context: ask.encode()})
		return
	}
}

// answerFiles names the sealed segments here that hold what a peer lost, if they hold all of it; of many the last ones.
func (r *Replica) answerFiles(env *Env, m *raft.Message) {
	ask, ok := decodeFilesAsk(m.Context)
	if !ok {
		return
	}
	files := r.log.Sealed(ask.from)
	n := 0
	for n < len(files) && files[n].Last <= ask.to {
		n++
	}
	files = files[:n]
	if n == 0 || files[0].Base != ask.from || files[n-1].Last != ask.to {
		return
	}
	context := binary.LittleEndian.AppendUint64([]byte{filesVersion}, ask.token)
	r.send(env, &raft.Message{Type: MsgFilesAnswer, From: r.opts.ReplicaID, To: m.From, Context: context,
		Entries: []raft.Entry{{Data: encodeFiles(files[max(0, n-filesMax):])}}})
}

// takeFiles begins to fetch the files that a peer named.
func (r *Replica) takeFiles(env *Env, m *raft.Message) {
	l := &r.lost
	if len(m.Context) != 9 || m.Context[0] != filesVersion || binary.LittleEndian.Uint64(m.Context[1:]) != l.token || m.From != l.peer ||
		len(m.Entries) != 1 || r.fill.phase != fillNone {
		return
	}
	files, ok := decodeFiles(m.Entries[0].Data)
	if !ok {
		return
	}
	first, last := &files[0], &files[len(files)-1]
	man := segment.Manifest{Group: segment.GroupID(r.opts.Group), Segments: files,
		Start: segment.Start{Index: first.Base - 1, Term: 1}, Last: segment.Start{Index: last.Last, Term: 1, Hash: last.Hash}}
	if first.Base < l.asked.From || first.Base < 2 || last.Last != l.asked.To {
		return
	}
	l.token++ // a copy of the answer finds nobody
	l.busy = true
	r.beginFill(env, raft.Message{From: m.From, To: m.To}, man)
}

// installFiles puts fetched files in place, the last one first.
func (r *Replica) installFiles(env *Env) {
	f := &r.fill
	peer, files, st := f.msg.From, f.manifest.Segments, f.staging
	f.staging = nil
	r.endFill()
	before := r.damage.entries
	for i := len(files) - 1; i >= 0; i-- {
		err := r.log.InstallSegment(st, files[i].Base)
		switch {
		case err == nil:
			r.damage.entries += files[i].Last - files[i].Base + 1
			continue
		case errors.Is(err, segment.ErrInvalid), errors.Is(err, segment.ErrBusy): // what is here changed meanwhile: asked again
			r.note(env, Note{Kind: NoteFillFailed, Peer: r.nodeOf(peer), Index: files[i].Last, Err: err})
		default:
			r.halt(env, fmt.Errorf("repair of a lost file: %w", err))
			return
		}
		break
	}
	if err := st.Close(); err != nil {
		r.halt(env, fmt.Errorf("staged files: %w", err))
		return
	}
	if r.damage.entries > before {
		r.note(env, Note{Kind: NoteRepaired, Range: r.lost.asked, Peer: r.nodeOf(peer)})
	}
	r.lookForDamage(env)
}
