package journal

import (
	"testing"

	"lograft/segment/vfs"
)

func openMem(t *testing.T, fs vfs.FS) (Journal, Loaded) {
	t.Helper()
	j, err := OpenTwin(fs, "j")
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := j.Load()
	if err != nil {
		t.Fatal(err)
	}
	return j, loaded
}

func sync(t *testing.T, j Journal) {
	t.Helper()
	task := j.BeginSync(Hard)
	err := task.Do()
	j.EndSync(task, err)
	if err != nil {
		t.Fatal(err)
	}
}

func size(t *testing.T, fs vfs.FS, name string) int64 {
	t.Helper()
	n, _, err := fs.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func cut(t *testing.T, fs vfs.FS, name string, bytes int64) {
	t.Helper()
	f, err := fs.OpenRW(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(bytes); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// The power goes while a birth is written, after its first record and before its hard state: nothing was promised with that birth, so
// it is as if it had not begun. A replica whose hard state is lost although it was synced stays known, and never votes again.
func TestHalfABirthIsNone(t *testing.T) {
	fs := vfs.NewMem()
	j, _ := openMem(t, fs)
	one, two := GroupID{1}, GroupID{2}
	j.PutBirth(Birth{Group: one, ReplicaID: 1})
	j.PutHardState(one, HardState{Term: 3})
	sync(t, j)
	before := size(t, fs, "j/a")
	j.PutBirth(Birth{Group: two, ReplicaID: 2})
	j.PutHardState(two, HardState{})
	sync(t, j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	cut(t, fs, "j/a", size(t, fs, "j/a")-1) // its last record, the hard state
	cut(t, fs, "j/b", before)
	j, loaded := openMem(t, fs)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if len(loaded.HardDamage) > 0 || len(loaded.Groups) != 1 || loaded.Groups[0].Birth.Group != one || loaded.Groups[0].HardStateLost {
		t.Errorf("damaged %v, groups %+v", loaded.HardDamage, loaded.Groups)
	}
	j, loaded = openMem(t, fs) // healed: the same again
	if len(loaded.Groups) != 1 || loaded.Groups[0].HardStateLost {
		t.Errorf("after healing: %+v", loaded.Groups)
	}
	j.PutBirth(Birth{Group: two, ReplicaID: 2})
	j.PutHardState(two, HardState{Term: 1})
	sync(t, j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if j, loaded = openMem(t, fs); len(loaded.Groups) != 2 || loaded.Groups[1].HardState.Term != 1 {
		t.Errorf("born later: %+v", loaded.Groups)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"j/a", "j/b"} { // both copies rot at the front, behind which all is synced
		if err := fs.Corrupt(name, 12, 1); err != nil {
			t.Fatal(err)
		}
	}
	j, loaded = openMem(t, fs)
	defer j.Close()
	for _, g := range loaded.Groups {
		if !g.HardStateLost {
			t.Errorf("group %v may vote although its hard states are damaged: %+v", g.Birth.Group[0], g)
		}
	}
}

// A replica of a group is retired, then another one of the same group is born in the same directory: nothing of the first one, no vote,
// mark or snapshot, is taken for the second's, whatever was rewritten between. The id of a retired one is known for good.
func TestAnotherReplicaOfTheGroup(t *testing.T) {
	for _, compact := range []bool{false, true} {
		fs := vfs.NewMem()
		j, _ := openMem(t, fs)
		g := GroupID{1}
		both := func() {
			t.Helper()
			for _, s := range []Scope{Hard, Marks} {
				if task := j.BeginSync(s); task != nil {
					err := task.Do()
					j.EndSync(task, err)
					if err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		j.PutBirth(Birth{Group: g, ReplicaID: 5, Settings: []byte("a")})
		j.PutHardState(g, HardState{Term: 7, Vote: 5, Commit: 100})
		both()
		j.PutSnapshotMark(g, SnapshotMark{Index: 90, Term: 6})
		both()
		j.PutMark(g, Mark{Index: 100, Term: 7})
		both()
		j.Retire(g)
		both()
		reopen := func() GroupState {
			t.Helper()
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			var loaded Loaded
			j, loaded = openMem(t, fs)
			if len(loaded.Groups) != 1 || loaded.Damaged() || loaded.Torn > 0 {
				t.Fatalf("loaded %+v", loaded)
			}
			return loaded.Groups[0]
		}
		if compact {
			if s := reopen(); !s.Retired || s.Birth.ReplicaID != 5 {
				t.Errorf("retired: %+v", s)
			}
		}
		j.PutBirth(Birth{Group: g, ReplicaID: 9, Settings: []byte("b")})
		j.PutHardState(g, HardState{Term: 1})
		both()
		for range 2 {
			s := clean(reopen())
			s.HasSnapshot = false // a mark of no snapshot is as good as none
			if s.Retired || s.Birth.ReplicaID != 9 || s.HardState != (HardState{Term: 1}) || s.HasMark || s.Snapshot != (SnapshotMark{}) {
				t.Errorf("compact %v: the second replica is %+v", compact, s)
			}
		}
	}
}
