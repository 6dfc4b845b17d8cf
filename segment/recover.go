package segment

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"lograft/segment/vfs"
)

// Recovery says what Open found and did.
type Recovery struct {
	Created         bool // the directory was empty
	Last            uint64
	LastTerm        uint64
	LastKnown       bool // false: damage hides the last (index, term): grant no vote until it is overwritten or repaired
	SegmentsSealed  int  // taken over by their footers
	SegmentsScanned int
	FramesScanned   int
	HeadersRebuilt  int    // damaged segment headers, written anew from the segment before
	FootersCut      int    // torn footers: those segments are sealed again
	Resealed        int    // segments that had lost their footer
	TornFrom        uint64 // first index of a torn tail; 0: none
	TornBytes       int64  // cut off, files included
	Aside           string // directory that holds a copy of what was cut off
	AsideSkipped    string // why some of it was not copied
	StatesBad       int    // unreadable checkpoints that were passed over
	StartDamaged    bool   // the file that says where a trimmed log begins was unreadable; the first segment said it
	FilesBad        int    // segment files that could not be placed, renamed to *.bad
	Leftovers       int    // files of an unfinished trim that were removed
	InstallFinished bool   // a snapshot was being swapped in: the swap was finished
	StagedUnknown   bool   // a staged manifest that the journal's mark does not name was removed
	Faulty          []FaultyRange
	Durable         Mark // the end of what the log holds now: all of it is synced
}

// Open opens or creates a log and decides by the verdict table of storage.md what every bad byte is: a torn tail is copied aside and
// cut, damage becomes a FaultyRange and is left as it is. Everything that the log then holds is synced before Open returns. An error
// means that nothing was decided: the directory could not be read, was written by a newer version, or contradicts itself.
func Open(o Options) (*Log, Recovery, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, Recovery{}, err
	}
	if o.AcceptLoss {
		if err := o.rehearse(); err != nil {
			return nil, Recovery{}, fmt.Errorf("open log %s: %w", o.Dir, err)
		}
	}
	return open(o)
}

// open is Open with options that are whole.
func open(o Options) (*Log, Recovery, error) {
	l := &Log{o: o, start: o.Start, shared: &cutLog{}, tail: tail{bytesMax: o.TailCacheBytes, budget: o.Tails}}
	l.o.CommitFloor = max(o.CommitFloor, o.Snapshot.Index)
	if o.AcceptLoss {
		l.o.Mark, l.o.CommitFloor, l.o.JournalDamaged = Mark{}, 0, false
	}
	r := &recovery{l: l, fs: o.FS}
	if err := r.run(); err != nil {
		err = fmt.Errorf("open log %s: %w", o.Dir, err)
		for _, f := range slices.Concat(r.files, r.bad) {
			err = errors.Join(err, f.close())
		}
		return nil, r.rec, errors.Join(err, l.Close())
	}
	return l, r.rec, nil
}

// openError says that durable files contradict each other, so that no verdict about single entries is possible.
type openError struct{ file, what string }

func (e *openError) Error() string {
	return e.file + ": " + e.what + ": move the directory away and let a peer refill it"
}

// recovery is the state of one Open.
type recovery struct {
	l     *Log
	fs    vfs.FS
	rec   Recovery
	floor uint64 // entries up to here were durable: a bad one is damage
	files []*found
	at    point // the end of what was accepted
	torn  bool  // the tail is to be cut: later files go
	// drops are the files that go with a torn tail, in order, and cut is the segment whose end goes after them. They go newest first and one
	// by one, so that a crash leaves what a torn tail looks like, and never a hole before a file that is part of no log.
	drops []*found
	cut   *segment
	// tailBad: bytes that are damage, not torn, follow the last accepted frame.
	tailBad bool
	states  []uint64 // bases of checkpoint files, ascending
	bad     []*found // files that could not be placed, by this Open or one before: their footers still promise, and they may hide the end
	asideAt int64    // bytes copied aside so far
}

// found is a segment file as it lies there.
type found struct {
	base    uint64
	name    string
	size    int64
	f       vfs.File
	head    header
	headErr error
	foot    *footer
}

