package segment

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"lograft/segment/vfs"
)

// ErrContradiction is matched by Open where durable files contradict each other, so that no verdict about single entries is possible: the
// log must be set aside and refilled.
var ErrContradiction = errors.New("the log's files contradict each other")

// Is makes errors.Is(err, ErrContradiction) true.
func (e *openError) Is(target error) bool { return target == ErrContradiction }

// RefillPhase says how far the refill of a lost log has come, as its directory says; it outlives crashes.
type RefillPhase uint8

// RefillNone: no refill. RefillMoving: the old files are being set aside, none of them is the log any more. RefillFilling: they are
// aside; what is there is the new log, which does not hold everything yet that its replica once acknowledged. RefillEnd: the log is the
// old one, but for an end that was lost with no trace of where it was, or that an operator gave up: the same holds.
const (
	RefillNone RefillPhase = iota
	RefillMoving
	RefillFilling
	RefillEnd
)

const (
	refillName = "refill"
	oldSuffix  = ".old" // of what was set aside
)

var refillWords = [...]string{RefillMoving: "moving\n", RefillFilling: "filling\n", RefillEnd: "end lost\n"}

// ReadRefill returns the phase of the log in dir. A mark that can't be read counts as RefillMoving: what lies there can't be trusted.
func ReadRefill(fs vfs.FS, dir string) (RefillPhase, error) {
	b, err := readWhole(fs, dir+"/"+refillName, 64)
	switch {
	case vfs.IsNotExist(err):
		return RefillNone, nil
	case err != nil && !errors.Is(err, errTooLarge):
		return RefillNone, err
	case string(b) == refillWords[RefillFilling]:
		return RefillFilling, nil
	case string(b) == refillWords[RefillEnd]:
		return RefillEnd, nil
	}
	return RefillMoving, nil
}

// BeginRefill notes durably that the log in dir is lost. Afterwards its marks are voided in the journal, then SetAside is called; Open
// must wait for that.
func BeginRefill(fs vfs.FS, dir string) error {
	return writeFile(fs, dir, refillName, []byte(refillWords[RefillMoving]))
}

// BeginRefillEnd notes durably that the log in dir lost its end: EndLost says so of an Open, or it is about to be cut.
func BeginRefillEnd(fs vfs.FS, dir string) error {
	return writeFile(fs, dir, refillName, []byte(refillWords[RefillEnd]))
}

// EndLost reports whether what Open found damaged begins behind the log's last entry: entries that were acknowledged are gone, and with them
// how many there were. Leaders may count them still, so nothing that they send by themselves may fill the gap.
func EndLost(rec *Recovery) bool {
	return slices.ContainsFunc(rec.Faulty, func(f FaultyRange) bool { return f.From > rec.Last })
}

// SetAside renames the files of a lost log, which nobody has open, so that the next Open begins with nothing. It may be called again
// after a crash. The old files stay for whoever wants to look at them until EndRefill.
func SetAside(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		_, isDir, err := fs.Stat(dir + "/" + name)
		if err != nil {
			return err
		}
		if isDir || name == refillName || strings.HasSuffix(name, oldSuffix) || strings.HasSuffix(name, cutSuffix) {
			continue
		}
		if err := moveFile(fs, dir+"/"+name, dir+"/"+name+oldSuffix); err != nil {
			return err
		}
	}
	if err := fs.SyncDir(dir); err != nil {
		return err
	}
	return writeFile(fs, dir, refillName, []byte(refillWords[RefillFilling]))
}

// EndRefill notes durably that the log holds everything again, and drops what was set aside.
func EndRefill(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, oldSuffix) {
			if err := fs.Remove(dir + "/" + name); err != nil {
				return fmt.Errorf("what was set aside: %w", err)
			}
		}
	}
	if err := fs.Remove(dir + "/" + acceptName); err != nil && !vfs.IsNotExist(err) {
		return err // a loss that was accepted of another log
	}
	if err := fs.Remove(dir + "/" + refillName); err != nil {
		return err
	}
	return fs.SyncDir(dir)
}
