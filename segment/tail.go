package segment

import "sort"

// tail keeps the newest frames, as they were appended, behind the log's end.
// Invariant: frames[head:] have consecutive indexes, and the last one is the log's last entry unless the cache is empty.
type tail struct {
	frames   []Frame
	head     int
	bytes    int
	bytesMax int
}

func (t *tail) live() []Frame { return t.frames[t.head:] }

// add appends f; evict may follow.
func (t *tail) add(f *Frame) {
	t.frames = append(t.frames, *f)
	t.bytes += len(f.Payload) + frameHeaderBytes
}

// evict drops the oldest frames while the cache is over its bound, but none from index pinned on.
func (t *tail) evict(pinned uint64) {
	for t.bytes > t.bytesMax && t.head < len(t.frames) && t.frames[t.head].Index < pinned {
		t.bytes -= len(t.frames[t.head].Payload) + frameHeaderBytes
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
		t.bytes -= len(live[len(live)-1].Payload) + frameHeaderBytes
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
