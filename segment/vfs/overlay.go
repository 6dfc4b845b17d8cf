package vfs

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"
	"syscall"
)

// Overlay returns a file system that shows what base holds and keeps every change in memory: a dry run of what would change files. Nothing of
// base is changed, by anybody, while it is used. Only files are renamed. What is written is kept whole, so that the memory grows with it.
func Overlay(base FS) FS { return &overlay{base: base, nodes: map[string]*overNode{}} }

type overlay struct {
	mu    sync.Mutex
	base  FS
	nodes map[string]*overNode // by clean path: what is not as base has it, and every file that was opened
}

// overNode is a name: gone, a directory, or a file, whose bytes are those of from up to keep, zeros up to size, and the writes over them, in order.
type overNode struct {
	gone, dir bool
	hides     bool // of a directory: what base has below it does not count
	from      string
	keep      int64
	size      int64
	writes    []overWrite
}

type overWrite struct {
	off int64
	b   []byte
}

// look returns the node of a clean path, nil if there is none.
func (o *overlay) look(name string) (*overNode, error) {
	if n := o.nodes[name]; n != nil {
		if n.gone {
			return nil, nil
		}
		return n, nil
	}
	if !o.shows(path.Dir(name)) {
		return nil, nil
	}
	size, isDir, err := o.base.Stat(name)
	switch {
	case IsNotExist(err):
		return nil, nil
	case err != nil:
		return nil, err
	case isDir:
		return &overNode{dir: true}, nil
	}
	n := &overNode{from: name, keep: size, size: size}
	o.nodes[name] = n
	return n, nil
}

// shows reports whether base's entries of a directory count.
func (o *overlay) shows(dir string) bool {
	for ; ; dir = path.Dir(dir) {
		if n := o.nodes[dir]; n != nil && (n.gone || n.hides || !n.dir) {
			return false
		}
		if dir == path.Dir(dir) {
			return true
		}
	}
}

// file returns the node of a file.
func (o *overlay) file(op, name string) (*overNode, error) {
	n, err := o.look(path.Clean(name))
	switch {
	case err != nil:
		return nil, err
	case n == nil:
		return nil, pathError(op, name, fs.ErrNotExist)
	case n.dir:
		return nil, pathError(op, name, syscall.EISDIR)
	}
	return n, nil
}

// above demands that the directory of a name exists.
func (o *overlay) above(op, name string) error {
	n, err := o.look(path.Dir(name))
	if err == nil && (n == nil || !n.dir) {
		err = pathError(op, name, fs.ErrNotExist)
	}
	return err
}

// Create implements FS.
func (o *overlay) Create(name string) (File, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	name = path.Clean(name)
	if n, err := o.look(name); err != nil {
		return nil, err
	} else if n != nil {
		return nil, pathError("create", name, fs.ErrExist)
	}
	if err := o.above("create", name); err != nil {
		return nil, err
	}
	n := &overNode{}
	o.nodes[name] = n
	return &overFile{o: o, node: n, name: name, writable: true}, nil
}

// Open implements FS.
func (o *overlay) Open(name string) (File, error) { return o.open(name, false) }

// OpenRW implements FS.
func (o *overlay) OpenRW(name string) (File, error) { return o.open(name, true) }

