package partition

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"lograft/raft"
	"lograft/segment"
	"lograft/segment/vfs"
)

// openLearner makes replica 2 of the group of a solo with a learner, on an empty disk. It is filled slowly.
func openLearner(t *testing.T) *solo {
	t.Helper()
	s := &solo{t: t, fs: vfs.NewMem(), replies: map[uint64]Reply{}, limit: 4096}
	s.env = Env{Now: 1, Wall: soloStart, Clocks: func([]uint64) (int64, int64, int) { return soloStart, soloStart, 1 }}
	log, _, err := segment.Open(segment.Options{FS: s.fs, Dir: "g", Group: segment.GroupID{1}, Start: segment.Start{Index: 1, Term: 1}, SegmentBytes: s.limit, LimitOf: SegmentLimit})
	if err != nil {
		t.Fatal(err)
	}
	s.r, err = New(Options{Group: GroupID{1}, ReplicaID: 2, Peers: []Peer{{1, 1}, {2, 2}}, Birth: raft.ConfState{Voters: []uint64{1}, Learners: []uint64{2}}, Born: 1, Log: log,
		FillBytesPerTick: 2 << 10, ElectionTicks: 30, HeartbeatTicks: 1, Rand: rand.New(rand.NewPCG(1, 1)).IntN})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// talk lets a tenth of a second pass for both, and what they send arrives.
func talk(a, b *solo) {
	fromA, fromB := a.env.Out.(*kept), b.env.Out.(*kept)
	a.tick()
	b.tick()
	for range 20 {
		for _, m := range fromA.take() {
			b.r.Step(&b.env, 1, m)
			b.settle()
		}
		for _, m := range fromB.take() {
			a.r.Step(&a.env, 2, m)
			a.settle()
		}
	}
}

func (s *solo) noted(k NoteKind) (n int) {
	for i := range s.env.Notes {
		if s.env.Notes[i].Kind == k {
			n++
		}
	}
	return n
}

// A leader keeps files of trimmed segments for a replica that is being filled with them, and one of them rots. Nothing checks what is no
// part of the log: who is filled refuses the file by its hash, and would for as long as it asks for it. The leader gives the file up
// and sends a snapshot that begins behind it. broker/sim seed 1795807522475422980 on 27e1740.
func TestKeptFileRots(t *testing.T) {
	a := startSolo(t, &solo{config: Config{RetentionMs: -1, RetentionBytes: -1}, learner: true})
	a.fill(40)
	a.mustDo(Request{Op: OpTrim, Offset: 6}) // what follows can't come as entries
	a.snapshot()
	b := openLearner(t)
	a.env.Out, b.env.Out = &kept{}, &kept{}
	for range 100 {
		if b.r.fill.phase == fillPaused {
			break
		}
		talk(a, b)
	}
	if b.r.fill.phase != fillPaused {
		t.Fatalf("it is not being filled: phase %d", b.r.fill.phase)
	}
	files := b.r.fill.manifest.Segments
	a.mustDo(Request{Op: OpTrim, Offset: 30})
	rotten := files[2]
	name := fmt.Sprintf("g/%020d.log", rotten.Base)
	if a.r.log.FirstIndex() <= rotten.Last {
		t.Fatalf("segment [%d, %d] is part of the log still", rotten.Base, rotten.Last)
	}
	if err := a.fs.Corrupt(name, 300, 1); err != nil {
		t.Fatalf("the file is not kept, so this shows nothing: %v", err)
	}
	for range 100 {
		talk(a, b)
	}
	if a.noted(NoteKeptRotten) == 0 || b.r.Applied() != a.r.Applied() || b.r.fill.phase != fillNone {
		t.Errorf("%d rotten files found; applied %d of %d, fill in phase %d; %v", a.noted(NoteKeptRotten), b.r.Applied(), a.r.Applied(), b.r.fill.phase, b.env.Notes)
	}
	if _, _, err := a.fs.Stat(name); !vfs.IsNotExist(err) {
		t.Errorf("the rotten file is kept: %v", err)
	}
}

// snapshot has a snapshot made for the learner, and returns its manifest.
func (s *solo) snapshot() segment.Manifest {
	s.t.Helper()
	if _, err := s.r.st.Snapshot(2, 2); err == nil {
		s.t.Fatal("a snapshot before one was asked for")
	}
	s.settle()
	snap, err := s.r.st.Snapshot(2, 2)
	if err != nil {
		s.t.Fatal(err)
	}
	man, err := segment.DecodeManifest(snap.Data, segment.GroupID{1})
	if err != nil || len(man.Segments) < 3 {
		s.t.Fatalf("%d segments, %v", len(man.Segments), err)
	}
	return man
}

// pulls gives the replica of the test's peer a file that it asks for, or nil.
func (s *solo) pulls(file *segment.SegmentSummary) []byte {
	s.t.Helper()
	out := &kept{}
	s.env.Out = out
	ask := pullAsk{token: 1, file: *file, bytes: uint32(file.Bytes)}
	s.r.Step(&s.env, 2, raft.Message{Type: MsgPullAsk, From: 2, To: 1, Context: ask.encode()})
	s.settle()
	for _, m := range out.take() {
		if a, ok := decodePullAnswer(m.Context); m.Type == MsgPullAnswer && ok && !a.gone {
			return m.Entries[0].Data
		}
	}
	return nil
}

func (s *solo) refuses(file *segment.SegmentSummary) {
	s.t.Helper()
	ask := pullAsk{token: 1, file: *file}
	s.r.Step(&s.env, 2, raft.Message{Type: MsgPullRefused, From: 2, To: 1, Context: ask.encode()})
	s.settle()
}

// A file that is refused, or can't be read, and is part of the log becomes damage like any that a read meets, and no snapshot lists it any
// more. A file that is refused and is whole stays what it was.
func TestRefusedFileOfTheLog(t *testing.T) {
	for _, unreadable := range []bool{false, true} {
		s := startSolo(t, &solo{config: Config{RetentionMs: -1, RetentionBytes: -1}, learner: true})
		s.fill(23)
		file := &s.snapshot().Segments[1]
		s.refuses(file)
		if len(s.r.Damaged()) > 0 || s.pulls(file) == nil {
			t.Fatalf("a whole file that was refused is not given any more: %v", s.r.Damaged())
		}
		name, err := fmt.Sprintf("g/%020d.log", file.Base), error(nil)
		if unreadable {
			var f vfs.File
			if f, err = s.fs.OpenRW(name); err == nil {
				err = errors.Join(f.Truncate(file.Bytes/2), f.Close())
			}
		} else {
			err = s.fs.Corrupt(name, 300, 1)
		}
		if err != nil {
			t.Fatal(err)
		}
		if b := s.pulls(file); unreadable == (b != nil) {
			t.Fatalf("%d bytes of the bad file", len(b))
		}
		if !unreadable {
			s.refuses(file)
		}
		if d := s.r.Damaged(); len(d) != 1 || d[0].From < file.Base || d[0].From > file.Last {
			t.Errorf("unreadable %t: damage %v, want some of [%d, %d]", unreadable, d, file.Base, file.Last)
		}
		if s.pulls(file) != nil {
			t.Errorf("unreadable %t: the damaged file is sent still", unreadable)
		}
		if m := s.r.st.sources.newest(); m != nil && m.manifest.Last.Index >= file.Base {
			t.Errorf("unreadable %t: a snapshot as of %d lists the damaged file [%d, %d]", unreadable, m.manifest.Last.Index, file.Base, file.Last)
		}
	}
}
