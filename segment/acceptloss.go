package segment

import (
	"errors"
	"io"
	"slices"
	"strings"

	"lograft/segment/vfs"
)

// acceptName is the file by which an operator says that the log's end from the first bad byte on is given up.
const acceptName = "accept-loss"

// AcceptLoss notes durably that the next Open of the log in dir shall cut everything from its first bad byte on (Options.AcceptLoss). Nobody has
// the log open.
func AcceptLoss(fs vfs.FS, dir string) error {
	return writeFile(fs, dir, acceptName, []byte("accepted\n"))
}

// LossAccepted reports whether that was noted.
func LossAccepted(fs vfs.FS, dir string) (bool, error) {
	_, _, err := fs.Stat(dir + "/" + acceptName)
	if vfs.IsNotExist(err) {
		return false, nil
	}
	return err == nil, err
}

// EndAcceptLoss takes the note back: the log is cut, and nothing that is kept elsewhere says any more that it held what was.
func EndAcceptLoss(fs vfs.FS, dir string) error {
	if err := fs.Remove(dir + "/" + acceptName); err != nil {
		return err
	}
	return fs.SyncDir(dir)
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
		err = errors.Join(err, r.fs.Remove(l.path(stateName(base))))
		return true
	})
	for _, f := range r.bad {
		name := strings.TrimSuffix(f.name, badSuffix) + badSuffix
		err = errors.Join(err, r.fs.Rename(l.path(name), l.path(name+oldSuffix)))
	}
	r.bad = nil
	return err
}
