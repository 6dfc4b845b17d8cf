package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Random calls on an overlay and on a copy of what is below it answer the same and leave the same; what is below stays as it was.
func TestOverlay(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	names := []string{"d/a", "d/b", "d/c", "d/sub/a", "d/sub/b"}
	for range 50 {
		base := NewMem()
		if err := base.MkdirAll("d/sub"); err != nil {
			t.Fatal(err)
		}
		for _, name := range names[:4] {
			overlayFile(t, base, name, rng)
		}
		before, twin, over := content(t, base, "d"), base.Clone(), Overlay(base)
		for range 60 {
			a, b := names[rng.IntN(len(names))], names[rng.IntN(len(names))]
			call, off, n := rng.IntN(9), rng.Int64N(300), rng.IntN(200)
			if x, y := overlayCall(twin, call, a, b, off, n), overlayCall(over, call, a, b, off, n); x != y {
				t.Fatalf("call %d on %s, %s at %d, %d: %s, want %s", call, a, b, off, n, y, x)
			}
		}
		if x, y := content(t, twin, "d"), content(t, over, "d"); x != y {
			t.Fatalf("holds\n%s\nwant\n%s", y, x)
		}
		if now := content(t, base, "d"); now != before {
			t.Fatalf("what is below changed from\n%s\nto\n%s", before, now)
		}
	}
}

func overlayFile(t *testing.T, to FS, name string, rng *rand.Rand) {
	t.Helper()
	f, err := to.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, rng.IntN(300))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// overlayCall makes a call and says what came of it.
func overlayCall(on FS, call int, a, b string, off int64, n int) string {
	var err error
	answer := ""
	use := func(do func(f File)) {
		f, e := on.OpenRW(a)
		if err = e; e == nil {
			do(f)
			err = errors.Join(err, f.Close())
		}
	}
	switch call {
	case 0:
		var f File
		if f, err = on.Create(a); err == nil {
			_, err = f.WriteAt([]byte("new"), off)
			err = errors.Join(err, f.Close())
		}
	case 1:
		err = on.Remove(a)
	case 2:
		err = on.Rename(a, b)
	case 3:
		use(func(f File) { _, err = f.WriteAt(slices.Repeat([]byte{byte(off)}, n), off) })
	case 4:
		use(func(f File) { err = f.Truncate(off) })
	case 5:
		use(func(f File) {
			p := make([]byte, n)
			var m int
			m, err = f.ReadAt(p, off)
			answer = fmt.Sprintf("%x", p[:m])
		})
	case 6:
		if n < 20 {
			err = on.RemoveAll("d/sub")
		}
	case 7:
		if n < 100 {
			err = on.MkdirAll("d/sub")
		}
	case 8:
		var names []string
		names, err = on.List("d/sub")
		answer = fmt.Sprint(names)
	}
	for _, kind := range []error{fs.ErrNotExist, fs.ErrExist, io.EOF} {
		if errors.Is(err, kind) {
			return answer + kind.Error()
		}
	}
	return answer + fmt.Sprint(err != nil)
}

// content is every name below dir with its bytes.
func content(t *testing.T, of FS, dir string) (all string) {
	t.Helper()
	names, err := of.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		name = dir + "/" + name
		size, isDir, err := of.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if isDir {
			all += name + "/\n" + content(t, of, name)
			continue
		}
		f, err := of.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, size)
		if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		all += fmt.Sprintf("%s %x\n", name, b)
	}
	return all
}
