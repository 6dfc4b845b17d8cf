package segment

import (
	"math/rand/v2"
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
