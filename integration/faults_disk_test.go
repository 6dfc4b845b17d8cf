package integration

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var diskCases = []faultCase{
	{name: "bit-flip", hurt: func(f *faultRun) {
		f.load.await(4000) // several sealed segments
		n := f.follower()
		must(f.T, n.Kill())
		for _, group := range f.groups(n) {
			if sealed := sealedSegments(f.T, group); len(sealed) > 0 {
				flipByte(f.T, sealed[0])
			}
		}
		f.start(n)
	}},
	{name: "torn-tail", short: true, hurt: func(f *faultRun) {
		for i, tail := range [][]byte{[]byte(strings.Repeat("garbage ", 100)), make([]byte, 5000), slices.Repeat([]byte{0xff}, 64)} {
			n := f.c.Nodes()[i]
			must(f.T, n.Kill())
			for _, group := range f.groups(n) {
				logs := segmentsOf(f.T, group)
				appendTo(f.T, logs[len(logs)-1], tail)
			}
			f.start(n)
		}
	}},
	{name: "directory-wiped", short: true, hurt: func(f *faultRun) {
		n := f.follower()
		must(f.T, n.Kill())
		kept := n.DataDir + ".kept"
		must(f.T, os.Rename(n.DataDir, kept))
		must(f.T, os.MkdirAll(n.DataDir, 0o755))
		f.start(n)
		f.healthy()
		// From now on the directory that was lost is refused, should it be found again.
		f.insteadOf(n, kept, "is registered with data directory")
	}, gapMax: 5 * time.Second},
	{name: "directory-old-copy", hurt: func(f *faultRun) {
		n := f.follower()
		must(f.T, n.Kill())
		old := n.DataDir + ".old"
		copyDir(f.T, n.DataDir, old)
		f.start(n)
		f.load.await(f.load.count() + 100)
		must(f.T, n.Kill())
		must(f.T, os.RemoveAll(n.DataDir))
		must(f.T, os.Rename(old, n.DataDir))
		f.load.await(f.load.count() + 20)
		for range 2 { // its boot number is that of a start that was seen, with another nonce; then a higher one
			f.refused(n, "old copy", "stop the copy")
		}
		must(f.T, os.RemoveAll(n.DataDir))
		must(f.T, os.MkdirAll(n.DataDir, 0o755))
		f.start(n)
		f.healthy()
	}, gapMax: 5 * time.Second},
	{name: "eio-sync", needs: needsStrace, restart: true, hurt: func(f *faultRun) { f.injectUntilExit(f.leader(), "fdatasync:error=EIO:when=3") }},
	{name: "eio-write", needs: needsStrace, restart: true, hurt: func(f *faultRun) { f.injectUntilExit(f.leader(), "pwritev,pwritev2,pwrite64:error=EIO:when=3") }},
	{name: "eio-rename", needs: needsStrace, restart: true, hurt: func(f *faultRun) { f.injectUntilExit(f.leader(), "rename,renameat,renameat2:error=EIO:when=1") }},
	{name: "eio-directory-sync", needs: needsStrace, restart: true, hurt: func(f *faultRun) {
		n := f.leader()
		f.injectUntilExit(n, "fsync:error=EIO:when=1", f.groups(n)...)
	}},
	{name: "slow-disk-leader", needs: needsStrace, hurt: func(f *faultRun) {
		n := f.leader()
		stop := f.strace(n, "fdatasync:delay_enter=2000000")
		defer stop()
		moved := time.Now()
		f.leader(n.ID)
		f.note = fmt.Sprintf("(leader moved after %.1f s)", time.Since(moved).Seconds())
		f.load.await(f.load.count() + 100)
	}, gapMax: 6 * time.Second},
	{name: "slow-disk-follower", needs: needsStrace, hurt: func(f *faultRun) {
		stop := f.strace(f.follower(), "fdatasync:delay_enter=400000")
		f.sleep(6 * time.Second)
		stop()
	}, gapMax: 5 * time.Second},
	{name: "disk-full-one", needs: needsImages, images: true, restart: true, hurt: func(f *faultRun) {
		n := f.follower()
		free := f.images.fill(n)
		f.sleep(4 * time.Second)
		free()
		f.revive(n)
	}},
	{name: "disk-full-all", needs: needsImages, images: true, restart: true, hurt: func(f *faultRun) {
		var free []func()
		for _, n := range f.c.Nodes() {
			free = append(free, f.images.fill(n))
		}
		f.sleep(4 * time.Second)
		for _, give := range free {
			give()
		}
		for _, n := range f.c.Nodes() {
			f.revive(n)
		}
	}},
}

