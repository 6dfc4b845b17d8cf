package segment

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"

	"lograft/segment/vfs"
)

// acceptName is the file by which an operator says that the log's end from the first bad byte on is given up.
const acceptName = "accept-loss"

// cutSuffix is added to the names of what an accepted cut sets aside: whole files, and copies of the ends of others. Nothing here removes them.
const cutSuffix = ".cut"

// ErrKeepsLess is matched by Open with AcceptLoss where less would be kept than the operator was told. Nothing was changed.
var ErrKeepsLess = errors.New("the cut would keep less than what its plan said")

// ErrNoteBad says that the note of an accepted loss can't be read.
var ErrNoteBad = errors.New("the note of an accepted loss (accept-loss) is unreadable: accept it again, or remove it")

// CutPlan is what Open with AcceptLoss would do, found by doing it on a copy in memory (vfs.Overlay).
type CutPlan struct {
	// Needed: without AcceptLoss the log is refused, or opens with damage, or with entries that would be cut, because it reads no payload below the
	// persist mark. False: there is nothing to be given up, and the rest is not set.
	Needed  bool
	Refused error // by which it is refused; nil: it opens with damage
	// KeptLast is the last entry that is kept; the log begins with First, so that First-1 says that none is. Offsets are [Start, Next).
	First, KeptLast uint64
	Start, Next     int64
}

// PlanCut says what accepting the loss of the end of a log costs, and changes nothing. o is what Open would be called with, but for AcceptLoss.
// Nobody has the log open. An error means that no plan can be made, and that Open would fail likewise.
func PlanCut(o Options) (p CutPlan, err error) {
	if o, err = o.withDefaults(); err != nil {
		return p, err
	}
	base := o.FS
	o.FS, o.AcceptLoss = vfs.Overlay(base), false
	l, rec, err := Open(o)
	switch {
	case errors.Is(err, ErrContradiction):
		p.Refused = err
	case err != nil:
		return p, err
	default:
		if err := l.Close(); err != nil {
			return p, err
		}
	}
	o.FS = vfs.Overlay(base)
	if l, err = openCut(o); err != nil {
		return p, err
	}
	if p.Refused == nil && len(rec.Faulty) == 0 && l.LastIndex() >= rec.Last {
		return CutPlan{}, l.Close()
	}
	p.Needed = true
	p.First, p.KeptLast, p.Start, p.Next = l.FirstIndex(), l.LastIndex(), l.StartOffset(), l.NextOffset()
	return p, l.Close()
}

// openCut opens with AcceptLoss, whatever is kept; o is whole and its FS a copy.
func openCut(o Options) (*Log, error) {
	o.AcceptLoss, o.AcceptedLast = true, 0
	l, _, err := open(o)
	return l, err
}

// rehearse refuses what would keep less than accepted, before anything is changed.
func (o Options) rehearse() error {
	want := o.AcceptedLast
	o.FS = vfs.Overlay(o.FS)
	l, err := openCut(o)
	if err != nil {
		return err
	}
	if last := l.LastIndex(); last < want {
		err = fmt.Errorf("%w: entries up to %d instead of %d: accept it again", ErrKeepsLess, last, want)
	}
	return errors.Join(err, l.Close())
}

// AcceptLoss notes durably that the next Open of the log in dir shall cut everything from its first bad byte on (Options.AcceptLoss), and that
// the plan of it keeps entries up to keptLast. Nobody has the log open.
func AcceptLoss(fs vfs.FS, dir string, keptLast uint64) error {
	return writeFile(fs, dir, acceptName, acceptNote(keptLast))
}

func acceptNote(keptLast uint64) []byte {
	s := fmt.Sprintf("accepted: entries up to %d are kept", keptLast)
	return fmt.Appendf(nil, "%s, sum %08x\n", s, crc32.Checksum([]byte(s), castagnoli))
}

