package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"lograft/segment/vfs"
)

// Whatever lies in one of the three logs, a journal opens, or says that it is of a newer program; what it then holds it holds again in the
// next start, and what may be lost stays lost: a promise whose record is gone is never believed.
func FuzzLoad(f *testing.F) {
	mem := vfs.NewMem()
	m := &maker{open: func() (Journal, error) { return OpenTwin(mem, "journal") }}
	filled(f, m, rand.New(rand.NewPCG(4, 4)), 6)
	read := func(t testing.TB, name string) []byte {
		file := must(mem.Open("journal/" + name))(t)
		b := make([]byte, must(file.Size())(t))
		_, err := file.ReadAt(b, 0)
		check(t, errors.Join(err, file.Close()))
		return b
	}
	logs := []string{"a", "b", "marks"}
	for i, name := range logs {
		b := read(f, name)
		f.Add(b, uint8(i))
		f.Add(b[:len(b)*2/3], uint8(i))
		b[len(b)/2] ^= 1
		f.Add(b, uint8(i))
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint8) {
		mem := mem.Clone()
		name := "journal/" + logs[int(at)%len(logs)]
		check(t, mem.Remove(name))
		file := must(mem.Create(name))(t)
		_, err := file.WriteAt(b, 0)
		check(t, errors.Join(err, file.Sync(), file.Close()))
		open := func() (l Loaded, err error) {
			j, err := OpenTwin(mem, "journal")
			if err != nil {
				return l, err
			}
			l, err = j.Load()
			return l, errors.Join(err, j.Close())
		}
		first, err := open()
		if err != nil {
			return
		}
		again, err := open()
		if err != nil {
			t.Fatalf("opened twice: %v", err)
		}
		if len(again.HardDamage) > 0 || again.MarksDamage || again.Torn > 0 {
			t.Fatalf("opened twice: not healed: %+v", again)
		}
		show := func(l Loaded) (s string) {
			for _, g := range l.Groups {
				s += fmt.Sprintf("%+v lost marks %t\n", clean(g), g.MarksLost)
			}
			return s
		}
		if show(again) != show(first) {
			t.Fatalf("opened twice:\n%s\nthen\n%s", show(first), show(again))
		}
	})
}