func (f *found) close() error {
	if f.f == nil {
		return nil
	}
	file := f.f
	f.f = nil
	return file.Close()
}

func (r *recovery) run() error {
	if err := r.directory(); err != nil {
		return err
	}
	if err := r.finishInstall(); err != nil {
		return err
	}
	if err := r.list(); err != nil {
		return err
	}
	if err := r.readEnds(); err != nil {
		return err
	}
	l := r.l
	if err := r.findStart(); err != nil {
		return err
	}
	r.at = point{id: entryID{l.start.Index, l.start.Term}, next: l.start.Offset, time: l.start.AppendTime}
	l.runs = []termRun{{l.start.Index, l.start.Term}}
	if err := r.raiseFloor(); err != nil {
		return err
	}
	for i, f := range r.files {
		if err := r.accept(i, f); err != nil {
			return err
		}
	}
	l.last, l.next, l.time, l.nextUnknown = r.at.id, r.at.next, r.at.time, r.at.nextUnknown
	r.judgeTail()
	return r.finish()
}

// raiseFloor adds what the files say themselves: an entry that a footer or a checkpoint speaks of was applied, hence committed and durable,
// whatever became of the file that holds it.
func (r *recovery) raiseFloor() error {
	o := &r.l.o
	if o.AcceptLoss {
		return nil
	}
	sealed := map[uint64]bool{}
	for _, f := range slices.Concat(r.files, r.bad) {
		if f.foot != nil && f.base > r.l.start.Index {
			sealed[f.base] = true
			o.CommitFloor = max(o.CommitFloor, f.foot.last.index)
		}
	}
	if n := len(r.states); n > 0 && r.states[n-1] > r.l.start.Index && !sealed[r.states[n-1]] {
		b, err := readWhole(r.fs, r.l.path(stateName(r.states[n-1])), checkpointBytesMax)
		if err != nil && !errors.Is(err, errTooLarge) && !errors.Is(err, io.ErrUnexpectedEOF) && !vfs.IsUnreadable(err) {
			return err
		}
		if at, _, err := decodePoint(b, stateMagic, o.Group); err == nil {
			o.CommitFloor = max(o.CommitFloor, at.Index)
		}
	}
	r.floor = max(o.Mark.Index, o.CommitFloor)
	return nil
}

// directory makes the log's directory if it is missing. Its name and those above it become durable in finish.
func (r *recovery) directory() error {
	_, isDir, err := r.fs.Stat(r.l.o.Dir)
	if err == nil && !isDir {
		return errors.New("it is a file")
	}
	if err != nil && !vfs.IsNotExist(err) {
		return err
	}
	if err == nil {
		return nil
	}
	var missing []string
	for dir := path.Clean(r.l.o.Dir); ; dir = path.Dir(dir) {
		if _, _, err := r.fs.Stat(dir); err == nil || !vfs.IsNotExist(err) || dir == path.Dir(dir) {
			break
		}
		missing = append(missing, dir)
	}
	if err := r.fs.MkdirAll(r.l.o.Dir); err != nil {
		return err
	}
	for i := len(missing) - 1; i >= 0; i-- {
		if err := r.fs.SyncDir(path.Dir(missing[i])); err != nil {
			return err
		}
	}
	return nil
}

func (r *recovery) list() error {
	names, err := r.fs.List(r.l.o.Dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if path.Ext(name) == ".tmp" {
			if err := r.fs.Remove(r.l.path(name)); err != nil {
				return err
			}
			continue
		}
		if base, ok := baseOfName(name, logSuffix); ok {
			r.files = append(r.files, &found{base: base, name: name})
		}
		if base, ok := baseOfName(name, logSuffix+badSuffix); ok {
			r.bad = append(r.bad, &found{base: base, name: name})
		}
		if base, ok := baseOfName(name, stateSuffix); ok {
			r.states = append(r.states, base)
		}
	}
	r.rec.Created = len(r.files) == 0 && len(r.states) == 0
	return nil
}

// readEnds opens every segment file and reads its header and footer. Those that could not be placed are closed again.
func (r *recovery) readEnds() error {
	for _, f := range r.files {
		if err := r.readEnd(f); err != nil {
			return err
		}
	}
	for _, f := range r.bad {
		if err := errors.Join(r.readEnd(f), f.close()); err != nil {
			return err
		}
	}
	return nil
}

