// Package vfs is the small file system through which everything below a data directory is written.
//
// Four makes share one interface: OS (real files), Mem (memory, with crashes that lose what was not synced), Overlay (a dry run: changes in
// memory over another one that stays as it is) and Inject (errors, short writes and delays around any).
//
// Contract: names are slash-separated paths. A name survives a crash only after SyncDir of its directory, bytes only after Sync of
// their file; no order between two unsynced changes may be relied on. A File may be used by several goroutines at once. An error of
// a write, Sync, SyncDir, Rename or Close says nothing about what is on disk and is never retried by a caller.
//
// Limitations: OS uses pwritev and fdatasync on Linux only; elsewhere it falls back to a write per buffer and File.Sync, and DropCache does
// nothing and Space knows no bound. Mem has no permissions, links or times.
package vfs

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
)

// FS is a file system. Errors of a missing name answer errors.Is(err, fs.ErrNotExist), those of a name in the way fs.ErrExist.
type FS interface {
	// Create makes a file that did not exist and opens it for reading and writing.
	Create(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	// OpenRW opens an existing file for reading and writing.
	OpenRW(name string) (File, error)
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// Rename moves a file; a file of the new name is replaced.
	Rename(oldName, newName string) error
	// MkdirAll makes a directory and its missing parents. Each new one is durable after SyncDir of its parent.
	MkdirAll(dir string) error
	// RemoveAll removes a tree. A missing one is no error.
	RemoveAll(dir string) error
	// List returns the sorted names in a directory, without the directory's path.
	List(dir string) ([]string, error)
	// Stat returns the size in bytes of a file, or isDir.
	Stat(name string) (size int64, isDir bool, err error)
	// SyncDir makes the directory's entries durable.
	SyncDir(dir string) error
	// Space tells how many bytes of the file system that holds dir this process may still use, and how large it is. size 0: there is no
	// bound that is known, and free means nothing.
	Space(dir string) (free, size int64, err error)
}

// File is an open file without a position.
type File interface {
	io.ReaderAt
	// WriteAt writes p at byte off, growing the file as needed. n < len(p) only with an error.
	WriteAt(p []byte, off int64) (n int, err error)
	// WritevAt writes bufs one after another from byte off on. It keeps no buffer after it returns.
	WritevAt(bufs [][]byte, off int64) (n int, err error)
	// Truncate cuts or extends (with zeros) the file to size bytes.
	Truncate(size int64) error
	// Sync makes data and size durable (fdatasync).
	Sync() error
	Size() (int64, error)
	Close() error
	// DropCache asks that later reads from byte `from` on come from the device. Unsynced pages stay.
	DropCache(from int64) error
}

// ErrCrashed is the answer of every handle of a Mem that has crashed.
var ErrCrashed = errors.New("file system has crashed")

// IsNotExist reports whether err says that a name is missing.
func IsNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// IsNoSpace reports whether err says that the disk or a quota is full.
func IsNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// IsUnreadable reports whether err says that the medium, not the program or the system, lost what was to be read.
func IsUnreadable(err error) bool { return errors.Is(err, syscall.EIO) }

// writeEach is WritevAt by single writes.
func writeEach(f io.WriterAt, bufs [][]byte, off int64) (n int, err error) {
	for _, b := range bufs {
		m, err := f.WriteAt(b, off+int64(n))
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
