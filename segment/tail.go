package segment

import (
	"sort"
	"sync/atomic"
)

// TailBudget bounds the tail caches of all logs of a broker together. While they hold more, a log that appends keeps tailBytesLowest, or
// its own bound if that is less: so they hold no more than the budget says, and tailBytesLowest and what is not on file yet of each log.
// What is not cached is read from the file. It may be used by several goroutines; nil has no bound.
type TailBudget struct {
	bytesMax int64
	held     atomic.Int64
}

// NewTailBudget makes a budget of so many bytes.
func NewTailBudget(bytes int64) *TailBudget { return &TailBudget{bytesMax: bytes} }

// Held is how many bytes the tail caches hold now.
func (b *TailBudget) Held() int64 { return b.held.Load() }

func (b *TailBudget) add(n int) {
	if b != nil {
		b.held.Add(int64(n))
	}
}

func (b *TailBudget) over() bool { return b != nil && b.held.Load() > b.bytesMax }

// tailBytesLowest is what each log may cache whatever the others hold: a few batches, so that followers that keep up need no file.
const tailBytesLowest = 64 << 10

// tail keeps the newest frames, as they were appended, behind the log's end.
// Invariant: frames[head:] have consecutive indexes, and the last one is the log's last entry unless the cache is empty.
type tail struct {
	frames   []Frame
	head     int
	bytes    int
	bytesMax int
	budget   *TailBudget // holds bytes of it
}

// hold counts n bytes more, or less.
func (t *tail) hold(n int) {
	t.bytes += n
	t.budget.add(n)
}

// forget gives the bytes back to the budget: the cache is not used any more.
func (t *tail) forget() { t.hold(-t.bytes) }

// most is what the cache may hold now.
func (t *tail) most() int {
	if t.budget.over() {
		return min(t.bytesMax, tailBytesLowest)
	}
	return t.bytesMax
}

func (t *tail) live() []Frame { return t.frames[t.head:] }

// add appends f; evict may follow.
func (t *tail) add(f *Frame) {
	t.frames = append(t.frames, *f)
	t.hold(len(f.Payload) + frameHeaderBytes)
}

// evict drops the oldest frames while the cache is over its bound, but none from index pinned on.
func (t *tail) evict(pinned uint64) {
	for t.bytes > t.most() && t.head < len(t.frames) && t.frames[t.head].Index < pinned {
		t.hold(-len(t.frames[t.head].Payload) - frameHeaderBytes)
		t.frames[t.head] = Frame{}
		t.head++
	}
	if t.head > 64 && t.head*2 > len(t.frames) {
		n := copy(t.frames, t.frames[t.head:])
		clear(t.frames[n:])
		t.frames, t.head = t.frames[:n], 0
	}
}

// cut drops the frames from index c on.
func (t *tail) cut(c uint64) {
	live := t.live()
	for len(live) > 0 && live[len(live)-1].Index >= c {
		t.hold(-len(live[len(live)-1].Payload) - frameHeaderBytes)
		live[len(live)-1] = Frame{}
		live = live[:len(live)-1]
	}
	t.frames = t.frames[:t.head+len(live)]
}

// from returns the frames from index lo on; ok is false if lo is not cached.
func (t *tail) from(lo uint64) ([]Frame, bool) {
	live := t.live()
	if len(live) == 0 || lo < live[0].Index || lo > live[len(live)-1].Index {
		return nil, false
	}
	return live[lo-live[0].Index:], true
}

// fromOffset returns the frames from the one that contains off on; ok is false if that may not be cached.
func (t *tail) fromOffset(off int64) ([]Frame, bool) {
	live := t.live()
	if len(live) == 0 || off < live[0].Offset {
		return nil, false
	}
	k := sort.Search(len(live), func(k int) bool { return live[k].NextOffset() > off })
	return live[k:], true
}
