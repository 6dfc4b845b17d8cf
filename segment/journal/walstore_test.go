package journal

import (
	"slices"
	"testing"
)

// After each sync the directory was synced with every name that is in it, although it is looked at only when the library may have begun
// another file. The sizes make files end in an entry, at one, and after a reopening in the middle of one.
func TestWalNamesAreSynced(t *testing.T) {
	dir := t.TempDir() + "/marks"
	l := &walLog{dir: dir}
	reopen := func() {
		if err := l.close(); err != nil {
			t.Fatal(err)
		}
		l = &walLog{dir: dir}
		if _, err := l.load(func([]byte) {}); err != nil {
			t.Fatal(err)
		}
	}
	reopen()
	files := 0
	for round := range 120 {
		recs := make([][]byte, 1+round%3)
		for i := range recs {
			recs[i] = encodeRecord(rec{seq: uint64(round), kind: kindBirth, body: make([]byte, 8+(round*7919)%(60<<10))})
		}
		if err := l.append(recs); err != nil {
			t.Fatal(err)
		}
		if err := l.sync(); err != nil {
			t.Fatal(err)
		}
		names, err := fileNames(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(names, l.files) {
			t.Fatalf("round %d: the directory was synced with %v, it holds %v", round, l.files, names)
		}
		files = max(files, len(names))
		switch round {
		case 33, 77:
			reopen()
		case 50:
			if err := l.rewrite([][]byte{encodeRecord(rec{kind: kindBirth, body: []byte("all that counts")})}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if files < 3 {
		t.Errorf("%d files at most: the test proves nothing", files)
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
}