// revive starts a broker that has ended, as a supervisor would.
func (f *faultRun) revive(n *Node) {
	if !n.Running() {
		f.Logf("node %d had ended: %s", n.ID, lastLine(n.LogTail()))
		must(f.T, n.Start())
	}
	waitReady(f.T, f.ctx, f.c, n)
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// groups are the folders of the groups of a broker.
func (f *faultRun) groups(n *Node) []string {
	dirs, err := filepath.Glob(filepath.Join(n.DataDir, "groups", "*"))
	must(f.T, err)
	return dirs
}

func segmentsOf(t *testing.T, group string) []string {
	logs, err := filepath.Glob(filepath.Join(group, "*.log"))
	must(t, err)
	return logs
}

// sealedSegments are the segments of a group that have their checkpoint.
func sealedSegments(t *testing.T, group string) []string {
	return slices.DeleteFunc(segmentsOf(t, group), func(log string) bool {
		_, err := os.Stat(strings.TrimSuffix(log, ".log") + ".state")
		return err != nil
	})
}

func flipByte(t *testing.T, name string) {
	b, err := os.ReadFile(name)
	must(t, err)
	b[len(b)/2] ^= 0x10
	must(t, os.WriteFile(name, b, 0o644))
}

func appendTo(t *testing.T, name string, b []byte) {
	file, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = file.Write(b)
	must(t, errors.Join(err, file.Close()))
}

func copyDir(t *testing.T, from, to string) { must(t, os.CopyFS(to, os.DirFS(from))) }

// refused starts a broker that others must not listen to, waits until one of them or it says so in one of these ways, and kills it.
func (f *faultRun) refused(n *Node, words ...string) {
	f.Helper()
	said := func() int {
		count := 0
		for _, o := range f.c.Nodes() {
			log, _ := os.ReadFile(o.LogFile)
			for _, w := range words {
				count += strings.Count(string(log), w)
			}
		}
		return count
	}
	before := said()
	must(f.T, n.Start())
	if err := Until(f.ctx, func() (bool, error) { return said() > before, nil }); err != nil {
		f.Fatalf("nobody refuses node %d with one of %q: %v", n.ID, words, err)
	}
	if err := Until(f.ctx, func() (bool, error) { return !n.Running() || n.Ready(f.ctx) != nil, nil }); err != nil {
		f.Errorf("node %d is ready although it is refused: %v", n.ID, err)
	}
	if n.Running() {
		must(f.T, n.Kill())
	}
}

// insteadOf puts another directory in the place of a broker's, sees it refused, and puts the right one back.
func (f *faultRun) insteadOf(n *Node, other, words string) {
	f.Helper()
	must(f.T, n.Kill())
	right := n.DataDir + ".right"
	must(f.T, os.Rename(n.DataDir, right))
	must(f.T, os.Rename(other, n.DataDir))
	f.refused(n, words)
	must(f.T, os.RemoveAll(n.DataDir))
	must(f.T, os.Rename(right, n.DataDir))
	f.start(n)
}

func needsStrace() string {
	if _, err := exec.LookPath("strace"); err != nil {
		return "strace is not installed"
	}
	return ""
}

// strace attaches to a broker and injects what the expression says into calls on these paths, on any if there are none; stop detaches.
func (f *faultRun) strace(n *Node, inject string, paths ...string) (stop func()) {
	calls, _, _ := strings.Cut(inject, ":")
	args := []string{"-f", "-qq", "-o", filepath.Join(f.c.opts.Dir, "strace.log"), "-e", "trace=" + calls, "-e", "inject=" + inject, "-p", fmt.Sprint(n.Pid())}
	for _, path := range paths {
		args = append(args, "-P", path)
	}
	cmd := exec.Command("strace", args...)
	stderr := new(lockedBuffer)
	cmd.Stderr = stderr
	must(f.T, cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // its exit code is that of what it traces
	f.sleep(300 * time.Millisecond)
	select {
	case <-ended:
		if n.Running() {
			f.Skipf("strace can't attach here: %s", stderr)
		}
	default:
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	}
}

// injectUntilExit fails a call of a broker's disk: the broker must end by itself, not with 0, and name the reason.
func (f *faultRun) injectUntilExit(n *Node, inject string, paths ...string) {
	stop := f.strace(n, inject, paths...)
	defer stop()
	if err := Until(f.ctx, func() (bool, error) { return !n.Running(), nil }); err != nil {
		f.Fatalf("node %d runs on after its disk failed: %v", n.ID, err)
	}
	code, err := n.proc.wait(f.ctx)
	if err != nil || code == 0 || !strings.Contains(n.LogTail(), "input/output error") {
		f.Errorf("node %d ended with %d, %v and does not name the reason:\n%s", n.ID, code, err, n.LogTail())
	}
	f.load.await(f.load.count() + 50) // the others go on
	f.start(n)
}

// images are ext4 file systems in files: a power cut is a copy of the file, which has what was synced and whatever else the kernel had
// written by then.
type images struct {
	t       *testing.T
	dir     string
	mounted map[int]string // image by node
	cuts    int
}

const imageBytes = 96 << 20

func needsImages() string {
	if os.Getuid() != 0 {
		return "only root can mount an image"
	}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			return tool + " is not installed"
		}
	}
	return ""
}