func (r *recovery) readEnd(f *found) (err error) {
	group := r.l.o.Group
	if f.f, err = r.fs.Open(r.l.path(f.name)); err != nil {
		return err
	}
	if f.size, err = f.f.Size(); err != nil {
		return err
	}
	if err := f.f.DropCache(r.unproved(f)); err != nil {
		return err
	}
	head := make([]byte, min(f.size, segmentHeaderBytes))
	if err := readFull(f.f, head, 0); vfs.IsUnreadable(err) {
		head = nil
	} else if err != nil {
		return err
	}
	if f.head, f.headErr = decodeHeader(head, group, f.base); errors.Is(f.headErr, ErrVersion) {
		return fmt.Errorf("%s: %w", f.name, f.headErr)
	}
	foot, err := readFooter(f.f, f.size, group, f.base)
	switch {
	case err == nil && foot.last.index >= f.base:
		f.foot = &foot
	case errors.Is(err, ErrVersion):
		return fmt.Errorf("%s: %w", f.name, err)
	case err != nil && !errors.Is(err, errNoFooter) && !vfs.IsUnreadable(err):
		return fmt.Errorf("%s: %w", f.name, err)
	}
	return nil
}

// unproved is the byte of a file from which on its cached pages may show what the disk lost: a sync that failed leaves them clean. What a
// persist mark covers was synced for certain; a footer is written behind it.
func (r *recovery) unproved(f *found) int64 {
	mark := r.l.o.Mark
	switch {
	case r.l.o.JournalDamaged || f.base > mark.SegmentBase:
		return 0
	case f.base == mark.SegmentBase:
		return max(0, min(mark.Position, f.size-footerAtMost(f.size)))
	}
	return max(0, f.size-footerAtMost(f.size))
}

// footerAtMost is what a footer can take of a file: an index entry for every sparseBytes, and what stands beside the index.
func footerAtMost(size int64) int64 {
	return (size/sparseBytes+1)*indexEntryBytes + 64<<10
}

// findStart decides where the log begins and removes what an unfinished trim left before that.
func (r *recovery) findStart() error {
	l := r.l
	switch b, err := readWhole(r.fs, l.path(startName), pointBytes); {
	case err == nil:
		s, _, err := decodePoint(b, startMagic, l.o.Group)
		if errors.Is(err, ErrVersion) {
			return err
		}
		if err != nil {
			r.rec.StartDamaged = true
		} else if s.Index > l.start.Index {
			l.start = s
		}
	case errors.Is(err, errTooLarge):
		r.rec.StartDamaged = true
	case !vfs.IsNotExist(err):
		return err
	}
	if r.rec.StartDamaged && len(r.files) > 0 && r.files[0].headErr == nil {
		if h := r.files[0].head; h.prev.index > l.start.Index {
			l.start = Start{Index: h.prev.index, Term: h.prev.term, Offset: h.offset, AppendTime: h.time, Hash: h.hash, Limit: h.limit}
		}
	}
	n := 0
	for _, f := range r.files {
		if f.base > l.start.Index {
			r.files[n] = f
			n++
			continue
		}
		if err := r.remove(f); err != nil {
			return err
		}
		r.rec.Leftovers++
	}
	r.files = r.files[:n]
	return nil
}

var errTooLarge = errors.New("file is larger than it can be")

// readWhole reads a file of at most bytesMax.
func readWhole(fs vfs.FS, name string, bytesMax int64) (b []byte, err error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > bytesMax {
		return nil, errTooLarge
	}
	b = make([]byte, size)
	return b, readFull(f, b, 0)
}

func (r *recovery) remove(f *found) error {
	if err := f.close(); err != nil {
		return err
	}
	return r.fs.Remove(r.l.path(f.name))
}

// durable reports whether entry i is known to have been synced.
func (r *recovery) durable(i uint64) bool { return r.l.o.JournalDamaged || i <= r.floor }

