package raft

import (
	"errors"
	"math/rand/v2"
	"testing"
)

// The window of appends is a queue with two limits; the twin is a plain slice.
func TestWindowTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		w := inflights{countMax: 1 + rng.IntN(300), bytesMax: uint64(rng.IntN(3) * 100)}
		var twin []inflight
		index := uint64(0)
		for range 400 {
			bytes := uint64(0)
			for _, e := range twin {
				bytes += e.bytes
			}
			full := len(twin) >= w.countMax || w.bytesMax != 0 && bytes >= w.bytesMax
			if w.full() != full || w.count != len(twin) || w.bytes != bytes {
				t.Fatalf("count %d, bytes %d, full %t, want %d, %d, %t", w.count, w.bytes, w.full(), len(twin), bytes, full)
			}
			switch {
			case rng.IntN(300) == 0:
				w.reset()
				twin = nil
			case !full && rng.IntN(10) < 9:
				index += 1 + uint64(rng.IntN(3))
				size := uint64(rng.IntN(40))
				w.add(index, size)
				twin = append(twin, inflight{index, size})
			default:
				to := index - min(index, uint64(rng.IntN(60)))
				w.freeTo(to)
				for len(twin) > 0 && twin[0].index <= to {
					twin = twin[1:]
				}
			}
		}
	}
}

// A snapshot that replaces a log does not make what was not stable count as stable.
func TestRestoreKeepsPersistedTrue(t *testing.T) {
	n, st := lone(t, voters(1, 2), 1, nil)
	step(t, n, Message{Type: MsgAppend, From: 2, Term: 3, LogTerm: 1, Index: 2, Commit: 5, Entries: []Entry{{Term: 3, Index: 3}, {Term: 3, Index: 4}, {Term: 3, Index: 5}}})
	rd := n.Ready()
	if err := st.Append(rd.Entries); err != nil {
		t.Fatal(err)
	}
	n.AdvanceAppendAsync(rd) // not synced
	step(t, n, Message{Type: MsgSnapshot, From: 2, Term: 3, Snapshot: &Snapshot{Metadata: SnapshotMetadata{Index: 9, Term: 3, ConfState: voters(1, 2)}}})
	for range 2 {
		if got := n.BasicStatus(); got.Persisted != 2 || got.HardState.Commit != 9 {
			t.Fatalf("persisted %d, commit %d, want 2 and 9", got.Persisted, got.HardState.Commit)
		}
		n.OnPersistReady(rd.Number) // of what the snapshot has replaced
	}
}

// Pages that wait to be applied have a buffer each; the buffers are few again afterwards, and MemoryStorage gives its memory back too.
func TestPagesAndStorageGiveMemoryBack(t *testing.T) {
	n, st := lone(t, voters(1), 0, func(c *Config) { c.MaxCommittedSizePerReady = 1 })
	if err := n.Campaign(); err != nil {
		t.Fatal(err)
	}
	drive(t, n, st)
	for range 20 {
		if err := n.Propose(nil, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for n.HasReady() {
		rd := n.Ready()
		if err := st.Append(rd.Entries); err != nil {
			t.Fatal(err)
		}
		n.AdvanceAppend(rd)
	}
	if len(n.buf.committed) < 20 {
		t.Fatalf("%d buffers for 20 pages", len(n.buf.committed))
	}
	for range 30 {
		if err := n.Propose(nil, []byte("x")); err != nil {
			t.Fatal(err)
		}
		drive(t, n, st)
	}
	if k := len(n.buf.committed); k > 4 {
		t.Errorf("%d buffers are kept, want at most 4", k)
	}

	many := make([]Entry, 50_000)
	for i := range many {
		many[i] = Entry{Term: 9, Index: uint64(i) + 1}
	}
	st = NewMemoryStorage()
	if err := errors.Join(st.Append(many), st.Compact(49_990)); err != nil {
		t.Fatal(err)
	}
	if len(st.entries) != 10 || cap(st.entries) > 2*bufferMax {
		t.Errorf("%d entries in an array of %d", len(st.entries), cap(st.entries))
	}
}
