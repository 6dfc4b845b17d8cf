package segment

import (
	"errors"
	"slices"

	"lograft/segment/vfs"
)

// ClosedLasts returns the last index of every segment that is closed but not sealed, oldest first.
func (l *Log) ClosedLasts() []uint64 {
	var lasts []uint64
	for _, s := range l.segs {
		if !s.sealed && s.closed() {
			lasts = append(lasts, s.last.index)
		}
	}
	return lasts
}

// SealNext returns the last index of the newest segment that ends at or before applied and waits for a checkpoint: closed and not
// sealed, or, if it ends with applied, sealed without a good checkpoint. When it equals applied, the state machine's checkpoint belongs
// to that segment.
func (l *Log) SealNext(applied uint64) (last uint64, ok bool) {
	l.applied = max(l.applied, applied)
	for _, s := range l.segs {
		if s.sealing || s.last.index > applied {
			continue
		}
		if !s.sealed && s.closed() || s.sealed && !s.state && s.last.index == applied {
			last, ok = s.last.index, true
		}
	}
	return last, ok
}

// SealTask writes a segment's checkpoint and footer.
type SealTask struct {
	log   *Log
	seg   *segment
	file  *handle
	foot  footer
	at    int64 // position of the footer
	name  string
	state []byte
	tail  []byte // the encoded footer; none if the segment is sealed and lacks its checkpoint only
}

// BeginSeal starts sealing the segment that ends with entry last, whose state is checkpoint. It returns nil while that is not possible:
// there is no such segment, its entries are not applied (SealNext tells) or not durable, another seal is under way, or it is damaged.
func (l *Log) BeginSeal(last uint64, checkpoint []byte) *SealTask {
	k := l.segmentOf(last)
	if l.failed != nil || k < 0 || l.segs[k].last.index != last || slices.ContainsFunc(l.segs, func(s *segment) bool { return s.sealing }) {
		return nil
	}
	s := l.segs[k]
	if l.applied < last || l.durable.Index < last || l.damaged(s) || l.overwrite {
		return nil
	}
	t := &SealTask{log: l, seg: s, name: stateName(s.head.base)}
	if s.sealed {
		if s.state {
			return nil
		}
		t.state = encodePoint(stateMagic, l.o.Group, s.end(), checkpoint)
		s.sealing = true
		return t
	}
	if !s.closed() || s.onFile != s.size {
		return nil
	}
	sum, err := l.sumOf(s)
	if err != nil {
		l.fail(err)
		return nil
	}
	t.file, t.at, t.foot = s.file.acquire(), s.size, l.footerOf(s, sum)
	t.tail = t.foot.encode(l.o.Group, s.head.base)
	at := Start{Index: s.last.index, Term: s.last.term, Offset: s.next, AppendTime: s.time, Hash: sum, Limit: t.foot.nextLimit}
	t.state = encodePoint(stateMagic, l.o.Group, at, checkpoint)
	s.sealing = true
	return t
}

// footerOf is the footer of a closed segment whose frames sum up to sum.
func (l *Log) footerOf(s *segment, sum [32]byte) footer {
	next := l.limitAt(s.last.index + 1)
	if k := l.segmentOf(s.last.index); k+1 < len(l.segs) && l.segs[k+1].head.prev == s.last {
		next = l.segs[k+1].head.limit
	}
	return footer{
		last: s.last, next: s.next, time: s.time, position: s.size, hash: sum, nextLimit: next,
		index: s.index, runs: l.runsOf(s),
	}
}

func (l *Log) damaged(s *segment) bool {
	for i := range l.faulty {
		if r := &l.faulty[i]; r.From <= s.last.index && (r.To == 0 || r.To >= s.head.base) {
			return true
		}
	}
	return false
}

// runsOf returns the term runs of a segment.
func (l *Log) runsOf(s *segment) []termRun {
	var runs []termRun
	for _, r := range l.runs {
		switch {
		case r.index > s.last.index:
			return runs
		case r.index <= s.head.base:
			runs = append(runs[:0], termRun{s.head.base, r.term})
		default:
			runs = append(runs, r)
		}
	}
	return runs
}

// Do writes and syncs the checkpoint, then writes and syncs the footer. It runs on any goroutine, once, before EndSeal.
func (t *SealTask) Do() error {
	if err := t.do(); err != nil && !t.log.closed.Load() {
		return err
	}
	return nil
}

func (t *SealTask) do() error {
	if err := writeFile(t.log.o.FS, t.log.o.Dir, t.name, t.state); err != nil {
		return err
	}
	if t.tail == nil {
		return nil
	}
	if _, err := t.file.f.WriteAt(t.tail, t.at); err != nil {
		return err
	}
	return t.file.f.Sync()
}

// writeFile replaces dir/name by data, durably: a crash leaves the old file, the new one, or, if there was no old one, a part.
func writeFile(fs vfs.FS, dir, name string, data []byte) (err error) {
	tmp := dir + "/" + name + ".tmp"
	if err := fs.Remove(tmp); err != nil && !vfs.IsNotExist(err) {
		return err
	}
	f, err := fs.Create(tmp)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(data, 0); err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(tmp, dir+"/"+name); err != nil {
		return err
	}
	return fs.SyncDir(dir)
}

// EndSeal publishes the sealed segment; err, the result of Do, stops the log.
func (l *Log) EndSeal(t *SealTask, err error) error {
	if t.file != nil {
		err = errors.Join(err, t.file.release())
	}
	if l.failed != nil {
		return l.failed
	}
	if err != nil {
		return l.fail(err)
	}
	t.seg.sealing, t.seg.state = false, true
	if t.tail != nil {
		l.publishSealed(t.seg, &t.foot, t.at+int64(len(t.tail)))
	}
	return l.failed
}

// publishSealed makes s, whose footer is on stable storage, a sealed segment.
func (l *Log) publishSealed(s *segment, foot *footer, fileBytes int64) {
	index := s.index
	s.cold.Store(&index)
	s.index, s.hash = nil, nil
	s.sealed, s.sum, s.nextLimit, s.fileBytes = true, foot.hash, foot.nextLimit, fileBytes
	l.uses++
	s.used = l.uses
	l.closeSealed(s)
}

// Checkpoint returns the newest good checkpoint that Open found and the index it belongs to. The bytes are the log's; they are
// forgotten after ForgetCheckpoint.
func (l *Log) Checkpoint() (index uint64, data []byte, ok bool) {
	if l.checkpoint == nil {
		return 0, nil, false
	}
	return l.checkpoint.index, l.checkpoint.data, true
}

// ForgetCheckpoint frees the checkpoint that Open read.
func (l *Log) ForgetCheckpoint() { l.checkpoint = nil }
