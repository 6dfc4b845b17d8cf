package datadir

import (
	"math/rand/v2"
	"os"
	"path/filepath"
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
	if err := d.CheckPeer(2, seen, nil); err == nil {
		t.Error("a broker that has no seat is listened to")
	}
	if _, err := d.Learn([]Seat{{Node: 2, DirID: ID{1}}}, true); err != nil {
		t.Fatal(err)
	}
	if err := d.CheckPeer(2, seen, nil); err != nil {
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
		if err := d.CheckPeer(2, c.in, nil); (err == nil) != c.ok {
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
		if err := d.CheckPeer(2, in, nil); (err == nil) != ok {
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

// However many nodes peers tell of, and however many come and go, what is remembered is bounded; the cluster's own seats are always taken,
// and a node that was removed stays refused when it is forgotten.
func TestNodesRememberedAreBounded(t *testing.T) {
	d := openDir(t, t.TempDir())
	learn := func(own bool, from, to int, gone bool) {
		t.Helper()
		var seats []Seat
		for node := from; node < to; node++ {
			seats = append(seats, Seat{Node: uint64(node), DirID: ID{1}, Since: uint64(node), Gone: gone})
		}
		if _, err := d.Learn(seats, own); err != nil {
			t.Fatal(err)
		}
	}
	learn(true, 1, 4, false)
	for from := 10; from < 3*NodesMax; from += 500 {
		learn(false, from, from+500, false)
	}
	if n := len(d.Seats()); n != NodesMax {
		t.Errorf("%d nodes are remembered of what peers told, want %d", n, NodesMax)
	}
	learn(true, 4, 6, false)
	if err := d.Seated(5, ID{1}); err != nil {
		t.Errorf("a broker of the cluster's own metadata: %v", err)
	}

	d = openDir(t, t.TempDir())
	learn(true, 1, 4, false)
	for from := 10; from < 3*NodesMax; from += 500 {
		learn(true, from, from+500, true)
	}
	if n := len(d.Seats()); n != NodesMax {
		t.Errorf("%d nodes are remembered of those that came and went, want %d", n, NodesMax)
	}
	for node, ok := range map[uint64]bool{1: true, 3: true, 10: false, 3 * NodesMax: false} {
		if err := d.Seated(node, ID{1}); (err == nil) != ok {
			t.Errorf("node %d: %v", node, err)
		}
	}
}

// startOf is a start of node 2 on a directory: who it is and which starts it knows of.
func startOf(t *testing.T, path string, renewals int) (Incarnation, []Start) {
	t.Helper()
	d, err := Open(Options{Dir: path, ClusterName: "test", NodeID: 2, AllowTmpfs: true, Random: func(b []byte) {
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for range renewals {
		if err := d.RaiseBoot(); err != nil {
			t.Fatal(err)
		}
	}
	return d.Incarnation(), d.Identity().Starts
}

// peerOf is a broker that listens to the directory's first start, and to no other one yet.
func peerOf(t *testing.T, path string) *Dir {
	t.Helper()
	in, starts := startOf(t, path, 0)
	d := openDir(t, t.TempDir())
	if _, err := d.Learn([]Seat{{Node: 2, DirID: in.DirID}}, true); err != nil {
		t.Fatal(err)
	}
	if err := d.CheckPeer(2, in, starts); err != nil {
		t.Fatal(err)
	}
	return d
}

// A copy of a directory is refused however often it is started and however long it runs: its boot number passes the one that was seen,
// but it lacks that start. The directory itself is listened to, also when many of its starts were missed.
func TestOldCopyGoesOn(t *testing.T) {
	for _, renewed := range []bool{false, true} { // the copy is of before a start, or of before a renewal
		path, copied := filepath.Join(t.TempDir(), "d"), filepath.Join(t.TempDir(), "copy")
		d := peerOf(t, path)
		if err := os.CopyFS(copied, os.DirFS(path)); err != nil {
			t.Fatal(err)
		}
		var seen Incarnation
		if renewed {
			r, err := Open(Options{Dir: path, ClusterName: "test", NodeID: 2, AllowTmpfs: true, Random: func(b []byte) { b[0] = 9 }})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(copied); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(copied, os.DirFS(path)); err != nil {
				t.Fatal(err)
			}
			if err := r.RaiseBoot(); err != nil {
				t.Fatal(err)
			}
			seen = r.Incarnation()
			if err := d.CheckPeer(2, seen, r.Identity().Starts); err != nil {
				t.Fatal(err)
			}
			r.Close()
		} else {
			var starts []Start
			seen, starts = startOf(t, path, 3)
			if err := d.CheckPeer(2, seen, starts); err != nil {
				t.Fatal(err)
			}
		}
		passed := false
		for i := range 10 {
			in, starts := startOf(t, copied, i%3)
			passed = passed || in.Boot > seen.Boot
			if err := d.CheckPeer(2, in, starts); err == nil {
				t.Fatalf("renewed %t: start %d of the copy, boot %d, is listened to; boot %d was seen", renewed, i+1, in.Boot, seen.Boot)
			}
		}
		if !passed {
			t.Fatal("the copy's boot number is not the higher one: this shows nothing")
		}
		for range startsMax + 10 {
			startOf(t, path, 0)
		}
		in, starts := startOf(t, path, 1)
		if err := d.CheckPeer(2, in, starts); err != nil || len(starts) != startsMax {
			t.Errorf("renewed %t: the directory itself, %d starts: %v", renewed, len(starts), err)
		}
	}
}

// One copy of the identity rots: the directory is no old copy for that.
func TestRottenIdentity(t *testing.T) {
	for _, name := range []string{"identity.a", "identity.b"} {
		path := filepath.Join(t.TempDir(), "d")
		d := peerOf(t, path)
		file := filepath.Join(path, name)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)-3] ^= 1
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		in, starts := startOf(t, path, 0)
		if err := d.CheckPeer(2, in, starts); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
