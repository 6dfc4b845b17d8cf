package broker

import (
	"sync/atomic"
	"time"

	"lograft/segment/vfs"
)

// diskStats counts what the logs of a broker ask of the file system. The journal is not among it.
type diskStats struct {
	writes, writeBytes, syncs, syncNs, reads, readBytes, errors atomic.Uint64
}

// countingFS counts on the way to fs.
type countingFS struct {
	vfs.FS
	stats *diskStats
}

type countingFile struct {
	vfs.File
	stats *diskStats
}

func (f countingFS) wrap(file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return file, err
	}
	return countingFile{file, f.stats}, nil
}

func (f countingFS) Create(name string) (vfs.File, error) { return f.wrap(f.FS.Create(name)) }
func (f countingFS) Open(name string) (vfs.File, error)   { return f.wrap(f.FS.Open(name)) }
func (f countingFS) OpenRW(name string) (vfs.File, error) { return f.wrap(f.FS.OpenRW(name)) }

func (f countingFS) SyncDir(dir string) error {
	began := time.Now()
	return f.stats.synced(began, f.FS.SyncDir(dir))
}

func (f countingFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return f.stats.wrote(n, err)
}

func (f countingFile) WritevAt(bufs [][]byte, off int64) (int, error) {
	n, err := f.File.WritevAt(bufs, off)
	return f.stats.wrote(n, err)
}

func (f countingFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.stats.reads.Add(1)
	f.stats.readBytes.Add(uint64(n))
	return n, err
}

func (f countingFile) Sync() error {
	began := time.Now()
	return f.stats.synced(began, f.File.Sync())
}

func (s *diskStats) wrote(n int, err error) (int, error) {
	s.writes.Add(1)
	s.writeBytes.Add(uint64(n))
	if err != nil {
		s.errors.Add(1)
	}
	return n, err
}

func (s *diskStats) synced(began time.Time, err error) error {
	s.syncs.Add(1)
	s.syncNs.Add(uint64(time.Since(began)))
	if err != nil {
		s.errors.Add(1)
	}
	return err
}

// diskSpace is what the operating system says of the disk.
type diskSpace struct {
	free, size    int64
	deviceWritten int64 // for this process
}
