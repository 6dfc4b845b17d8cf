package vfs

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"sort"
	"sync"
	"syscall"
)

// blockBytes is the unit in which a crash keeps or loses unsynced bytes of a file.
const blockBytes = 4096

// Mem is a file system in memory that knows what of it would survive a power cut. It may be used by several goroutines.
type Mem struct {
	mu      sync.Mutex
	root    *inode
	crashed bool
	used    int64 // bytes of all reachable files
	limit   int64 // 0: none
}

// inode is a file or, if entries is not nil, a directory.
type inode struct {
	data   []byte
	synced []byte // what the last Sync made durable

	entries  map[string]*inode
	durable  map[string]*inode
	unsynced []entryChange // since the last SyncDir, oldest first
}

// entryChange is one change of a directory that a crash may or may not keep: name now leads to node (nil: removed). A rename within
// the directory is one change of two names.
type entryChange struct {
	name, removed string
	node          *inode
}

// NewMem returns an empty file system whose root exists.
func NewMem() *Mem { return &Mem{root: newDir()} }

func newDir() *inode { return &inode{entries: map[string]*inode{}, durable: map[string]*inode{}} }

func (n *inode) isDir() bool { return n.entries != nil }

func (n *inode) set(name string, node *inode) {
	if node == nil {
		delete(n.entries, name)
	} else {
		n.entries[name] = node
	}
	n.unsynced = append(n.unsynced, entryChange{name: name, node: node})
}

// SetLimit bounds the bytes of all files together; a write beyond it answers ENOSPC. 0 lifts the bound.
func (m *Mem) SetLimit(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit = bytes
}

// Space implements FS: the bound is that of SetLimit.
func (m *Mem) Space(dir string) (free, size int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.dir("space", dir); err != nil {
		return 0, 0, err
	}
	return max(0, m.limit-m.used), m.limit, nil
}

// Used is the number of bytes of all files together.
func (m *Mem) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

func pathError(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// split cuts a clean path into its elements.
func split(name string) []string {
	name = path.Clean("/" + name)
	if name == "/" {
		return nil
	}
	var parts []string
	for name = name[1:]; ; {
		i := 0
		for i < len(name) && name[i] != '/' {
			i++
		}
		parts = append(parts, name[:i])
		if i == len(name) {
			return parts
		}
		name = name[i+1:]
	}
}

// find returns the node of name, and its directory and last element if that exists.
func (m *Mem) find(op, name string) (dir *inode, last string, node *inode, err error) {
	if m.crashed {
		return nil, "", nil, pathError(op, name, ErrCrashed)
	}
	parts := split(name)
	if len(parts) == 0 {
		return nil, "", m.root, nil
	}
	dir = m.root
	for _, p := range parts[:len(parts)-1] {
		next := dir.entries[p]
		if next == nil || !next.isDir() {
			return nil, "", nil, pathError(op, name, fs.ErrNotExist)
		}
		dir = next
	}
	last = parts[len(parts)-1]
	return dir, last, dir.entries[last], nil
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, last, node, err := m.find("create", name)
	if err != nil {
		return nil, err
	}
	if node != nil {
		return nil, pathError("create", name, fs.ErrExist)
	}
	node = &inode{}
	dir.set(last, node)
	return &memFile{fs: m, node: node, name: name, writable: true}, nil
}

func (m *Mem) open(name string, writable bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, node, err := m.find("open", name)
	if err != nil {
		return nil, err
	}
	if node == nil {
		return nil, pathError("open", name, fs.ErrNotExist)
	}
	if node.isDir() {
		return nil, pathError("open", name, syscall.EISDIR)
	}
	return &memFile{fs: m, node: node, name: name, writable: writable}, nil
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.open(name, false) }

// OpenRW implements FS.
func (m *Mem) OpenRW(name string) (File, error) { return m.open(name, true) }

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, last, node, err := m.find("remove", name)
	if err != nil {
		return err
	}
	if node == nil {
		return pathError("remove", name, fs.ErrNotExist)
	}
	if len(node.entries) > 0 || node == m.root {
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	dir.set(last, nil)
	m.used -= int64(len(node.data))
	return nil
}

// Rename implements FS.
func (m *Mem) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, oldLast, node, err := m.find("rename", oldName)
	if err != nil {
		return err
	}
	if node == nil || node == m.root {
		return pathError("rename", oldName, fs.ErrNotExist)
	}
	to, newLast, replaced, err := m.find("rename", newName)
	if err != nil {
		return err
	}
	if replaced == node {
		return nil
	}
	if replaced != nil {
		if replaced.isDir() || node.isDir() {
			return pathError("rename", newName, fs.ErrExist)
		}
		m.used -= int64(len(replaced.data))
	}
	if from != to {
		to.set(newLast, node)
		from.set(oldLast, nil)
		return nil
	}
	delete(from.entries, oldLast)
	from.entries[newLast] = node
	from.unsynced = append(from.unsynced, entryChange{name: newLast, node: node, removed: oldLast})
	return nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashed {
		return pathError("mkdir", name, ErrCrashed)
	}
	dir := m.root
	for _, p := range split(name) {
		next := dir.entries[p]
		if next == nil {
			next = newDir()
			dir.set(p, next)
		}
		if !next.isDir() {
			return pathError("mkdir", name, syscall.ENOTDIR)
		}
		dir = next
	}
	return nil
}

