package journal

import (
	"encoding/binary"
	"errors"
	"io"
	"path"

	"lograft/segment/vfs"
)

// OpenTwin opens the journal on a vfs.FS: the simulator's make. Each log is one file of length-prefixed records.
func OpenTwin(fs vfs.FS, dir string) (Journal, error) {
	if err := fs.MkdirAll(dir); err != nil {
		return nil, err
	}
	if err := fs.SyncDir(path.Dir(dir)); err != nil {
		return nil, err
	}
	return open(&fileLog{fs: fs, dir: dir, name: "a"}, &fileLog{fs: fs, dir: dir, name: "b"}, &fileLog{fs: fs, dir: dir, name: "marks"})
}

// fileLog is one log in one file: (length u32, record)...
type fileLog struct {
	fs        vfs.FS
	dir, name string
	file      vfs.File
	end       int64
}

func (l *fileLog) path() string { return path.Join(l.dir, l.name) }

func (l *fileLog) load(visit func([]byte)) (torn bool, err error) {
	f, err := l.fs.OpenRW(l.path())
	if vfs.IsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	l.file = f
	size, err := f.Size()
	if err != nil {
		return false, err
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	end, clean := walkRecords(b, fixedPrefix, visit)
	if l.end = int64(end); clean || l.end == size {
		return false, nil
	}
	return true, f.Truncate(l.end)
}

func fixedPrefix(b []byte) (n uint64, k int) {
	if len(b) < 4 {
		return 0, 0
	}
	return uint64(binary.LittleEndian.Uint32(b)), 4
}

func frameRecords(recs [][]byte) []byte {
	var b []byte
	for _, r := range recs {
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(r))), r...)
	}
	return b
}

func (l *fileLog) append(recs [][]byte) error {
	b := frameRecords(recs)
	if _, err := l.file.WriteAt(b, l.end); err != nil {
		return err
	}
	l.end += int64(len(b))
	return nil
}

func (l *fileLog) sync() error { return l.file.Sync() }

func (l *fileLog) rewrite(recs [][]byte) error {
	next := l.path() + ".new"
	if err := l.fs.Remove(next); err != nil && !vfs.IsNotExist(err) {
		return err
	}
	f, err := l.fs.Create(next)
	if err != nil {
		return err
	}
	b := frameRecords(recs)
	if _, err := f.WriteAt(b, 0); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := l.fs.Rename(next, l.path()); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return errors.Join(err, f.Close())
	}
	old := l.file
	l.file, l.end = f, int64(len(b))
	if old != nil {
		return old.Close()
	}
	return nil
}

func (l *fileLog) size() int64 { return l.end }

func (l *fileLog) newest() string { return l.name }

func (l *fileLog) close() error {
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
