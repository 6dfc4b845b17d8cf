package segment

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lograft/segment/vfs"
)

// Environment variables by which the test starts itself again: in a mount namespace of its own, and as the process that writes.
const (
	powerCutInside = "SEGMENT_POWERCUT_INSIDE"
	powerCutWriter = "SEGMENT_POWERCUT_WRITER"
)

// A real file system: ext4 on a loop device, a process that appends, syncs and says what is durable. It is stopped at a random moment,
// the image is copied as it is then, which is what a power cut leaves of it, and the copy is mounted: what was durable is there, all of
// it is what was appended, and nothing is taken for damage.
func TestPowerCut(t *testing.T) {
	if os.Getenv(powerCutInside) != "" {
		powerCuts(t)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount an ext4 image on a loop device")
	}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount", "unshare", "cp"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s (package e2fsprogs or util-linux)", tool)
		}
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("needs loop devices, /dev/loop-control is missing")
	}
	// In a mount namespace of its own nothing stays mounted, whatever happens.
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", os.Args[0], "-test.run", "^TestPowerCut$", "-test.v")
	cmd.Env = append(os.Environ(), powerCutInside+"=1", "SEGMENT_SEED="+strconv.FormatUint(flagOrEnv(*crashSeed, "SEGMENT_SEED", 1), 10))
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		t.Logf("%s", out)
	case strings.Contains(string(out), "cannot mount here"):
		t.Skipf("%s", out)
	default:
		t.Fatalf("%v\n%s", err, out)
	}
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

func powerCuts(t *testing.T) {
	seed := flagOrEnv(*crashSeed, "SEGMENT_SEED", 1)
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 4))
	dir := t.TempDir()
	disk, mnt, mnt2 := filepath.Join(dir, "disk"), filepath.Join(dir, "mnt"), filepath.Join(dir, "mnt2")
	for _, d := range []string{mnt, mnt2} {
		if err := os.Mkdir(d, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(disk)
	if err == nil {
		err = errors.Join(f.Truncate(96<<20), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	command(t, "mkfs.ext4", "-q", "-F", disk)
	if out, err := exec.Command("mount", "-o", "loop", disk, mnt).CombinedOutput(); err != nil {
		t.Fatalf("cannot mount here: %v: %s", err, out)
	}
	defer command(t, "umount", mnt)
	for cut := range 5 {
		cutPower(t, rng, cut, disk, mnt, mnt2)
	}
}

// cutPower lets a writer of its own directory run, stops it, and looks at what a copy of the disk holds.
func cutPower(t *testing.T, rng *rand.Rand, cut int, disk, mnt, mnt2 string) {
	writer := exec.Command(os.Args[0])
	writer.Env = append(os.Environ(), fmt.Sprintf("%s=%s/%d", powerCutWriter, mnt, cut))
	pipe, err := writer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	durable, first := uint64(0), uint64(0)
	rounds, said := 20+rng.IntN(400), bufio.NewScanner(pipe)
	for n := 0; n < rounds && said.Scan(); n++ {
		if _, err := fmt.Sscan(said.Text(), &durable, &first); err != nil {
			t.Fatalf("the writer said %q", said.Text())
		}
	}
	time.Sleep(time.Duration(rng.IntN(3000)) * time.Microsecond) // somewhere within the rounds that follow
	if err := writer.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	image := disk + ".copy"
	command(t, "cp", "--sparse=always", disk, image)
	if err := writer.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for said.Scan() { // what it had said before it was stopped counts, too
		if _, err := fmt.Sscan(said.Text(), &durable, &first); err != nil {
			break
		}
	}
	_ = writer.Wait() // it was killed
	command(t, "mount", "-o", "loop", image, mnt2)
	defer command(t, "umount", mnt2)
	o := powerCutOptions(fmt.Sprintf("%s/%d", mnt2, cut))
	o.CommitFloor = first - 1 // the trim had journalled it
	l, rec := mustOpen(t, o)
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	t.Logf("cut %d: durable %d, found %d, begins at %d, torn bytes %d", cut, durable, l.LastIndex(), l.FirstIndex(), rec.TornBytes)
	if l.LastIndex() < durable || len(rec.Faulty) > 0 {
		t.Fatalf("entry %d was durable: %+v", durable, rec)
	}
	if err := l.Verify(); err != nil {
		t.Fatal(err)
	}
	m, next := powerCutFrames(), Frame{}
	if err := l.Scan(l.FirstIndex(), func(f Frame) error {
		for next.Index < f.Index {
			next = m.next()
		}
		if !same(f, next) {
			return fmt.Errorf("entry %d is not what was appended", f.Index)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func powerCutOptions(dir string) Options {
	o := testOptions(vfs.OS())
	o.Dir, o.SegmentBytes, o.LimitOf = dir, 64<<10, nil
	return o
}

func powerCutFrames() *maker { return newMaker(rand.New(rand.NewPCG(11, 11))) }

// writeForPowerCut appends and syncs until it is killed and says on stdout, after each round, the durable index and the log's first.
func writeForPowerCut(dir string) int {
	l, _, err := Open(powerCutOptions(dir))
	m := powerCutFrames()
	for n := 0; err == nil; n++ {
		if err = l.Append(m.frames(1 + n%5)); err != nil {
			break
		}
		t := l.BeginSync()
		if err = l.EndSync(t, t.Do()); err != nil {
			break
		}
		fmt.Println(l.Durable(), l.FirstIndex())
		for lasts := l.ClosedLasts(); err == nil && len(lasts) > 0 && lasts[0] <= l.Durable(); lasts = lasts[1:] {
			l.SealNext(lasts[0])
			if s := l.BeginSeal(lasts[0], stateOf(lasts[0])); s != nil {
				err = l.EndSeal(s, s.Do())
			}
		}
		if n%50 == 49 && err == nil {
			err = l.TruncateFront(l.Durable() - 20)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}
