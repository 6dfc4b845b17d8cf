package journal

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// The newest file of the persist marks vanishes. What the copies of the hard states know of the marks says so: older marks must not let a
// frame that rots at the same time pass for a torn write.
func TestNewestFileOfTheMarksVanishes(t *testing.T) {
	dir := t.TempDir() + "/journal"
	m := &maker{open: func() (Journal, error) { return OpenWAL(dir) }, files: func(log string) []string { return realFiles(t, filepath.Join(dir, log)) }}
	j := must(m.open())(t)
	id := group(1)
	j.PutBirth(Birth{Group: id, ReplicaID: 1})
	j.PutHardState(id, HardState{Term: 3})
	check(t, flush(j))
	var mark uint64
	for round := uint64(0); len(m.files("marks")) < 2; round++ {
		if round > 1000 {
			t.Fatal("the marks never filled a file")
		}
		for i := range 200 {
			mark++
			j.PutMark(group(1+i), Mark{Index: mark, Term: 3})
		}
		marks := j.BeginSync(Marks)
		err := marks.Do()
		j.EndSync(marks, err)
		check(t, err)
		if owes := j.Owes(); owes != (len(m.files("marks")) == 2) && round > 0 {
			t.Fatalf("round %d: the journal owes a sync %t, the marks have %d files", round, owes, len(m.files("marks")))
		}
		if round == 0 {
			check(t, flush(j))
		}
	}
	hard := j.BeginSync(Hard) // nothing was put but what the journal owes
	err := hard.Do()
	j.EndSync(hard, err)
	check(t, err)
	if j.Owes() {
		t.Error("it still owes")
	}
	check(t, j.Close())
	files := m.files("marks")
	check(t, os.Remove(files[len(files)-1]))
	for start := range 3 {
		j := must(m.open())(t)
		l := must(j.Load())(t)
		if start == 0 && !l.MarksDamage {
			t.Fatalf("the newest of %v is gone, and nobody says so", files)
		}
		at := slices.IndexFunc(l.Groups, func(g GroupState) bool { return g.Birth.Group == id })
		if at < 0 || l.Groups[at].MarksLost != (start < 2) {
			t.Fatalf("start %d: %+v", start, l.Groups[at])
		}
		if start == 1 {
			j.PutMark(id, Mark{Index: mark + 1, Term: 3})
			check(t, flush(j))
			j.MarksSound(id)
			check(t, flush(j))
		}
		check(t, j.Close())
	}
}

// That marks may be missing is known until each group's log was found whole and a new mark says so: not only to the start that found it,
// which may be killed before it has looked at any log.
func TestLostMarksStayLost(t *testing.T) {
	for name, m := range makes(t) {
		t.Run(name, func(t *testing.T) {
			j := must(m.open())(t)
			for i := range 3 {
				j.PutBirth(Birth{Group: group(i), ReplicaID: 1})
				j.PutHardState(group(i), HardState{Term: 3})
				j.PutMark(group(i), Mark{Index: 10, Term: 3})
			}
			check(t, flush(j))
			check(t, j.Close())
			m.drop("marks")
			lost := func(l Loaded) (ids []int) {
				for i := range l.Groups {
					if l.Groups[i].MarksLost {
						ids = append(ids, i)
					}
				}
				return ids
			}
			for _, want := range [][]int{{0, 1, 2}, {0, 1, 2}, {1, 2}, {2}, {2}} {
				j := must(m.open())(t)
				l := must(j.Load())(t)
				if got := lost(l); !slices.Equal(got, want) {
					t.Fatalf("marks of %v may be missing, want %v", got, want)
				}
				switch len(want) {
				case 3:
					if !l.MarksDamage { // the second start
						j.PutMark(group(0), Mark{Index: 10, Term: 3})
						check(t, flush(j))
						j.MarksSound(group(0))
					}
				case 2:
					j.PutSnapshotMark(group(1), SnapshotMark{Index: 20, Term: 3}) // another log in its place
					for i := range 9 {
						j.PutBirth(Birth{Group: group(2), ReplicaID: uint64(i), Settings: make([]byte, recordBytesMax-100)})
						check(t, flush(j))
					}
				}
				check(t, flush(j))
				check(t, j.Close())
			}
		})
	}
}
