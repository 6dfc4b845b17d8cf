package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/wal"
)

// OpenWAL opens the journal on tidwall/wal over real files in dir: one log of the library per log of ours. What the library lacks is done
// here: our CRC in every record; files are read, and judged record by record, before the library sees them (it refuses a log with a
// torn or damaged record, and takes a flipped byte for data); a log that is not clean is written anew into a fresh directory; the
// directory is synced whenever a call may have created or renamed a file; a write that failed is never followed by another.
func OpenWAL(dir string) (Journal, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return nil, err
	}
	return open(&walLog{dir: filepath.Join(dir, "a")}, &walLog{dir: filepath.Join(dir, "b")}, &walLog{dir: filepath.Join(dir, "marks")})
}

// walLog is one log of the library.
type walLog struct {
	dir   string
	log   *wal.Log // nil: not clean, to be written anew
	files []string // names in dir when it was last synced
	bytes int64
	// Invariant: the file written last holds at most tail bytes, so the library began no other one while tail < walSegmentBytes.
	tail   int64
	failed error
}

// walSegmentBytes is the library's file size.
const walSegmentBytes = 2 << 20

func (l *walLog) load(visit func([]byte)) (torn bool, err error) {
	if err := l.settle(); err != nil {
		return false, err
	}
	names, err := libraryFiles(l.dir)
	if err != nil {
		return false, err
	}
	clean := true
	count := uint64(0) // records so far, by the names of the files
	for i, name := range names {
		b, err := os.ReadFile(filepath.Join(l.dir, name))
		if err != nil {
			return false, err
		}
		first, err := strconv.ParseUint(name[:20], 10, 64)
		if i > 0 && (err != nil || first != count) {
			visit(nil) // records, or a file of them, are missing before this one
			clean = false
		}
		count = first
		end, whole := walkRecords(b, binary.Uvarint, func(record []byte) {
			if record != nil {
				l.bytes += int64(len(record))
				count++
			}
			visit(record)
		})
		if whole {
			continue
		}
		clean = false
		if torn = i+1 == len(names) && end < len(b); !torn && end < len(b) {
			visit(nil)
		}
	}
	if !clean || len(names) == 1 && l.bytes == 0 && names[0] != firstFile {
		return torn, nil // the library refuses an empty log that does not begin with record 1, too
	}
	return false, l.open()
}

const firstFile = "00000000000000000001"

// libraryFiles are the files of a library log in order, without those that an unfinished TruncateFront replaces.
func libraryFiles(dir string) ([]string, error) {
	names, err := fileNames(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var files []string
	for _, n := range names {
		digits, start := strings.CutSuffix(n, ".START")
		if len(digits) != 20 || strings.Trim(digits, "0123456789") != "" {
			continue
		}
		if start {
			files = nil
		}
		files = append(files, n)
	}
	return files, nil
}

func (l *walLog) open() (err error) {
	opts := *wal.DefaultOptions
	opts.NoSync, opts.NoCopy, opts.SegmentSize = true, true, walSegmentBytes
	if l.log, err = wal.Open(l.dir, &opts); err != nil {
		return fmt.Errorf("%s: %w", l.dir, err)
	}
	l.files = nil
	return errors.Join(syncDir(filepath.Dir(l.dir)), l.syncNames())
}

// Names beside a library log while it is written anew: the new one, and the old one after the new one took its place.
const (
	newSuffix = ".new"
	oldSuffix = ".old"
)

// settle ends a replacement that a crash interrupted. The old log gives up its name only when the new one is on stable storage.
func (l *walLog) settle() error {
	_, err := os.Stat(l.dir)
	if errors.Is(err, os.ErrNotExist) {
		err = os.Rename(l.dir+newSuffix, l.dir)
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(l.dir+newSuffix), os.RemoveAll(l.dir+oldSuffix)); err != nil {
		return err
	}
	return syncDir(filepath.Dir(l.dir))
}

// replace writes the records into a fresh log and gives it the place of the one that is not clean.
func (l *walLog) replace(recs [][]byte) error {
	fresh := &walLog{dir: l.dir + newSuffix}
	if err := fresh.open(); err != nil {
		return err
	}
	err := fresh.append(recs)
	if err == nil {
		err = fresh.sync()
	}
	if err := errors.Join(err, fresh.close()); err != nil {
		return err
	}
	if err := os.Rename(l.dir, l.dir+oldSuffix); err != nil {
		return err
	}
	if err := os.Rename(fresh.dir, l.dir); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(l.dir)); err != nil {
		return err
	}
	l.bytes = fresh.bytes
	return errors.Join(os.RemoveAll(l.dir+oldSuffix), l.open())
}

