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
	if err := d.CheckPeer(2, seen); err == nil {
		t.Error("a broker that has no seat is listened to")
	}
	if _, err := d.Learn([]Seat{{Node: 2, DirID: ID{1}}}, true); err != nil {
		t.Fatal(err)
	}
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

// A directory that is registered anew for a node counts from then on, and the old one is refused, here and after a restart; older news
// of it, and news that a removed node was there, change nothing.
func TestLearn(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	old, fresh := Incarnation{DirID: ID{1}, Boot: 5, Nonce: 50}, Incarnation{DirID: ID{2}, Boot: 1, Nonce: 60}
	learn := func(want bool, seats ...Seat) {
		t.Helper()
		if news, err := d.Learn(seats, false); err != nil || news != want {
			t.Errorf("learn %+v: news %v, %v", seats, news, err)
		}
	}
	check := func(what string, in Incarnation, ok bool) {
		t.Helper()
		if err := d.CheckPeer(2, in); (err == nil) != ok {
			t.Errorf("%s: %v", what, err)
		}
	}
	learn(true, Seat{Node: 2, DirID: ID{1}, Replica: 2, Addr: "a"})
	check("the first directory", old, true)
	learn(true, Seat{Node: 2, DirID: ID{2}, Since: 40, Replica: 9, Addr: "b"})
	check("the registered directory", fresh, true)
	check("the old directory", Incarnation{DirID: ID{1}, Boot: 6, Nonce: 70}, false)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = openDir(t, path)
	learn(false, Seat{Node: 2, DirID: ID{1}, Replica: 2, Addr: "a"}, Seat{Node: 2, DirID: ID{2}, Since: 40, Replica: 9, Addr: "c"})
	check("the old directory after a restart", old, false)
	check("the registered directory after a restart", fresh, true)
	if s := d.Seats(); len(s) != 1 || s[0].Replica != 9 || s[0].Addr != "b" {
		t.Errorf("seats %+v", s)
	}
	learn(true, Seat{Node: 2, Since: 50, Gone: true})
	check("a removed node", fresh, false)
	learn(false, Seat{Node: 2, DirID: ID{2}, Since: 40, Replica: 9})
	check("a removed node that an old broker told of", fresh, false)
	learn(true, Seat{Node: 2, Since: 60, Addr: "d"})
	check("an added node that has not registered", fresh, false)
	learn(true, Seat{Node: 2, DirID: ID{3}, Since: 61, Replica: 12, Addr: "d"})
	check("the added node", Incarnation{DirID: ID{3}, Boot: 1, Nonce: 1}, true)
}
