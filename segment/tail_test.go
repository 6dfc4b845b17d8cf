package segment

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"lograft/segment/vfs"
)

// Many logs draw on one budget: together they hold no more than it says, and the least and one append of each; every entry is still read,
// from memory or from its file; and what was cut, closed or replaced is given back to the last byte.
func TestTailBudget(t *testing.T) {
	const (
		logs      = 8
		bytesMax  = 1 << 20
		appendMax = 40 << 10
	)
	budget := NewTailBudget(bytesMax)
	rng := rand.New(rand.NewPCG(8, 8))
	var all []*Log
	var makers []*maker
	for i := range logs {
		o := testOptions(vfs.NewMem())
		o.Dir, o.Tails, o.TailCacheBytes, o.SegmentBytes = fmt.Sprintf("data/%d", i), budget, 4<<20, 8<<20
		l, _ := mustOpen(t, o)
		all, makers = append(all, l), append(makers, newMaker(rng))
	}
	over := 0
	held := func() (n int64) {
		for _, l := range all {
			n += int64(l.tail.bytes)
		}
		return n
	}
	for range 600 {
		k := rng.IntN(logs)
		var frames []Frame
		for size := 0; size < appendMax/2; {
			f := makers[k].next()
			frames, size = append(frames, f), size+len(f.Payload)+frameHeaderBytes
		}
		mustAppend(t, all[k], frames...)
		if budget.over() {
			over++
		}
		if n := budget.Held(); n != held() || n > bytesMax+logs*(tailBytesLowest+appendMax) {
			t.Fatalf("the budget counts %d bytes, the logs hold %d, the bound is %d", n, held(), bytesMax)
		}
	}
	if over == 0 {
		t.Fatal("the budget was never used up")
	}
	for k, l := range all {
		first, last := l.FirstIndex(), l.LastIndex()
		for _, i := range []uint64{first, (first + last) / 2, last} {
			if f, err := l.FrameAt(i); err != nil || f.Index != i {
				t.Errorf("log %d entry %d: %v", k, i, err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := budget.Held(); n != 0 {
		t.Errorf("%d bytes are held by no log", n)
	}
}