// RemoveAll implements FS.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, last, node, err := m.find("removeall", name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if node == m.root {
		return pathError("removeall", name, syscall.EBUSY)
	}
	if node != nil {
		m.clear(node)
		dir.set(last, nil)
	}
	return nil
}

func (m *Mem) clear(node *inode) {
	m.used -= int64(len(node.data))
	for _, name := range sortedNames(node.entries) {
		m.clear(node.entries[name])
		node.set(name, nil)
	}
}

func sortedNames(entries map[string]*inode) []string {
	names := make([]string, 0, len(entries))
	for name := range entries {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func (m *Mem) dir(op, name string) (*inode, error) {
	_, _, node, err := m.find(op, name)
	if err != nil {
		return nil, err
	}
	if node == nil {
		return nil, pathError(op, name, fs.ErrNotExist)
	}
	if !node.isDir() {
		return nil, pathError(op, name, syscall.ENOTDIR)
	}
	return node, nil
}

// List implements FS.
func (m *Mem) List(name string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, err := m.dir("list", name)
	if err != nil {
		return nil, err
	}
	return sortedNames(node.entries), nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (size int64, isDir bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, node, err := m.find("stat", name)
	if err != nil {
		return 0, false, err
	}
	if node == nil {
		return 0, false, pathError("stat", name, fs.ErrNotExist)
	}
	return int64(len(node.data)), node.isDir(), nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, err := m.dir("syncdir", name)
	if err != nil {
		return err
	}
	clear(node.durable)
	for k, v := range node.entries {
		node.durable[k] = v
	}
	node.unsynced = nil
	return nil
}

// Corrupt flips the bits of mask in the byte at off, in what is read now and in what survives a crash.
func (m *Mem) Corrupt(name string, off int64, mask byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, node, err := m.find("corrupt", name)
	if err != nil {
		return err
	}
	if node == nil || off < 0 || off >= int64(len(node.data)) {
		return pathError("corrupt", name, io.EOF)
	}
	node.data[off] ^= mask
	if off < int64(len(node.synced)) {
		node.synced[off] ^= mask
	}
	return nil
}

type memFile struct {
	fs       *Mem
	node     *inode
	name     string
	writable bool
	closed   bool
}

// use locks the file system for one call on an open handle of it.
func (f *memFile) use(op string, write bool) error {
	f.fs.mu.Lock()
	switch {
	case f.fs.crashed:
		return pathError(op, f.name, ErrCrashed)
	case f.closed:
		return pathError(op, f.name, fs.ErrClosed)
	case write && !f.writable:
		return pathError(op, f.name, fs.ErrPermission)
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	defer f.fs.mu.Unlock()
	if err := f.use("read", false); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathError("read", f.name, fs.ErrInvalid)
	}
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) grow(op string, size int64) error {
	add := size - int64(len(f.node.data))
	if f.fs.limit > 0 && add > 0 && f.fs.used+add > f.fs.limit {
		return pathError(op, f.name, syscall.ENOSPC)
	}
	f.fs.used += add
	if add <= 0 {
		f.node.data = f.node.data[:size]
		return nil
	}
	if size <= int64(cap(f.node.data)) {
		old := len(f.node.data)
		f.node.data = f.node.data[:size]
		clear(f.node.data[old:])
		return nil
	}
	f.node.data = append(f.node.data, make([]byte, add)...)
	return nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	defer f.fs.mu.Unlock()
	if err := f.use("write", true); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathError("write", f.name, fs.ErrInvalid)
	}
	if end := off + int64(len(p)); end > int64(len(f.node.data)) {
		if err := f.grow("write", end); err != nil {
			return 0, err
		}
	}
	return copy(f.node.data[off:], p), nil
}

func (f *memFile) WritevAt(bufs [][]byte, off int64) (int, error) { return writeEach(f, bufs, off) }

func (f *memFile) Truncate(size int64) error {
	defer f.fs.mu.Unlock()
	if err := f.use("truncate", true); err != nil {
		return err
	}
	if size < 0 {
		return pathError("truncate", f.name, fs.ErrInvalid)
	}
	return f.grow("truncate", size)
}

func (f *memFile) Sync() error {
	defer f.fs.mu.Unlock()
	if err := f.use("sync", false); err != nil {
		return err
	}
	f.node.synced = append(f.node.synced[:0], f.node.data...)
	return nil
}

func (f *memFile) Size() (int64, error) {
	defer f.fs.mu.Unlock()
	if err := f.use("size", false); err != nil {
		return 0, err
	}
	return int64(len(f.node.data)), nil
}

func (f *memFile) Close() error {
	defer f.fs.mu.Unlock()
	if err := f.use("close", false); err != nil {
		return err
	}
	f.closed = true
	return nil
}

func (f *memFile) DropCache(int64) error {
	defer f.fs.mu.Unlock()
	return f.use("dropcache", false)
}