// accept takes file i into the log, whole, in part, or not at all.
func (r *recovery) accept(i int, f *found) error {
	e := r.at.id.index + 1
	switch {
	case r.torn:
		return r.drop(f)
	case f.base < e:
		return r.setAside(f)
	case f.base > e && !r.durable(e):
		r.tear(e)
		return r.drop(f)
	case f.headErr != nil && !r.durable(e) && !r.l.o.AcceptLoss: // else an operator would lose what is rebuilt without them
		r.tear(e)
		return r.drop(f)
	case f.headErr != nil && (f.base > e || r.at.nextUnknown):
		// Nothing says what its header was: the whole file counts as missing.
		return r.setAside(f)
	case f.base > e:
		r.missing(f.head)
	}
	if f.headErr != nil {
		if err := r.rebuildHeader(f); err != nil {
			return err
		}
	}
	if !r.at.nextUnknown && (f.head.prev != r.at.id || f.head.offset != r.at.next) {
		if !r.durable(e) {
			r.tear(e)
			return r.drop(f)
		}
		return &openError{f.name, fmt.Sprintf("its header says that entry %d has term %d and next offset %d, the log says %d and %d",
			f.head.prev.index, f.head.prev.term, f.head.offset, r.at.id.term, r.at.next)}
	}
	if f.foot != nil {
		return r.acceptSealed(f)
	}
	if i+1 == len(r.files) {
		return r.scan(f, nil)
	}
	return r.scan(f, r.files[i+1])
}

func (r *recovery) tear(e uint64) {
	r.torn = true
	if r.rec.TornFrom == 0 {
		r.rec.TornFrom = e
	}
}

// missing notes that the entries before h are gone with their file.
func (r *recovery) missing(h header) {
	fr := FaultyRange{From: r.at.id.index + 1, To: h.prev.index, Reason: "file is missing"}
	if s := r.l.active(); s != nil && !s.closed() {
		fr.Segment, fr.Position = s.head.base, s.size // its end may be missing, too
	} else {
		fr.Segment, fr.Lost = fr.From, true
	}
	r.fault(fr, h.prev.term)
	r.at = point{id: h.prev, next: h.offset, time: h.time}
}

// fault notes a damaged range; term is that of the entry at its end.
func (r *recovery) fault(fr FaultyRange, term uint64) {
	if term == r.at.id.term {
		fr.Term = term
	}
	r.l.faulty = append(r.l.faulty, fr)
	r.l.noteTerm(entryID{fr.To, term})
}

