package group

import (
	"bytes"
	"runtime"
	"testing"
)

func fuzzCommands() [][]byte {
	list := []Topic{{Name: "t", ID: ID{1}, Partitions: 3}}
	return [][]byte{
		(&Join{RequestID: ID{1}, Group: "g", Member: ID{7}, ClientID: "c", SessionMs: 10_000, PollMs: 20_000, Topics: list}).Encode(),
		(&Join{RequestID: ID{2}, Group: "g", Member: ID{8}, SessionMs: 10_000, PollMs: 20_000, Topics: list}).Encode(),
		(&Acknowledge{RequestID: ID{3}, Group: "g", Member: ID{7}, Generation: 2, Owned: []TP{{"t", 0}}}).Encode(),
		(&Commit{RequestID: ID{4}, Group: "g", Member: ID{7}, Generation: 2, Offsets: []TopicOffset{{TP{"t", 0}, ID{1}, 5, 0}}}).Encode(),
		(&Leave{RequestID: ID{5}, Group: "g", Member: ID{8}}).Encode(),
		(&Seek{RequestID: ID{6}, Group: "h", Topics: list, Offsets: []TopicOffset{{TP{"t", 2}, ID{1}, 9, 0}}}).Encode(),
		(&Delete{RequestID: ID{7}, Group: "nosuch"}).Encode(),
		(&expire{group: "g", member: ID{8}, instance: 3}).encode(),
		(&topics{"g", list}).encode(),
		(&forget{group: "h", retentionMs: 1000}).encode(),
	}
}

func fuzzState() *State {
	s := NewState()
	for i, c := range fuzzCommands() {
		s.Apply(uint64(i+2), 1000, c)
	}
	return s
}

// A command of any bytes gets an answer and never a panic; the state is the same on every broker that applies it, and survives a snapshot.
func FuzzCommand(f *testing.F) {
	for _, c := range fuzzCommands() {
		f.Add(c)
	}
	base := fuzzState().Snapshot()
	f.Fuzz(func(t *testing.T, command []byte) {
		one, two := fuzzState(), NewState()
		if err := two.Restore(base); err != nil {
			t.Fatal(err)
		}
		a, b := one.Apply(100, 5000, command), two.Apply(100, 5000, command)
		if !bytes.Equal(a, b) || !bytes.Equal(one.Snapshot(), two.Snapshot()) {
			t.Fatal("two brokers make different things of one command")
		}
		if (one.Fault() == nil) != (two.Fault() == nil) {
			t.Fatalf("one broker goes on and one does not: %v and %v", one.Fault(), two.Fault())
		}
		if _, err := DecodeResult(a); err != nil {
			t.Fatal(err)
		}
		if err := two.Restore(one.Snapshot()); err != nil || !bytes.Equal(one.Snapshot(), two.Snapshot()) {
			t.Fatalf("the state is not that of its snapshot: %v", err)
		}
	})
}

// A snapshot of any bytes is taken or refused, never a panic; it costs no more than its bytes can hold.
func FuzzRestore(f *testing.F) {
	f.Add(fuzzState().Snapshot())
	f.Add(NewState().Snapshot())
	f.Add((&Result{Reason: ReasonInvalid, Message: "m", Generation: 7}).encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		n := NewState()
		before := n.Snapshot()
		var began, ended runtime.MemStats
		runtime.ReadMemStats(&began)
		err := n.Restore(data)
		_, _ = DecodeResult(data)
		runtime.ReadMemStats(&ended)
		if cost := ended.TotalAlloc - began.TotalAlloc; cost > 8<<20+64*uint64(len(data)) {
			t.Fatalf("%d bytes cost %d bytes of memory", len(data), cost)
		}
		if err != nil {
			if !bytes.Equal(n.Snapshot(), before) {
				t.Fatal("a snapshot that was refused changed the state")
			}
			return
		}
		if err := n.Restore(n.Snapshot()); err != nil {
			t.Fatal(err)
		}
	})
}
