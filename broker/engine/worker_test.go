package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"lograft/broker/partition"
	"lograft/raft"
	"lograft/segment"
	"lograft/segment/journal"
	"lograft/segment/vfs"
)

type nowhere struct{}

func (nowhere) Send(uint64, partition.GroupID, *raft.Message) {}

// A group that could not be opened at boot has no replica; when its topic is deleted its removal is reported all the same, else its
// files and its id would stay for ever.
func TestRemoveOfQuarantinedGroup(t *testing.T) {
	w := NewWorker(0, 1, nowhere{})
	g := GroupID{7}
	var eff Effects
	w.Step(1, 1, []Event{{Remove: &g}}, &eff)
	if !slices.Equal(eff.Removed, []GroupID{g}) {
		t.Errorf("removed %v", eff.Removed)
	}
}

// single is a group of one replica on a file system, and its worker.
func single(t *testing.T) (*Worker, vfs.FS, GroupID) {
	t.Helper()
	fs := vfs.NewMem()
	r := replicaOn(t, fs)
	w := NewWorker(0, 1, nowhere{})
	w.Step(1, 1, []Event{{Adopt: r}}, &Effects{})
	return w, fs, r.Group()
}

// replicaOn is the one replica of a group on a file system.
func replicaOn(t *testing.T, fs vfs.FS) *partition.Replica {
	t.Helper()
	g := GroupID{7}
	log, _, err := segment.Open(segment.Options{FS: fs, Dir: "g", Group: segment.GroupID(g), Start: segment.Start{Index: 1, Term: 1}, SegmentBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	r, err := partition.New(partition.Options{Group: g, ReplicaID: 1, Peers: []partition.Peer{{ReplicaID: 1, Node: 1}}, Birth: raft.ConfState{Voters: []uint64{1}}, Born: 1,
		Log: log, Hard: raft.HardState{Term: 1, Commit: 1}, FirstLeader: true, ElectionTicks: 10, HeartbeatTicks: 1, Rand: func(int) int { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// untilEntries steps a worker until its replica, which stands for election and wins, wants entries synced.
func untilEntries(t *testing.T, w *Worker, eff *Effects) []partition.SyncItem {
	t.Helper()
	w.Step(1, 1, []Event{{Tick: true}}, eff)
	for range 3 {
		if len(eff.Sync.Items) > 0 && eff.Sync.Items[0].Log != nil {
			return slices.Clone(eff.Sync.Items)
		}
		w.Step(2, 2, []Event{{Synced: &Completion{Items: slices.Clone(eff.Sync.Items)}}}, eff)
	}
	t.Fatalf("no entry waits for a sync: %+v", eff.Sync)
	return nil
}

// A replica whose files are being synced is removed only after that: a sync of a closed file, or of a directory that is gone, would
// stop the whole broker.
func TestRemoveWaitsForSync(t *testing.T) {
	var eff Effects
	w, _, g := single(t)
	items := untilEntries(t, w, &eff)
	w.Step(3, 3, []Event{{Remove: &g}}, &eff)
	if len(eff.Removed) > 0 {
		t.Fatal("removed while its files are being synced")
	}
	if err := items[0].Log.Do(); err != nil {
		t.Fatalf("the sync under way fails: %v", err)
	}
	w.Step(4, 4, []Event{{Synced: &Completion{Items: items}}}, &eff)
	if !slices.Equal(eff.Removed, []GroupID{g}) {
		t.Errorf("removed %v", eff.Removed)
	}
}

// What still waits for a sync when a broker stops is not synced any more: its log is closed. The stop is clean all the same.
func TestStopWhileSyncWaits(t *testing.T) {
	var eff Effects
	w, fs, _ := single(t)
	items := untilEntries(t, w, &eff)
	j, err := journal.OpenTwin(fs, "j")
	if err != nil {
		t.Fatal(err)
	}
	s := NewSyncer(j)
	s.Add(&SyncRequest{Items: items})
	w.Close(&eff)
	s.logsClosed()
	if r := s.Next(); r != nil {
		if err := r.Do(); err != nil {
			t.Errorf("the last round fails: %v", err)
		}
	}
}

type sink struct{}

func (sink) Replies([]partition.Reply)      {}
func (sink) Leads([]partition.LeaderChange) {}
func (sink) Births([]GroupID)               {}
func (sink) Retired([]GroupID)              {}
func (sink) Removed([]GroupID)              {}
func (sink) Halted(error)                   {}
func (sink) Notes([]partition.Note)         {}
func (sink) Settled([]partition.Settled)    {}

func (nowhere) Flush() {}

// A write that fails ends the whole broker, not only the replica that it was for: what else is on that disk can't be trusted either.
func TestRunEndsWhenAWriteFails(t *testing.T) {
	mem := vfs.NewMem()
	fs := vfs.Inject(mem, vfs.NewRules(vfs.Rule{Op: vfs.OpWrite, Fault: vfs.Fault{Err: syscall.EIO}}))
	j, err := journal.OpenTwin(mem, "j")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	e := New(Options{Node: 1, Workers: 1, Readers: 1, TickEvery: time.Millisecond, Journal: j, Sink: sink{}, NewOutbox: func(int) Outbox { return nowhere{} },
		Now: func() (mono, wall int64) { return int64(time.Since(began)) + 1, 1 }})
	e.Post(0, Event{Adopt: replicaOn(t, fs)})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := e.Run(ctx); !errors.Is(err, syscall.EIO) {
		t.Errorf("Run ended with %v", err)
	}
}

// Every call on a file that fails ends the broker, a rename as well, which says so with another type; what is wrong with a group alone
// does not.
func TestDiskFailure(t *testing.T) {
	for _, c := range []struct {
		err  error
		ends bool
	}{
		{&fs.PathError{Op: "write", Path: "p", Err: syscall.EIO}, true},
		{&os.LinkError{Op: "rename", Old: "a", New: "b", Err: syscall.EIO}, true},
		{os.NewSyscallError("fdatasync", syscall.EIO), true},
		{errors.New("append contradicts a committed entry"), false},
	} {
		if err := diskFailure([]error{fmt.Errorf("group 1 halted: %w", c.err)}); (err != nil) != c.ends || c.ends && !errors.Is(err, c.err) {
			t.Errorf("%v: the broker ends with %v", c.err, err)
		}
	}
}