// rebuildHeader writes the header of f anew: it is a function of the log before it.
func (r *recovery) rebuildHeader(f *found) error {
	l := r.l
	l.last, l.next, l.time = r.at.id, r.at.next, r.at.time
	h, err := l.nextHeader(r.at.next)
	if err != nil {
		return &openError{f.name, f.headErr.Error() + ", and it cannot be rebuilt: " + err.Error()}
	}
	w, err := r.fs.OpenRW(l.path(f.name))
	if err != nil {
		return err
	}
	_, err = w.WriteAt(h.encode(), 0)
	if err == nil {
		err = w.Sync()
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	f.head, f.headErr = h, nil
	f.size = max(f.size, segmentHeaderBytes)
	r.rec.HeadersRebuilt++
	return nil
}

func (r *recovery) acceptSealed(f *found) error {
	s := newSegment(f.head)
	foot := f.foot
	s.takeFooter(foot, f.size)
	_, s.state = slices.BinarySearch(r.states, f.base)
	r.l.segs = append(r.l.segs, s)
	for _, run := range foot.runs {
		r.l.noteTerm(entryID(run))
	}
	r.l.limits = append(r.l.limits[:0], limitRun{s.last.index, s.nextLimit})
	r.at = point{id: foot.last, next: foot.next, time: foot.time}
	r.rec.SegmentsSealed++
	return f.close()
}

// drop takes a file for none of the log's.
func (r *recovery) drop(f *found) error {
	r.rec.TornBytes += f.size
	if r.l.o.AcceptLoss {
		// It is renamed, by cutTail.
	} else if f.size > segmentHeaderBytes || f.headErr != nil && f.size > 0 {
		r.aside(f, 0)
	}
	r.drops = append(r.drops, f)
	return f.close()
}

// cutTail removes the files behind a torn tail, then the tail.
func (r *recovery) cutTail() error {
	drop := r.remove
	if r.l.o.AcceptLoss {
		drop = r.dropCut
	}
	for i := len(r.drops) - 1; i >= 0; i-- {
		if err := drop(r.drops[i]); err != nil {
			return err
		}
		if err := r.fs.SyncDir(r.l.o.Dir); err != nil {
			return err
		}
	}
	if r.cut == nil {
		return nil
	}
	return r.cut.file.f.Truncate(r.cut.size)
}

// badSuffix is added to the name of a file that cannot be part of the log but may hold durable entries.
const badSuffix = ".bad"

// setAside keeps a file under another name.
func (r *recovery) setAside(f *found) error {
	if err := f.close(); err != nil {
		return err
	}
	r.rec.FilesBad++
	r.bad = append(r.bad, f)
	return r.fs.Rename(r.l.path(f.name), r.l.path(f.name+badSuffix))
}

const asideChunkBytes = 1 << 20

// aside copies the bytes of f from pos on, within the bound, for whoever wants to look at them. It never stands in recovery's way.
func (r *recovery) aside(f *found, pos int64) {
	if r.l.o.AcceptLoss {
		r.keepCut(f, pos)
		return
	}
	dir := r.l.path(asideDir)
	err := func() error {
		if err := r.roomAside(f, pos); err != nil {
			return err
		}
		if r.asideAt == 0 {
			if err := r.fs.RemoveAll(dir); err != nil {
				return err
			}
		}
		if err := r.fs.MkdirAll(dir); err != nil {
			return err
		}
		return r.copyAside(f, pos, fmt.Sprintf("%s/%s-%d", dir, f.name, pos))
	}()
	if err != nil {
		r.rec.AsideSkipped = err.Error()
		return
	}
	r.rec.Aside = dir
}

func (r *recovery) roomAside(f *found, pos int64) error {
	if r.asideAt+f.size-pos > r.l.o.AsideBytesMax {
		return fmt.Errorf("%s: %d bytes from %d on would exceed %d", f.name, f.size-pos, pos, r.l.o.AsideBytesMax)
	}
	return nil
}

// copyAside copies the bytes of f from pos on to a new file, and syncs it.
func (r *recovery) copyAside(f *found, pos int64, to string) (err error) {
	if err := r.roomAside(f, pos); err != nil {
		return err
	}
	w, err := r.fs.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	b := make([]byte, min(asideChunkBytes, f.size-pos))
	for at := pos; at < f.size; at += int64(len(b)) {
		b = b[:min(int64(len(b)), f.size-at)]
		if err := readFull(f.f, b, at); err != nil {
			return err
		}
		if _, err := w.WriteAt(b, at-pos); err != nil {
			return err
		}
	}
	r.asideAt += f.size - pos
	return w.Sync()
}

// judgeTail compares the end of what was accepted with what the journal promises.
func (r *recovery) judgeTail() {
	l := r.l
	m := l.o.Mark
	e := l.last.index + 1
	if l.lastGuessed() && m.Index == l.last.index {
		s := l.active()
		s.last.term, s.guessed = m.Term, false
		l.last = s.last
	}
	r.rec.LastKnown = !l.lastGuessed()
	hidden := r.tailBad || l.o.JournalDamaged && slices.ContainsFunc(r.bad, func(f *found) bool { return f.base >= e })
	if m.Index < e && l.o.CommitFloor < e && !hidden {
		return
	}
	fr := FaultyRange{From: e, Segment: e, Position: segmentHeaderBytes, Reason: "the file ends before what was synced"}
	s := l.active()
	if s != nil {
		fr.Segment, fr.Position = s.head.base, s.size
		l.overwrite = r.tailBad
	}
	switch {
	case r.tailBad:
		fr.Reason = "no good frame follows"
	case hidden:
		fr.Reason = "the file that follows could not be placed"
	}
	if unknown := l.o.JournalDamaged && hidden; m.Index < e || m.Index < l.o.CommitFloor || unknown {
		if !unknown {
			fr.To, fr.promised = max(m.Index, l.o.CommitFloor), true
		}
		r.rec.LastKnown = false
		l.faulty = append(l.faulty, fr)
		return
	}
	fr.To = m.Index
	id := entryID{m.Index, m.Term}
	if s != nil && s.head.base == m.SegmentBase && m.Position > s.size {
		fr.End = m.Position
		s.size, s.last, s.stale, s.guessed = m.Position, id, true, false
		l.overwrite = r.tailBad && s.onFile > m.Position
		s.onFile = min(s.onFile, m.Position)
	} else {
		l.unplaced = true
	}
	r.at.id = l.last
	r.fault(fr, m.Term)
	l.last, l.nextUnknown = id, true
	r.rec.LastKnown = true
}

// finish makes durable what was recovered and reads the newest checkpoint.
func (r *recovery) finish() error {
	l := r.l
	if err := r.cutTail(); err != nil {
		return err
	}
	if l.o.AcceptLoss {
		if err := r.forgetCut(); err != nil {
			return err
		}
	}
	for _, s := range l.segs {
		if s.sealed {
			continue
		}
		if err := s.file.f.Sync(); err != nil {
			return err
		}
	}
	if err := r.fs.SyncDir(l.o.Dir); err != nil {
		return err
	}
	if err := r.fs.SyncDir(path.Dir(path.Clean(l.o.Dir))); err != nil {
		return err
	}
	l.durable = l.endMark()
	r.rec.Durable = l.durable
	if err := r.sealAgain(); err != nil {
		return err
	}
	r.rec.Last, r.rec.LastTerm, r.rec.Faulty = l.last.index, l.last.term, l.Faulty()
	return r.readCheckpoint()
}

// sealAgain seals the segments that lost their footers: those before a sealed one, and the newest if its checkpoint is there.
func (r *recovery) sealAgain() error {
	l := r.l
	for k := len(l.segs) - 1; k >= 0; k-- {
		s := l.segs[k]
		if s.sealed || !s.closed() || l.damaged(s) {
			continue
		}
		sealedBehind := k+1 < len(l.segs) && l.segs[k+1].sealed
		_, hasState := slices.BinarySearch(r.states, s.head.base)
		if hasState {
			b, err := readWhole(r.fs, l.path(stateName(s.head.base)), checkpointBytesMax)
			if err != nil && !errors.Is(err, errTooLarge) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return err
			}
			sum, err := l.sumOf(s)
			if err != nil {
				return err
			}
			at, _, err := decodePoint(b, stateMagic, l.o.Group)
			s.state = err == nil && at.Index == s.last.index && at.Hash == sum
		}
		if !s.state && !sealedBehind {
			continue
		}
		if err := l.sealAgain(s); err != nil {
			return err
		}
		r.rec.Resealed++
	}
	return nil
}

