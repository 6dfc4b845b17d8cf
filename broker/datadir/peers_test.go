package datadir

import (
	"testing"
)

func openDir(t *testing.T, dir string) *Dir {
	t.Helper()
	d, err := Open(Options{Dir: dir, ClusterName: "test", NodeID: 1, AllowTmpfs: true, Random: func(b []byte) { b[0] = 7 }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// A broker that comes back with another directory, an older copy, or as a second copy of the same start is not listened to; one that
// was started again is. What was seen outlives a restart of the one who saw it.
func TestCheckPeer(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	seen := Incarnation{DirID: ID{1}, Boot: 5, Nonce: 50}
	if err := d.CheckPeer(2, seen); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = openDir(t, path)
	for _, c := range []struct {
		name string
		in   Incarnation
		ok   bool
	}{
		{"the same start", seen, true},
		{"a wiped directory", Incarnation{DirID: ID{2}, Boot: 9, Nonce: 90}, false},
		{"an older copy", Incarnation{DirID: ID{1}, Boot: 4, Nonce: 40}, false},
		{"a second copy", Incarnation{DirID: ID{1}, Boot: 5, Nonce: 51}, false},
		{"the next start", Incarnation{DirID: ID{1}, Boot: 6, Nonce: 60}, true},
		{"the start before it", seen, false},
	} {
		if err := d.CheckPeer(2, c.in); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