func newImages(t *testing.T, dir string) *images {
	return &images{t: t, dir: dir, mounted: map[int]string{}}
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func (m *images) mountPoint(id int) string { return filepath.Join(m.dir, fmt.Sprint("disk-", id)) }

func (m *images) make(id int) (string, error) {
	image := filepath.Join(m.dir, fmt.Sprintf("image-%d", id))
	file, err := os.Create(image)
	if err != nil {
		return "", err
	}
	if err := errors.Join(file.Truncate(imageBytes), file.Close()); err != nil {
		return "", err
	}
	if err := errors.Join(command("mkfs.ext4", "-q", "-F", image), os.MkdirAll(m.mountPoint(id), 0o755)); err != nil {
		return "", err
	}
	if err := command("mount", "-o", "loop", image, m.mountPoint(id)); err != nil {
		m.t.Skipf("no loop devices here: %v", err)
	}
	m.mounted[id] = image
	m.t.Cleanup(func() {
		if err := command("umount", m.mountPoint(id)); err != nil {
			m.t.Error(err)
		}
	})
	dir := filepath.Join(m.mountPoint(id), "data")
	return dir, os.MkdirAll(dir, 0o755)
}

// cut takes the power from a broker.
func (m *images) cut(n *Node) {
	must(m.t, n.Kill())
	m.swap(n)
}

// swap puts the disk as it is on the medium in place of what the kernel has in its cache. The broker is down.
func (m *images) swap(n *Node) {
	m.cuts++
	next := filepath.Join(m.dir, fmt.Sprintf("image-%d-%d", n.ID, m.cuts))
	from, err := os.Open(m.mounted[n.ID])
	must(m.t, err)
	to, err := os.Create(next)
	must(m.t, err)
	_, err = io.Copy(to, from)
	must(m.t, errors.Join(err, from.Close(), to.Close()))
	must(m.t, command("umount", m.mountPoint(n.ID)))
	must(m.t, os.Remove(m.mounted[n.ID]))
	must(m.t, command("mount", "-o", "loop", next, m.mountPoint(n.ID)))
	m.mounted[n.ID] = next
}

// fill takes all the room of a broker's disk; free gives it back.
func (m *images) fill(n *Node) (free func()) {
	name := filepath.Join(m.mountPoint(n.ID), "fill")
	file, err := os.Create(name)
	must(m.t, err)
	for size := 1 << 20; size >= 512; {
		if _, err := file.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	must(m.t, file.Close())
	return func() { must(m.t, os.Remove(name)) }
}