func (o *overlay) open(name string, writable bool) (File, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.file("open", name)
	if err != nil {
		return nil, err
	}
	f := &overFile{o: o, node: n, name: name, writable: writable}
	if n.from != "" {
		if f.base, err = o.base.Open(n.from); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Remove implements FS.
func (o *overlay) Remove(name string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	name = path.Clean(name)
	n, err := o.look(name)
	if err != nil {
		return err
	}
	if n == nil {
		return pathError("remove", name, fs.ErrNotExist)
	}
	if n.dir {
		if names, err := o.list(name); err != nil || len(names) > 0 {
			return errors.Join(err, pathError("remove", name, syscall.ENOTEMPTY))
		}
	}
	o.nodes[name] = &overNode{gone: true}
	return nil
}

// RemoveAll implements FS.
func (o *overlay) RemoveAll(name string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	name = path.Clean(name)
	for at := range o.nodes {
		if strings.HasPrefix(at, name+"/") {
			delete(o.nodes, at)
		}
	}
	o.nodes[name] = &overNode{gone: true}
	return nil
}

// Rename implements FS, for files.
func (o *overlay) Rename(oldName, newName string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.file("rename", oldName)
	if err != nil {
		return err
	}
	if err := o.above("rename", path.Clean(newName)); err != nil {
		return err
	}
	to, err := o.look(path.Clean(newName))
	if err != nil {
		return err
	}
	if to != nil && to.dir {
		return pathError("rename", newName, fs.ErrExist)
	}
	if to == n {
		return nil
	}
	o.nodes[path.Clean(newName)] = n
	o.nodes[path.Clean(oldName)] = &overNode{gone: true}
	return nil
}

// MkdirAll implements FS.
func (o *overlay) MkdirAll(dir string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mkdir(path.Clean(dir))
}

func (o *overlay) mkdir(dir string) error {
	n, err := o.look(dir)
	switch {
	case err != nil:
		return err
	case n != nil && n.dir:
		return nil
	case n != nil:
		return pathError("mkdir", dir, syscall.ENOTDIR)
	}
	if up := path.Dir(dir); up != dir {
		if err := o.mkdir(up); err != nil {
			return err
		}
	}
	o.nodes[dir] = &overNode{dir: true, hides: true}
	return nil
}

// List implements FS.
func (o *overlay) List(dir string) ([]string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.list(path.Clean(dir))
}

func (o *overlay) list(dir string) ([]string, error) {
	n, err := o.look(dir)
	switch {
	case err != nil:
		return nil, err
	case n == nil:
		return nil, pathError("list", dir, fs.ErrNotExist)
	case !n.dir:
		return nil, pathError("list", dir, syscall.ENOTDIR)
	}
	var names []string
	if o.shows(dir) {
		if names, err = o.base.List(dir); err != nil {
			return nil, err
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return o.nodes[path.Join(dir, name)] != nil })
	for at, n := range o.nodes {
		if path.Dir(at) == dir && at != dir && !n.gone {
			names = append(names, path.Base(at))
		}
	}
	sort.Strings(names)
	return names, nil
}

// Stat implements FS.
func (o *overlay) Stat(name string) (size int64, isDir bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.look(path.Clean(name))
	if err != nil {
		return 0, false, err
	}
	if n == nil {
		return 0, false, pathError("stat", name, fs.ErrNotExist)
	}
	return n.size, n.dir, nil
}

// SyncDir implements FS: there is nothing to be made durable.
func (o *overlay) SyncDir(name string) error {
	_, isDir, err := o.Stat(name)
	if err == nil && !isDir {
		return pathError("syncdir", name, syscall.ENOTDIR)
	}
	return err
}

// Space implements FS: what is written takes none of base's.
func (o *overlay) Space(dir string) (free, size int64, err error) { return o.base.Space(dir) }

// overFile is a handle; base is nil if nothing of base's bytes was in the file when it was opened.
type overFile struct {
	o        *overlay
	node     *overNode
	base     File
	name     string
	writable bool
	closed   bool
}

func (f *overFile) use(op string, write bool) error {
	f.o.mu.Lock()
	switch {
	case f.closed:
		return pathError(op, f.name, fs.ErrClosed)
	case write && !f.writable:
		return pathError(op, f.name, fs.ErrPermission)
	}
	return nil
}

func (f *overFile) ReadAt(p []byte, off int64) (int, error) {
	defer f.o.mu.Unlock()
	if err := f.use("read", false); err != nil {
		return 0, err
	}
	n := f.node
	if off < 0 {
		return 0, pathError("read", f.name, fs.ErrInvalid)
	}
	if off >= n.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > n.size-off
	if short {
		p = p[:n.size-off]
	}
	clear(p)
	if below := min(int64(len(p)), n.keep-off); below > 0 {
		if _, err := f.base.ReadAt(p[:below], off); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
	}
	for _, w := range n.writes {
		if from, to := max(off, w.off), min(off+int64(len(p)), w.off+int64(len(w.b))); from < to {
			copy(p[from-off:to-off], w.b[from-w.off:])
		}
	}
	if short {
		return len(p), io.EOF
	}
	return len(p), nil
}

func (f *overFile) WriteAt(p []byte, off int64) (int, error) {
	defer f.o.mu.Unlock()
	if err := f.use("write", true); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathError("write", f.name, fs.ErrInvalid)
	}
	n := f.node
	n.writes = append(n.writes, overWrite{off, slices.Clone(p)})
	n.size = max(n.size, off+int64(len(p)))
	return len(p), nil
}

func (f *overFile) WritevAt(bufs [][]byte, off int64) (int, error) { return writeEach(f, bufs, off) }

func (f *overFile) Truncate(size int64) error {
	defer f.o.mu.Unlock()
	if err := f.use("truncate", true); err != nil {
		return err
	}
	if size < 0 {
		return pathError("truncate", f.name, fs.ErrInvalid)
	}
	n := f.node
	n.keep, n.size = min(n.keep, size), size
	for i := range n.writes {
		w := &n.writes[i]
		w.b = w.b[:max(0, min(int64(len(w.b)), size-w.off))]
	}
	return nil
}

func (f *overFile) Sync() error {
	defer f.o.mu.Unlock()
	return f.use("sync", false)
}

func (f *overFile) Size() (int64, error) {
	defer f.o.mu.Unlock()
	if err := f.use("size", false); err != nil {
		return 0, err
	}
	return f.node.size, nil
}

func (f *overFile) Close() error {
	defer f.o.mu.Unlock()
	if err := f.use("close", false); err != nil {
		return err
	}
	f.closed = true
	if f.base == nil {
		return nil
	}
	return f.base.Close()
}

// DropCache asks base: what it lost must show here, too.
func (f *overFile) DropCache(from int64) error {
	defer f.o.mu.Unlock()
	if err := f.use("dropcache", false); err != nil || f.base == nil {
		return err
	}
	return f.base.DropCache(from)
}
