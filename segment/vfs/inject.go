package vfs

import "sync"

// Op is an operation of an FS or File.
type Op uint8

// The operations that an Injector is asked about.
const (
	OpCreate Op = iota
	OpOpen
	OpRemove
	OpRename
	OpMkdir
	OpList
	OpStat
	OpSyncDir
	OpRead
	OpWrite
	OpTruncate
	OpSync
	OpClose
	OpSpace
)

var opNames = [...]string{"create", "open", "remove", "rename", "mkdir", "list", "stat", "syncdir", "read", "write", "truncate", "sync", "close", "space"}

func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return "unknown"
}

// Changes reports whether the operation may change what is on disk.
func (o Op) Changes() bool {
	switch o {
	case OpOpen, OpList, OpStat, OpRead, OpClose, OpSpace:
		return false
	}
	return true
}

// Call is one operation about to be done. Offset and Bytes are those of a read or write.
type Call struct {
	Op     Op
	Path   string
	Offset int64
	Bytes  int
}

// Fault is what happens to a call. The zero Fault lets it pass.
type Fault struct {
	Err   error  // answered instead of doing it; for a write after Short bytes were written
	Short int    // bytes of a write done before Err
	Wait  func() // called before anything else
	Lie   bool   // a Sync answers success without being done
}

// Injector decides about every call, from whatever goroutine makes it.
type Injector interface{ Before(Call) Fault }

// InjectorFunc is a function as an Injector.
type InjectorFunc func(Call) Fault

// Before implements Injector.
func (f InjectorFunc) Before(c Call) Fault { return f(c) }

// Rule gives Fault to calls of Op on paths that Match accepts (nil: all), after letting Skip of them pass, Times times (0: always).
type Rule struct {
	Op    Op
	Match func(path string) bool
	Skip  int
	Times int
	Fault Fault
}

// Rules is an Injector made of rules; the first that applies decides. It may be used by several goroutines.
type Rules struct {
	mu    sync.Mutex
	rules []Rule
	seen  []int
}

// NewRules returns rules as an Injector.
func NewRules(rules ...Rule) *Rules { return &Rules{rules: rules, seen: make([]int, len(rules))} }

// Before implements Injector.
func (r *Rules) Before(c Call) Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.rules {
		rule := &r.rules[i]
		if rule.Op != c.Op || rule.Match != nil && !rule.Match(c.Path) {
			continue
		}
		r.seen[i]++
		if n := r.seen[i] - rule.Skip; n > 0 && (rule.Times == 0 || n <= rule.Times) {
			return rule.Fault
		}
	}
	return Fault{}
}

type injected struct {
	fs  FS
	inj Injector
}

// Inject returns fs with inj asked before every operation.
func Inject(fs FS, inj Injector) FS { return &injected{fs, inj} }

func (i *injected) before(op Op, name string) error {
	f := i.inj.Before(Call{Op: op, Path: name})
	if f.Wait != nil {
		f.Wait()
	}
	if f.Err != nil {
		return pathError(op.String(), name, f.Err)
	}
	return nil
}

func (i *injected) file(op Op, name string, open func(string) (File, error)) (File, error) {
	if err := i.before(op, name); err != nil {
		return nil, err
	}
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	return &injectedFile{File: f, i: i, name: name}, nil
}

func (i *injected) Create(name string) (File, error) { return i.file(OpCreate, name, i.fs.Create) }
func (i *injected) Open(name string) (File, error)   { return i.file(OpOpen, name, i.fs.Open) }
func (i *injected) OpenRW(name string) (File, error) { return i.file(OpOpen, name, i.fs.OpenRW) }

func (i *injected) Remove(name string) error {
	if err := i.before(OpRemove, name); err != nil {
		return err
	}
	return i.fs.Remove(name)
}

func (i *injected) Rename(oldName, newName string) error {
	if err := i.before(OpRename, oldName); err != nil {
		return err
	}
	return i.fs.Rename(oldName, newName)
}

func (i *injected) MkdirAll(dir string) error {
	if err := i.before(OpMkdir, dir); err != nil {
		return err
	}
	return i.fs.MkdirAll(dir)
}

func (i *injected) RemoveAll(dir string) error {
	if err := i.before(OpRemove, dir); err != nil {
		return err
	}
	return i.fs.RemoveAll(dir)
}

func (i *injected) List(dir string) ([]string, error) {
	if err := i.before(OpList, dir); err != nil {
		return nil, err
	}
	return i.fs.List(dir)
}

func (i *injected) Stat(name string) (int64, bool, error) {
	if err := i.before(OpStat, name); err != nil {
		return 0, false, err
	}
	return i.fs.Stat(name)
}

func (i *injected) SyncDir(dir string) error {
	if err := i.before(OpSyncDir, dir); err != nil {
		return err
	}
	return i.fs.SyncDir(dir)
}

func (i *injected) Space(dir string) (free, size int64, err error) {
	if err := i.before(OpSpace, dir); err != nil {
		return 0, 0, err
	}
	return i.fs.Space(dir)
}

type injectedFile struct {
	File
	i    *injected
	name string
}

func (f *injectedFile) ReadAt(p []byte, off int64) (int, error) {
	fault := f.i.inj.Before(Call{Op: OpRead, Path: f.name, Offset: off, Bytes: len(p)})
	if fault.Wait != nil {
		fault.Wait()
	}
	if fault.Err != nil {
		return 0, pathError("read", f.name, fault.Err)
	}
	return f.File.ReadAt(p, off)
}

func (f *injectedFile) WriteAt(p []byte, off int64) (int, error) {
	return f.WritevAt([][]byte{p}, off)
}

func (f *injectedFile) WritevAt(bufs [][]byte, off int64) (int, error) {
	size := 0
	for _, b := range bufs {
		size += len(b)
	}
	fault := f.i.inj.Before(Call{Op: OpWrite, Path: f.name, Offset: off, Bytes: size})
	if fault.Wait != nil {
		fault.Wait()
	}
	if fault.Err == nil {
		return f.File.WritevAt(bufs, off)
	}
	n, left := 0, min(fault.Short, size)
	for _, b := range bufs {
		b = b[:min(len(b), left)]
		m, err := f.File.WriteAt(b, off+int64(n))
		n += m
		left -= m
		if err != nil {
			return n, err
		}
	}
	return n, pathError("write", f.name, fault.Err)
}

func (f *injectedFile) Truncate(size int64) error {
	if err := f.i.before(OpTruncate, f.name); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *injectedFile) Sync() error {
	fault := f.i.inj.Before(Call{Op: OpSync, Path: f.name})
	if fault.Wait != nil {
		fault.Wait()
	}
	switch {
	case fault.Err != nil:
		return pathError("sync", f.name, fault.Err)
	case fault.Lie:
		return nil
	}
	return f.File.Sync()
}

func (f *injectedFile) Close() error {
	if err := f.i.before(OpClose, f.name); err != nil {
		return err
	}
	return f.File.Close()
}