// checkpointBytesMax bounds a checkpoint before it is read.
const checkpointBytesMax = 256 << 20

func (r *recovery) readCheckpoint() error {
	l := r.l
	older := 0
	for k, base := range r.states {
		if base <= l.start.Index {
			l.startState, older = stateName(base), k
		}
	}
	if older > 0 { // what a trim removed came back with a power cut
		if err := l.dropStates(r.states[older]); err != nil {
			return err
		}
	}
	for i := len(r.states) - 1; i >= 0; i-- {
		b, err := readWhole(r.fs, l.path(stateName(r.states[i])), checkpointBytesMax)
		if err != nil && !errors.Is(err, errTooLarge) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		at, data, err := decodePoint(b, stateMagic, l.o.Group)
		if errors.Is(err, ErrVersion) {
			return err
		}
		if err != nil {
			r.rec.StatesBad++
			l.stateBad(r.states[i])
			continue
		}
		if at.Index == l.start.Index || l.sealedLast(at.Index) {
			l.checkpoint = &checkpoint{at.Index, data}
			return nil
		}
	}
	return nil
}

// stateBad forgets the checkpoint file of the segment that begins at base.
func (l *Log) stateBad(base uint64) {
	if l.startState == stateName(base) {
		l.startState = ""
	}
	if k := l.segmentOf(base); k >= 0 && l.segs[k].head.base == base {
		l.segs[k].state = false
	}
}

func (l *Log) sealedLast(i uint64) bool {
	k := l.segmentOf(i)
	return k >= 0 && l.segs[k].sealed && l.segs[k].last.index == i
}
