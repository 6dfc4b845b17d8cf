package segment

import (
	"errors"
	"slices"
)

// SyncTask makes durable what the log held when BeginSync made it. Do may run on any goroutine, but tasks of one log run one at a
// time, each before EndSync of it; a task that was not started may be dropped for a later one, which covers it.
type SyncTask struct {
	log    *Log
	number uint64
	writes uint64
	gen    uint64
	mark   Mark // what is durable once the task is done
	before Mark // durable when it was made
	queue  []*op
	files  []*handle
	segs   []*segment
	dir    bool
	failed error
}

// BeginSync captures what is not durable yet: queued file changes, unsynced files and names. It returns nil if there is none.
func (l *Log) BeginSync() *SyncTask {
	t := &SyncTask{log: l, writes: l.writes, gen: l.gen, mark: l.endMark(), before: l.durable, failed: l.failed, dir: l.dirDirty > 0}
	for _, s := range l.segs {
		if s.dirty > 0 && s.file != nil {
			t.segs = append(t.segs, s)
			t.files = append(t.files, s.file)
		}
	}
	t.queue = slices.Clone(l.queue)
	if len(t.files) == 0 && len(t.queue) == 0 && !t.dir && l.failed == nil {
		return nil
	}
	l.captures++
	t.number = l.captures
	return t
}

// Marks returns the persist marks that must be journalled and synced before Do: a cut is about to destroy entries that an older mark
// may promise. Usually none.
func (t *SyncTask) Marks() []Mark {
	for _, o := range t.queue {
		if (o.kind == opTruncate || o.kind == opRemove) && !o.done.is() {
			return []Mark{t.before}
		}
	}
	return nil
}

// Do changes and syncs the files: cuts, sync, waiting writes, then one sync per file and one of the directory if names changed. An
// error is final: hand it to EndSync. After Close there is nothing to make durable, and no error.
func (t *SyncTask) Do() error {
	if t.failed != nil {
		return t.failed
	}
	if err := t.do(); err != nil && !t.log.closed.Load() {
		return err
	}
	return nil
}

func (t *SyncTask) do() error {
	fs := t.log.o.FS
	for _, o := range t.queue {
		if o.done.is() {
			continue
		}
		if err := held(o.file, func() error { return o.run(fs) }); err != nil {
			return err
		}
	}
	for _, h := range t.files {
		if err := held(h, func() error { return h.f.Sync() }); err != nil {
			return err
		}
	}
	if t.dir {
		return fs.SyncDir(t.log.o.Dir)
	}
	return nil
}

// held runs do while h, if it is a file's, can't be closed: a closed log does not take a file away in the middle of a call.
func held(h *handle, do func() error) error {
	if h == nil {
		return do()
	}
	if !h.tryAcquire() {
		return ErrClosed
	}
	return errors.Join(do(), h.release())
}

// EndSync publishes what t made durable, unless err, the result of Do, stops the log. A task that began before a conflict publishes
// nothing of what the conflict replaced.
func (l *Log) EndSync(t *SyncTask, err error) error {
	if err != nil {
		return l.fail(err)
	}
	if l.failed != nil {
		return l.failed
	}
	l.ended = t.number
	for len(l.queue) > 0 && l.queue[0].done.is() {
		l.opDone(l.queue[0], l.queue[1:])
		l.queue[0] = nil
		l.queue = l.queue[1:]
	}
	for _, s := range t.segs {
		if s.dirty <= t.writes {
			s.dirty = 0
		}
	}
	if l.dirDirty <= t.writes {
		l.dirDirty = 0
	}
	m := t.mark
	n := 0
	for _, c := range l.cuts {
		if c.gen <= t.gen {
			continue
		}
		l.cuts[n] = c
		n++
		if c.mark.Index < m.Index {
			m = c.mark
		}
	}
	l.cuts = l.cuts[:n]
	if m.Index > l.durable.Index {
		l.durable = m
	}
	if err := l.drain(t); err != nil {
		return l.fail(err)
	}
	l.tail.evict(l.firstQueued())
	l.releaseRetired()
	return l.failed
}

// drain runs queued writes on the spot if no begun task holds them and no cut is among them: appends go straight to the file again.
func (l *Log) drain(t *SyncTask) error {
	if t.number != l.captures {
		return nil
	}
	for _, o := range l.queue {
		if o.kind != opWrite && o.kind != opCreate {
			return nil
		}
	}
	for _, o := range l.queue {
		if err := o.run(l.o.FS); err != nil {
			return err
		}
		l.opDone(o, nil)
	}
	l.queue = nil
	return nil
}

// opDone notes what a file holds for good after o: nothing beyond where a cut that still waits behind it will cut.
func (l *Log) opDone(o *op, waiting []*op) {
	if o.seg == nil {
		return
	}
	end := o.position + o.bytes
	for _, w := range waiting {
		if w.kind == opTruncate && w.seg == o.seg {
			end = min(end, w.position)
		}
	}
	o.seg.onFile = end
}

// firstQueued is the first index that is not on file, or the one after the last.
func (l *Log) firstQueued() uint64 {
	first := l.last.index + 1
	for _, o := range l.queue {
		if o.first > 0 {
			first = min(first, o.first)
		}
	}
	return first
}
