package engine

import (
	"testing"

	"lograft/segment"
	"lograft/segment/journal"
	"lograft/segment/vfs"
)

// A snapshot mark voids the only persist mark that waits for its sync: the marks that come later are synced all the same. Found by
// broker/sim, TestSimFillBehind, seed 1795755687272230016.
func TestMarksGoOnAfterAVoidedOne(t *testing.T) {
	fs := vfs.NewMem()
	j, err := journal.OpenTwin(fs, "journal")
	if err != nil {
		t.Fatal(err)
	}
	s := NewSyncer(j)
	g := GroupID{1}
	s.Add(&SyncRequest{Marks: []GroupMark{{Group: g, Mark: segment.Mark{Index: 5, Term: 1}}}})
	j.PutSnapshotMark(g, journal.SnapshotMark{Index: 9, Term: 1})
	s.Add(&SyncRequest{Idle: true})
	if task := s.NextMarks(); task != nil {
		t.Fatal("a voided mark is synced")
	}
	s.Add(&SyncRequest{Marks: []GroupMark{{Group: g, Mark: segment.Mark{Index: 12, Term: 1}}}, Idle: true})
	task := s.NextMarks()
	if task == nil {
		t.Fatal("the next mark is never synced")
	}
	s.DoneMarks(task, task.Do())
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
}
