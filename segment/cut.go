package segment

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
)

// doneFlag is set once by whoever ran an op and read by anyone.
type doneFlag struct{ v atomic.Bool }

func (f *doneFlag) set()     { f.v.Store(true) }
func (f *doneFlag) is() bool { return f.v.Load() }

// cut is a conflict: entries from mark.Index+1 on were replaced.
type cut struct {
	gen  uint64
	mark Mark // the end of what stayed
}

// cutLog tells cold reads what was cut while they ran. It is shared with other goroutines.
type cutLog struct {
	mu   sync.Mutex
	gen  uint64
	cuts []cutAt
}

type cutAt struct{ gen, index uint64 }

// cutsKept bounds the memory of cutLog; a read that is older than all of them counts as overtaken.
const cutsKept = 64

func (c *cutLog) add(gen, index uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen = gen
	if len(c.cuts) == cutsKept {
		c.cuts = append(c.cuts[:0], c.cuts[1:]...)
	}
	c.cuts = append(c.cuts, cutAt{gen, index})
}

// since returns the lowest index that was cut after generation gen; MaxUint64 if none was.
func (c *cutLog) since(gen uint64) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	lowest := uint64(math.MaxUint64)
	if gen < c.gen && (len(c.cuts) == 0 || c.cuts[0].gen > gen+1) {
		return 0
	}
	for _, k := range c.cuts {
		if k.gen > gen {
			lowest = min(lowest, k.index)
		}
	}
	return lowest
}

// cutFrom replaces the entries from c on by nothing, in memory, and queues what the files need (storage.md "Writing 6"). p is the
// point before c.
func (l *Log) cutFrom(c uint64, p point) error {
	k := len(l.segs) - 1
	for k > 0 && l.segs[k].head.base > c {
		k--
	}
	// Segment k holds entry c or ends before it, and stays, possibly empty. Those after it go.
	fixed := false
	if k >= 0 {
		s := l.segs[k]
		fixed = s.sealed || s.sealing
		if fixed && s.last.index >= c {
			return fmt.Errorf("%w: entry %d, %s is sealed up to %d", ErrSealed, c, segmentName(s.head.base), s.last.index)
		}
	}
	var position int64
	var err error
	if k >= 0 {
		if position, err = l.positionOf(k, c); err != nil {
			return err
		}
	}
	l.gen++
	l.writes++
	l.shared.add(l.gen, c)
	l.dropSegments(k + 1)
	if k >= 0 && !fixed && (l.segs[k].last.index >= c || l.overwrite) {
		l.truncateSegment(l.segs[k], p, position)
	}
	l.last, l.next, l.time, l.nextUnknown, l.overwrite = p.id, p.next, p.time, p.nextUnknown, false
	for n := len(l.runs); n > 1 && l.runs[n-1].index >= c; n-- {
		l.runs = l.runs[:n-1]
	}
	for n := len(l.limits); n > 0 && l.limits[n-1].index >= c; n-- {
		l.limits = l.limits[:n-1]
	}
	l.tail.cut(c)
	l.cutFaulty(c)
	mark := l.endMark()
	if l.durable.Index > mark.Index {
		l.durable = mark
	}
	l.cuts = append(l.cuts, cut{l.gen, mark})
	return nil
}

// cutFaulty forgets damage from c on, but not what is known to be committed.
func (l *Log) cutFaulty(c uint64) {
	n := 0
	for _, r := range l.faulty {
		if r.From < c || r.promised {
			l.faulty[n] = r
			n++
		}
	}
	l.faulty = l.faulty[:n]
}

// dropSegments removes the segments from position k on, the newest first, and syncs the directory before anything is written.
func (l *Log) dropSegments(k int) {
	if k >= len(l.segs) {
		return
	}
	for i := len(l.segs) - 1; i >= k; i-- {
		s := l.segs[i]
		l.queue = append(l.queue, &op{kind: opRemove, path: l.path(segmentName(s.head.base)), first: s.head.base})
		l.retire(s)
		l.segs[i] = nil
	}
	l.queue = append(l.queue, &op{kind: opSyncDir, path: l.o.Dir})
	l.segs = l.segs[:k]
}

// retire gives a segment's file up once no task can use it any more.
func (l *Log) retire(s *segment) {
	if s.file != nil {
		l.retired = append(l.retired, retired{l.captures, s.file})
		s.file = nil
	}
	l.releaseRetired()
}

func (l *Log) releaseRetired() {
	n := 0
	for _, r := range l.retired {
		if r.number > l.ended || len(l.queue) > 0 {
			l.retired[n] = r
			n++
			continue
		}
		if err := r.file.release(); err != nil {
			l.fail(err)
		}
	}
	clear(l.retired[n:])
	l.retired = l.retired[:n]
}

// truncateSegment cuts s back to position, which is the end of the entry at p.
func (l *Log) truncateSegment(s *segment, p point, position int64) {
	l.queue = append(l.queue, &op{kind: opTruncate, seg: s, file: s.file, position: position, first: p.id.index + 1})
	s.dirty = l.writes
	s.size, s.onFile = position, min(s.onFile, position)
	if s.last.index != p.id.index {
		s.rolled, s.guessed, s.stale = false, false, true
		s.last, s.next, s.time = p.id, p.next, p.time
	}
	n := len(s.index)
	for n > 0 && s.index[n-1].position >= position {
		n--
	}
	s.index = s.index[:n:n] // readers may hold the rest
}

// positionOf returns where entry i begins in segment k, or the segment's end for the entry after its last.
func (l *Log) positionOf(k int, i uint64) (int64, error) {
	s := l.segs[k]
	if i == s.last.index+1 {
		return s.size, nil
	}
	if i == s.head.base {
		return segmentHeaderBytes, nil
	}
	if r := l.faultyAt(i); r != nil {
		if r.From == i && r.Segment == s.head.base {
			return r.Position, nil
		}
		return 0, &FaultyError{*r}
	}
	at, pos := seekIndex(s.index, i)
	if at == 0 {
		at = s.head.base
	}
	for ; at < i; at++ {
		if fs, ok := l.tail.from(at); ok {
			pos += fs[0].encodedBytes()
			continue
		}
		b := make([]byte, frameHeaderBytes)
		if err := readFull(s.file.f, b, pos); err != nil {
			return 0, err
		}
		f, n, err := parseHeader(b, l.o.PayloadBytesMax)
		if err != nil || f.Index != at {
			return 0, fmt.Errorf("%s at byte %d: expected the frame of entry %d", segmentName(s.head.base), pos, at)
		}
		pos += frameHeaderBytes + int64(n)
	}
	return pos, nil
}
