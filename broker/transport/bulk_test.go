package transport

import (
	"testing"
	"time"

	"lograft/raft"
)

// A peer that takes nothing of the bulk class costs a bounded queue, whose overflow is named, and no message of the control class: their
// streams share neither queue nor connection, so what catches up can't starve heartbeats.
func TestStalledBulkDelaysNoControl(t *testing.T) {
	a, b := newStation(t, 1, 1), newStation(t, 2, 2)
	b.stall = make(chan struct{})
	t.Cleanup(func() { close(b.stall) })
	a.mesh.SetPeers(map[uint64]string{2: b.addr})
	end := time.Now().Add(time.Minute)
	bulk := func() (queued int, up bool) {
		for _, s := range a.mesh.Stats() {
			if s.Class == Bulk {
				return s.QueuedBytes, s.Up
			}
		}
		return 0, false
	}
	for _, up := bulk(); !up && time.Now().Before(end); _, up = bulk() {
		time.Sleep(time.Millisecond)
	}
	full := func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.dropped > 0
	}
	chunk := make([]byte, 1<<20)
	sent := 0
	for ; !full() && time.Now().Before(end); sent++ {
		enc := NewEncoder()
		enc.Add(GroupID{1}, &raft.Message{Type: OwnTypes + 3, To: 2, From: 1, Entries: []raft.Entry{{Data: chunk}}})
		a.mesh.Send(2, Bulk, enc.Frame())
		if sent%8 == 0 {
			time.Sleep(time.Millisecond) // the stream takes what its window allows
		}
	}
	if queued, up := bulk(); !full() || queued > queueBytesMax || !up {
		t.Fatalf("%d MiB sent to a peer that takes none: %d bytes wait, something dropped: %t, up: %t", sent, queued, full(), up)
	}
	heard := func() int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.clocks[1]
	}
	before := heard()
	for heard() < before+10 && time.Now().Before(end) {
		a.mesh.SendClock(1, false)
		time.Sleep(time.Millisecond)
	}
	if got := heard() - before; got < 10 {
		t.Errorf("%d messages of the control class come through beside a stalled bulk stream", got)
	}
}