// LossAccepted reports whether that was noted, and up to which entry the log is to be kept. ErrNoteBad: nobody can tell.
func LossAccepted(fs vfs.FS, dir string) (keptLast uint64, is bool, err error) {
	b, err := readWhole(fs, dir+"/"+acceptName, 256)
	if vfs.IsNotExist(err) {
		return 0, false, nil
	}
	if err != nil && !errors.Is(err, errTooLarge) {
		return 0, false, err
	}
	if _, e := fmt.Sscanf(string(b), "accepted: entries up to %d", &keptLast); err != nil || e != nil || string(acceptNote(keptLast)) != string(b) {
		return 0, false, ErrNoteBad
	}
	return keptLast, true, nil
}

// EndAcceptLoss takes the note back: the log is cut, and nothing that is kept elsewhere says any more that it held what was.
func EndAcceptLoss(fs vfs.FS, dir string) error {
	if err := fs.Remove(dir + "/" + acceptName); err != nil && !vfs.IsNotExist(err) {
		return err
	}
	return fs.SyncDir(dir)
}

// CutAside returns the names in dir of what earlier accepted cuts set aside.
func CutAside(fs vfs.FS, dir string) (names []string, err error) {
	all, err := fs.List(dir)
	for _, name := range all {
		if strings.HasSuffix(name, cutSuffix) {
			names = append(names, name)
		}
	}
	return names, err
}

// keepCut copies the bytes of f from pos on to where no later Open wipes them. A copy that is there already is whole, and is that of a cut that
// a crash interrupted, which may have cut the file since. It never stands in the way.
func (r *recovery) keepCut(f *found, pos int64) {
	name := fmt.Sprintf("%s-%d%s", f.name, pos, cutSuffix)
	err := func() error {
		if _, _, err := r.fs.Stat(r.l.path(name)); err == nil || !vfs.IsNotExist(err) {
			return err
		}
		tmp := r.l.path(name + ".tmp")
		if err := r.copyAside(f, pos, tmp); err != nil {
			return err
		}
		if err := r.fs.Rename(tmp, r.l.path(name)); err != nil {
			return err
		}
		return r.fs.SyncDir(r.l.o.Dir)
	}()
	if err != nil {
		r.rec.AsideSkipped = err.Error()
		return
	}
	r.rec.Aside = r.l.o.Dir + "/*" + cutSuffix
}

// dropCut renames a file that goes with an accepted cut.
func (r *recovery) dropCut(f *found) error {
	r.rec.Aside = r.l.o.Dir + "/*" + cutSuffix
	return moveFile(r.fs, r.l.path(f.name), r.l.path(f.name+cutSuffix))
}

// moveFile renames a file, also where a rename that a crash interrupted left it under both names: then another one does nothing.
func moveFile(fs vfs.FS, from, to string) error {
	if err := fs.Rename(from, to); err != nil {
		return err
	}
	if err := fs.Remove(from); !vfs.IsNotExist(err) {
		return err
	}
	return nil
}

// forgetCut takes away what would say at the next Open that the log held more than what was kept: checkpoints beyond its end, and files that could
// not be placed, which stay under another name.
func (r *recovery) forgetCut() error {
	l := r.l
	var err error
	r.states = slices.DeleteFunc(r.states, func(base uint64) bool {
		b, e := readWhole(r.fs, l.path(stateName(base)), checkpointBytesMax)
		if e != nil && !errors.Is(e, errTooLarge) && !errors.Is(e, io.ErrUnexpectedEOF) && !vfs.IsUnreadable(e) {
			err = errors.Join(err, e)
			return false
		}
		at, _, e := decodePoint(b, stateMagic, l.o.Group)
		if e != nil || at.Index <= r.at.id.index {
			return false
		}
		name := l.path(stateName(base))
		err = errors.Join(err, moveFile(r.fs, name, name+cutSuffix))
		return true
	})
	for _, f := range r.bad {
		name := strings.TrimSuffix(f.name, badSuffix) + badSuffix
		err = errors.Join(err, moveFile(r.fs, l.path(name), l.path(name+cutSuffix)))
	}
	r.bad = nil
	return err
}
