package broker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lograft/segment"
	"lograft/segment/journal"
	"lograft/segment/vfs"
)

// A data directory looked at offline: good as it is; a flipped byte below the persist mark is named although nothing follows it; bytes of
// a torn write are none; and no look changes a file.
func TestInspectOffline(t *testing.T) {
	dir := t.TempDir()
	j, err := journal.OpenWAL(dir + "/journal")
	if err != nil {
		t.Fatal(err)
	}
	group := segment.GroupID{9}
	o := segment.Options{FS: vfs.OS(), Dir: dir + "/groups/09", Group: group, Start: segment.Start{Index: 1, Term: 1}}
	l, _, err := segment.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(2); i < 6; i++ {
		if err := l.Append([]segment.Frame{{Index: i, Term: 1, Kind: segment.KindCommand, Payload: make([]byte, 100)}}); err != nil {
			t.Fatal(err)
		}
	}
	s := l.BeginSync()
	if err := l.EndSync(s, s.Do()); err != nil {
		t.Fatal(err)
	}
	j.PutBirth(journal.Birth{Group: group, ReplicaID: 1})
	j.PutHardState(group, journal.HardState{Term: 1})
	j.PutMark(group, journal.Mark(l.DurableMark()))
	for _, scope := range []journal.Scope{journal.Hard, journal.Marks} {
		task := j.BeginSync(scope)
		err := task.Do()
		j.EndSync(task, err)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	look := func(at string) (entries int, problems, other string) {
		t.Helper()
		before := tree(t, dir)
		r, err := InspectOffline(at, func(string, uint64, int64, segment.Frame) error { entries++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		if tree(t, dir) != before {
			t.Fatal("the look changed a file")
		}
		return entries, strings.Join(r.Groups[0].Problems, "\n"), strings.Join(r.Groups[0].Other, "\n")
	}
	for _, at := range []string{dir, dir + "/groups", o.Dir} {
		if n, problems, _ := look(at); n != 4 || problems != "" {
			t.Errorf("%s: %d entries, %s", at, n, problems)
		}
	}
	file := o.Dir + "/00000000000000000002.log"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(file, b, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	write(append(b[:len(b):len(b)], "half a frame"...))
	if _, problems, other := look(dir); problems != "" || !strings.Contains(other, "torn write, which the next start cuts off") {
		t.Errorf("torn: %q %q", problems, other)
	}
	b[len(b)-20] ^= 1
	write(b)
	if n, problems, _ := look(dir); n != 3 || !strings.Contains(problems, "entries 5 to 5 were on stable storage once") {
		t.Errorf("flipped: %d entries, %q", n, problems)
	}
	if _, err := InspectOffline(t.TempDir(), nil); err == nil {
		t.Error("an empty directory was taken for data")
	}
}

// tree is every file below dir with its bytes.
func tree(t *testing.T, dir string) string {
	var all strings.Builder
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		all.WriteString(p)
		all.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