func (l *walLog) bounds() (first, last uint64, err error) {
	if first, err = l.log.FirstIndex(); err != nil {
		return 0, 0, err
	}
	last, err = l.log.LastIndex()
	return first, last, err
}

func (l *walLog) append(recs [][]byte) error {
	if l.failed != nil {
		return l.failed
	}
	_, last, err := l.bounds()
	if err != nil {
		return l.fail(err)
	}
	var batch wal.Batch
	for i, r := range recs {
		batch.Write(last+1+uint64(i), r)
		l.bytes += int64(len(r))
		l.tail += binary.MaxVarintLen64 + int64(len(r))
	}
	if err := l.log.WriteBatch(&batch); err != nil {
		return l.fail(err)
	}
	return nil
}

func (l *walLog) sync() error {
	if l.failed != nil {
		return l.failed
	}
	if err := l.log.Sync(); err != nil {
		return l.fail(err)
	}
	if l.tail < walSegmentBytes {
		return nil
	}
	return l.fail(l.syncNames())
}

// rewrite appends the records, syncs them and only then drops what came before: a crash leaves both, and the later ones win.
func (l *walLog) rewrite(recs [][]byte) error {
	if l.failed != nil {
		return l.failed
	}
	if l.log == nil {
		return l.fail(l.replace(recs))
	}
	_, last, err := l.bounds()
	if err != nil {
		return l.fail(err)
	}
	if err := l.append(recs); err != nil {
		return err
	}
	if err := l.sync(); err != nil {
		return err
	}
	if last > 0 {
		if err := l.log.TruncateFront(last + 1); err != nil {
			return l.fail(err)
		}
		if err := errors.Join(syncDir(l.dir), l.syncNames()); err != nil {
			return l.fail(err)
		}
	}
	l.bytes = 0
	for _, r := range recs {
		l.bytes += int64(len(r))
	}
	return nil
}

func (l *walLog) size() int64 { return l.bytes }

func (l *walLog) newest() string {
	if len(l.files) == 0 {
		return ""
	}
	return l.files[len(l.files)-1]
}

func (l *walLog) close() error {
	if l.log == nil {
		return nil
	}
	err := l.log.Close()
	l.log = nil
	return err
}

// fail remembers the first error: nothing is written behind a write that failed half-way.
func (l *walLog) fail(err error) error {
	if err != nil && l.failed == nil {
		l.failed = fmt.Errorf("%s: %w", l.dir, err)
	}
	return l.failed
}

// syncNames syncs the directory if its names changed since the last time, and measures the file that is written.
func (l *walLog) syncNames() error {
	names, err := fileNames(l.dir)
	if err != nil {
		return err
	}
	if !slices.Equal(names, l.files) {
		if err := syncDir(l.dir); err != nil {
			return err
		}
		l.files = names
	}
	l.tail = walSegmentBytes // until it is known to be less
	if n := len(names); n > 0 {
		info, err := os.Stat(filepath.Join(l.dir, names[n-1]))
		if err != nil {
			return err
		}
		l.tail = info.Size()
	}
	return nil
}

func fileNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// syncDir makes the names in a directory durable. A variable, so that a test can see when it is called.
var syncDir = func(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
