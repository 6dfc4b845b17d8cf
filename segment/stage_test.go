package segment

import (
	"math/rand/v2"
	"syscall"
	"testing"

	"lograft/segment/vfs"
)

// A crash left a staged file under both its names, whole: one of them goes, and what is left is what the install takes. Found by
// broker/sim, TestSimFillBehind, seed 1795755745341458115.
func TestStagedUnderBothNames(t *testing.T) {
	o := testOptions(nil)
	src, want := newSource(t, rand.New(rand.NewPCG(3, 4)), o)
	m, pin := manifest(t, src)
	if len(m.Segments) == 0 {
		t.Fatal("the source was trimmed to nothing: use another seed")
	}
	mem := vfs.NewMem()
	o.FS = mem
	l, _ := mustOpen(t, o)
	s := &m.Segments[0]
	file := readAll(t, src.o.FS, src.path(segmentName(s.Base)))
	replace(t, mem, l.path(s.stagedName(stageSuffix)), file)
	replace(t, mem, l.path(s.stagedName(partSuffix)), file)
	if err := install(l, m, pin, func(SnapshotMark) {}); err != nil {
		t.Fatal(err)
	}
	if err := checkInstalled(l, m, want); err != nil {
		t.Fatal(err)
	}
}

// The file that is kept for a pin after its segment was dropped is no part of the log: a check of its own finds what rots in it, or is gone
// noDescriptors opens nothing. It implements vfs.Injector.
type noDescriptors struct{}

func (noDescriptors) Before(c vfs.Call) vfs.Fault {
	if c.Op == vfs.OpOpen {
		return vfs.Fault{Err: syscall.EMFILE}
	}
	return vfs.Fault{}
}

// from it. What is part of the log, or kept for nobody, is none.
func TestKeptFileIsChecked(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, damage := range []string{"", "header", "frame", "footer", "short", "missing"} {
		var src *Log
		var m Manifest
		var pin *Pin
		for len(m.Segments) == 0 {
			src, _ = newSource(t, rng, testOptions(nil))
			m, pin = manifest(t, src)
		}
		first, mem := m.Segments[0], src.o.FS.(*vfs.Mem)
		name := src.path(segmentName(first.Base))
		if src.BeginKept(first) != nil {
			t.Error("a segment of the log is checked as a kept file")
		}
		if err := src.TruncateFront(first.Last); err != nil {
			t.Fatal(err)
		}
		file := readAll(t, mem, name)
		switch damage {
		case "header", "frame", "footer":
			off := map[string]int64{"header": 20, "frame": segmentHeaderBytes + 20, "footer": first.Bytes - 20}[damage]
			if err := mem.Corrupt(name, off, 1); err != nil {
				t.Fatal(err)
			}
		case "short":
			replace(t, mem, name, file[:len(file)/2])
		case "missing":
			if err := mem.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		task := src.BeginKept(first)
		if task == nil {
			t.Fatal("a kept file is not checked")
		}
		if task.Do(); (task.Err == nil) != (damage == "") || task.Damaged() != (damage != "") {
			t.Errorf("damage %q: %v, damaged %t", damage, task.Err, task.Damaged())
		}
		full := src.BeginKept(first)
		full.fs = vfs.Inject(mem, noDescriptors{})
		if full.Do(); full.Err == nil || full.Damaged() {
			t.Errorf("no descriptor left: %v, damaged %t", full.Err, full.Damaged())
		}
		other := first
		other.Hash[0]++
		if src.BeginKept(other) != nil {
			t.Error("a file that nobody keeps is checked")
		}
		if damage != "missing" {
			src.Unpin(pin)
			if src.BeginKept(first) != nil {
				t.Error("a file that went with its pin is checked")
			}
		}
	}
}
