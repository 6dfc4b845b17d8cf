package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/tidwall/wal"
)

// The flaws of tidwall/wal that the journal closes: each test shows the library alone first.

// plainLog writes n records of the library alone and returns its one file.
func plainLog(t testing.TB, dir string, n int) string {
	t.Helper()
	l := must(wal.Open(dir, wal.DefaultOptions))(t)
	for i := 1; i <= n; i++ {
		check(t, l.Write(uint64(i), bytes.Repeat([]byte{byte(i)}, 50)))
	}
	check(t, l.Close())
	return filepath.Join(dir, fmt.Sprintf("%020d", 1))
}

// A torn last record: the library refuses the whole log; the journal cuts it off.
func TestFlawTornTail(t *testing.T) {
	file := plainLog(t, t.TempDir()+"/plain", 3)
	info := must(os.Stat(file))(t)
	check(t, os.Truncate(file, info.Size()-10))
	if _, err := wal.Open(filepath.Dir(file), wal.DefaultOptions); !errors.Is(err, wal.ErrCorrupt) {
		t.Fatalf("the library opens a torn log now (%v): the journal's own cut may go", err)
	}
	m := makes(t)["wal"]
	w := filled(t, m, rand.New(rand.NewPCG(1, 9)), 4)
	for _, log := range []string{"a", "b"} { // a torn record, as a crash within the round after leaves it
		f := m.files(log)[0]
		m.write(f, append(m.read(f), 60, 1, 2, 3))
	}
	l := reload(t, m)
	if err := w.differs(l); err != nil || l.Torn != 2 || len(l.HardDamage) > 0 {
		t.Fatalf("%v %+v", err, l)
	}
}

// A flipped byte: the library hands it out as data; the journal knows.
func TestFlawNoChecksum(t *testing.T) {
	file := plainLog(t, t.TempDir()+"/plain", 3)
	b := must(os.ReadFile(file))(t)
	b[20] ^= 1
	check(t, os.WriteFile(file, b, 0o640))
	l := must(wal.Open(filepath.Dir(file), wal.DefaultOptions))(t)
	if got, err := l.Read(1); err != nil || bytes.Equal(got, bytes.Repeat([]byte{1}, 50)) {
		t.Fatalf("the library sees a flipped byte now: %v", err)
	}
	check(t, l.Close())
	m := makes(t)["wal"]
	w := filled(t, m, rand.New(rand.NewPCG(2, 9)), 4)
	f := m.files("a")[0]
	b = m.read(f)
	b[60] ^= 1
	m.write(f, b)
	loaded := reload(t, m)
	if err := w.differs(loaded); err != nil || !slices.Equal(loaded.HardDamage, []string{"a"}) {
		t.Fatalf("%v %+v", err, loaded)
	}
}

// A new file of the library: its name is not durable before its directory is synced, which the library never does. The journal syncs the
// directory after every call that may have made or renamed one, before anybody is told that the record is stable.
func TestFlawNoDirectorySync(t *testing.T) {
	dir := t.TempDir()
	var synced []string // names that the directory held when it was last synced
	real := syncDir
	defer func() { syncDir = real }()
	syncDir = func(d string) error {
		if d == dir+"/journal/a" {
			synced = must(fileNames(d))(t)
		}
		return real(d)
	}
	j := must(OpenWAL(dir + "/journal"))(t)
	grew := 0
	for i := range 12 { // files of 2 MiB
		j.PutBirth(Birth{Group: group(i % 3), ReplicaID: uint64(i), Settings: make([]byte, recordBytesMax-100)})
		j.PutHardState(group(i%3), HardState{Term: 1})
		before := len(synced)
		check(t, flush(j))
		if now := must(fileNames(dir + "/journal/a"))(t); !slices.Equal(now, synced) {
			t.Fatalf("sync %d: the directory holds %v, synced was %v", i, now, synced)
		}
		if len(synced) != before {
			grew++
		}
	}
	if grew < 2 {
		t.Errorf("the library made %d files", grew)
	}
	check(t, j.Close())
}

// A write that the disk takes only half of: the library reports it once and goes on behind the half record, so that the log can't be
// opened again; the journal stops at the first error, and the next start has everything that was ever acknowledged. The limit of the
// file size stands for the full disk, in a process of its own.
func TestFlawPartialWrite(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(must(os.Executable())(t))
	cmd.Env = append(os.Environ(), "JOURNAL_TEST_FULL_DISK="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := wal.Open(dir+"/plain", wal.DefaultOptions); !errors.Is(err, wal.ErrCorrupt) {
		t.Errorf("the library opens what it wrote behind a half record (%v)", err)
	}
	want := string(must(os.ReadFile(dir + "/acknowledged"))(t))
	j := must(OpenWAL(dir + "/journal"))(t)
	l := must(j.Load())(t)
	check(t, j.Close())
	if got := fmt.Sprint(l.Groups[0].HardState.Term); got != want || l.Damaged() || len(l.HardDamage) > 0 || l.Torn == 0 {
		t.Errorf("term %s, acknowledged was %s: %+v", got, want, l)
	}
}

// writeUntilFull runs in a process whose files end at 10,000 bytes: it writes with the library alone and with the journal until that is
// reached, and goes on. The result is the exit code.
func writeUntilFull(dir string) int {
	signal.Ignore(syscall.SIGXFSZ)
	limit := syscall.Rlimit{Cur: 10_000, Max: ^uint64(0)}
	fail := func(what string, err error) int {
		fmt.Println(what, err)
		return 1
	}
	plain, err := wal.Open(dir+"/plain", wal.DefaultOptions)
	if err != nil {
		return fail("open", err)
	}
	j, err := OpenWAL(dir + "/journal")
	if err != nil {
		return fail("open", err)
	}
	j.PutBirth(Birth{Group: group(1), ReplicaID: 1})
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return fail("limit", err)
	}
	failed := 0
	for i := uint64(1); failed == 0; i++ {
		if plain.Write(i, bytes.Repeat([]byte{0xff}, 999)) != nil {
			failed++
		}
	}
	acknowledged, errs := uint64(0), 0
	for term := uint64(1); errs < 3; term++ {
		j.PutHardState(group(1), HardState{Term: term})
		if err := flush(j); err != nil {
			errs++
			if errs == 2 { // space again: nothing may be written behind the half record
				limit.Cur = ^uint64(0)
				if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
					return fail("limit", err)
				}
			}
			continue
		}
		if errs > 0 {
			return fail("a write after a failed one was acknowledged", nil)
		}
		acknowledged = term
	}
	last, err := plain.LastIndex()
	if err == nil {
		err = plain.Write(last+1, bytes.Repeat([]byte{0xff}, 999)) // the library goes on
	}
	if err != nil {
		return fail("the library stops after a failed write now", err)
	}
	if err := os.WriteFile(dir+"/acknowledged", []byte(fmt.Sprint(acknowledged)), 0o600); err != nil {
		return fail("write", err)
	}
	return 0
}
