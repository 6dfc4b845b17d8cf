package sim

import (
	"maps"
	"slices"

	"lograft/segment/vfs"
)

// handles are the open files of one start of a broker, by name.
type handles map[string]int

// names are the files that are open, in order.
func (h handles) names() []string { return slices.Sorted(maps.Keys(h)) }

// tracked is a file system that counts its open files.
type tracked struct {
	vfs.FS
	open handles
}

func (t *tracked) hold(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	t.open[name]++
	return &trackedFile{File: f, open: t.open, name: name}, nil
}

// Create implements vfs.FS.
func (t *tracked) Create(name string) (vfs.File, error) {
	f, err := t.FS.Create(name)
	return t.hold(name, f, err)
}

// Open implements vfs.FS.
func (t *tracked) Open(name string) (vfs.File, error) {
	f, err := t.FS.Open(name)
	return t.hold(name, f, err)
}

// OpenRW implements vfs.FS.
func (t *tracked) OpenRW(name string) (vfs.File, error) {
	f, err := t.FS.OpenRW(name)
	return t.hold(name, f, err)
}

type trackedFile struct {
	vfs.File
	open   handles
	name   string
	closed bool
}

// Close implements vfs.File.
func (f *trackedFile) Close() error {
	if !f.closed {
		f.closed = true
		if f.open[f.name]--; f.open[f.name] == 0 {
			delete(f.open, f.name)
		}
	}
	return f.File.Close()
}
