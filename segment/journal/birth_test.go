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
