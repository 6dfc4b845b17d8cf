package partition

import (
	"math/rand/v2"
	"slices"
	"testing"

	"lograft/raft"
	"lograft/segment"
	"lograft/segment/vfs"
)

// openFollower opens the replica as one of two whose leader is node 2, for the test.
func (s *solo) openFollower() {
	s.t.Helper()
	log, rec, err := segment.Open(segment.Options{FS: s.fs, Dir: "g", Group: segment.GroupID{1}, Start: segment.Start{Index: 1, Term: 1}, SegmentBytes: s.limit, LimitOf: SegmentLimit,
		CommitFloor: s.hard.Commit})
	if err != nil || len(rec.Faulty) > 0 {
		s.t.Fatal(err, rec.Faulty)
	}
	s.r, err = New(Options{Group: GroupID{1}, ReplicaID: 1, Peers: []Peer{{1, 1}, {2, 2}}, Birth: raft.ConfState{Voters: []uint64{1, 2}}, Born: 1, Log: log,
		Hard: RestoredHardState(s.hard, log, 1), ElectionTicks: 30, HeartbeatTicks: 1, Rand: rand.New(rand.NewPCG(1, 1)).IntN})
	if err != nil {
		s.t.Fatal(err)
	}
}

// follow gives the follower one empty entry of a term.
func (s *solo) follow(term, prevTerm, index, commit uint64) {
	s.t.Helper()
	s.r.Step(&s.env, 2, raft.Message{Type: raft.MsgAppend, From: 2, To: 1, Term: term, LogTerm: prevTerm, Index: index - 1, Commit: commit, Entries: []raft.Entry{{Index: index, Term: term}}})
	s.settle()
}

// A leader overwrites entries behind a frame that has rotted since it was read last: the append is not taken, the damage is found, and
// the replica lives, so that it can be repaired.
func TestOverwriteBehindRot(t *testing.T) {
	s := &solo{t: t, fs: vfs.NewMem(), replies: map[uint64]Reply{}, limit: 4096}
	s.env = Env{Now: 1, Wall: soloStart, Out: nowhere{}, Clocks: func([]uint64) (int64, int64, int) { return soloStart, soloStart, 1 }}
	s.openFollower()
	last, index := uint64(0), uint64(2) // last: of the first segment, up to which all is committed
	for ; last == 0; index++ {
		s.follow(2, min(index-1, 2), index, index-1)
		if x := s.r.log.Extents(nil); x[0].Closed {
			last = x[0].Last
		}
	}
	for range 3 {
		s.follow(2, 2, index, last)
		index++
	}
	if x := s.r.log.Extents(nil); len(x) != 2 || !x[0].Sealed || s.r.Applied() != last {
		t.Fatalf("applied %d of %d: %s", s.r.Applied(), last, s.segments())
	}
	if err := s.r.Close(&s.env); err != nil {
		t.Fatal(err)
	}
	const segmentHead, emptyFrame = 128, 48
	if err := s.fs.Corrupt("g/00000000000000000002.log", segmentHead+emptyFrame*int64(last-2)+20, 1); err != nil {
		t.Fatal(err)
	}
	s.openFollower()
	s.follow(3, 2, last+1, last)
	if d := s.r.Damaged(); len(d) != 1 || d[0].From != last {
		t.Errorf("damage %v, want entry %d", d, last)
	}
	// The leader can't tell whether the damaged entry is its own: it replaces what would prove it. The replica asks for a snapshot, and takes
	// one that ends before its own log does if it shows that the rest was never committed. broker/sim seed 1795806783704861896.
	out := &kept{}
	s.env.Out = out
	s.follow(3, 2, last+1, last)
	for range 30 {
		s.r.Tick(&s.env)
		s.settle()
		for _, m := range out.take() {
			if ask, ok := decodeRepairAsk(m.Context); ok && m.Type == MsgRepairAsk {
				no := repairAnswer{token: ask.token, verdict: repairUnknown, sum: sumOfEntries(nil)}
				s.r.Step(&s.env, 2, raft.Message{Type: MsgRepairAnswer, From: 2, To: 1, Context: no.encode()})
			}
		}
		s.r.Step(&s.env, 2, raft.Message{Type: raft.MsgHeartbeat, From: 2, To: 1, Term: 3})
		s.settle()
	}
	if !slices.ContainsFunc(out.take(), func(m raft.Message) bool { return m.Type == raft.MsgAppendResponse && m.RequestSnapshot > 0 }) {
		t.Error("it does not ask for a snapshot")
	}
	for _, term := range []uint64{2, 3} {
		man := segment.Manifest{Group: segment.GroupID{1}, Start: segment.Start{Index: last + 2, Term: term}, Last: segment.Start{Index: last + 2, Term: term}}
		s.r.Step(&s.env, 2, raft.Message{Type: raft.MsgSnapshot, From: 2, To: 1, Term: 3, Snapshot: &raft.Snapshot{Data: man.Encode(),
			Metadata: raft.SnapshotMetadata{Index: last + 2, Term: term, ConfState: raft.ConfState{Voters: []uint64{1, 2}}}}})
		if taken := s.r.fill.phase != fillNone; taken != (term == 3) {
			t.Errorf("a snapshot of term %d below the end of a log of term 2 is taken: %v", term, taken)
		}
	}
}

// kept keeps what is sent.
type kept struct{ sent []raft.Message }

// Send implements Sender.
func (k *kept) Send(_ uint64, _ GroupID, m *raft.Message) { k.sent = append(k.sent, *m) }

func (k *kept) take() []raft.Message {
	sent := k.sent
	k.sent = nil
	return sent
}
