package bench

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/tidwall/wal"
	"golang.org/x/sys/unix"

	"lograft/internal/buffers"
	"lograft/segment"
	"lograft/segment/vfs"
)

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// batch is a data payload of n bytes whose checksum is right.
func batch(n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rng.Uint64())
	}
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// ours is a log with the position of its next frame.
type ours struct {
	*segment.Log
	next segment.Frame
}

func openOurs(b *testing.B, dir string, o segment.Options) *ours {
	b.Helper()
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	o.Dir, o.Group, o.Start = dir, segment.GroupID{1}, segment.Start{Index: 1, Term: 1}
	l, rec, err := segment.Open(o)
	check(b, err)
	return &ours{l, segment.Frame{Index: rec.Last + 1, Term: 1, Kind: segment.KindData, Count: 1, Offset: l.NextOffset()}}
}

func (l *ours) append(payload []byte) error {
	l.next.Payload = payload
	err := l.Append([]segment.Frame{l.next})
	l.next.Index, l.next.Offset = l.next.Index+1, l.next.NextOffset()
	return err
}

func (l *ours) sync() error {
	t := l.BeginSync()
	return l.EndSync(t, t.Do())
}

// bare is a loop of pwritev and fdatasync into files of 64 MiB.
type bare struct {
	dir  string
	f    *os.File
	at   int64
	n    int
	head [48]byte
}

func (w *bare) write(payload []byte) (err error) {
	if w.f == nil || w.at >= 64<<20 {
		if w.f != nil {
			w.f.Close()
		}
		w.n++
		w.at = 0
		if w.f, err = os.Create(fmt.Sprintf("%s/%d", w.dir, w.n)); err != nil {
			return err
		}
	}
	n, err := unix.Pwritev(int(w.f.Fd()), [][]byte{w.head[:], payload}, w.at)
	w.at += int64(n)
	return err
}

func (w *bare) sync() error { return unix.Fdatasync(int(w.f.Fd())) }

// side is one of the things compared.
type side struct {
	name string
	do   func() error
}

// compare lets the sides take turns and reports MB/s of each and how fast the first is beside every other one.
func compare(b *testing.B, bytes int64, sides ...side) {
	spent := make([]time.Duration, len(sides))
	b.ResetTimer()
	for n := range b.N {
		for k := range sides {
			s := (k + n) % len(sides)
			start := time.Now()
			if err := sides[s].do(); err != nil {
				b.Fatal(sides[s].name, err)
			}
			spent[s] += time.Since(start)
		}
	}
	for s := range sides {
		b.ReportMetric(float64(bytes)*float64(b.N)/1e6/spent[s].Seconds(), sides[s].name+"-MB/s")
		if s > 0 {
			b.ReportMetric(spent[s].Seconds()/spent[0].Seconds(), "x-"+sides[s].name)
		}
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkAppendSync appends one batch and syncs it.
func BenchmarkAppendSync(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("batch=%dKiB", size>>10), func(b *testing.B) {
			dir := b.TempDir()
			payload := batch(size)
			l := openOurs(b, dir+"/ours", segment.Options{})
			w := &bare{dir: dir}
			tw, err := wal.Open(dir+"/tidwall", wal.DefaultOptions)
			check(b, err)
			check(b, os.Mkdir(dir+"/raftwal", 0o750))
			rw, err := raftwal.Open(dir + "/raftwal")
			check(b, err)
			i, j := uint64(0), uint64(0)
			compare(b, int64(size),
				side{"ours", func() error {
					if err := l.append(payload); err != nil {
						return err
					}
					return l.sync()
				}},
				side{"bare", func() error {
					if err := w.write(payload); err != nil {
						return err
					}
					return w.sync()
				}},
				side{"tidwall", func() error { i++; return tw.Write(i, payload) }},
				side{"raftwal", func() error { j++; return rw.StoreLog(&raft.Log{Index: j, Term: 1, Data: payload}) }})
			check(b, l.Close())
			check(b, tw.Close())
			check(b, rw.Close())
		})
	}
}

// BenchmarkSixteenGroups appends 16 KiB to each of 16 logs and syncs them in one round, one after another, as the syncer does.
func BenchmarkSixteenGroups(b *testing.B) {
	dir := b.TempDir()
	payload := batch(16 << 10)
	var logs []*ours
	var files []*bare
	for g := range 16 {
		logs = append(logs, openOurs(b, fmt.Sprintf("%s/%d", dir, g), segment.Options{}))
		sub := fmt.Sprintf("%s/bare%d", dir, g)
		check(b, os.Mkdir(sub, 0o750))
		files = append(files, &bare{dir: sub})
	}
	compare(b, 16*16<<10,
		side{"ours", func() error {
			for _, l := range logs {
				if err := l.append(payload); err != nil {
					return err
				}
			}
			for _, l := range logs {
				if err := l.sync(); err != nil {
					return err
				}
			}
			return nil
		}},
		side{"bare", func() error {
			for _, w := range files {
				if err := w.write(payload); err != nil {
					return err
				}
			}
			for _, w := range files {
				if err := w.sync(); err != nil {
					return err
				}
			}
			return nil
		}})
	for _, l := range logs {
		check(b, l.Close())
	}
}

// BenchmarkRead reads 64 MiB in sequence, a MiB at a time, every checksum checked, beside pread of the same file. cold: the pages are
// dropped before each pass. Both sides read into memory that they use again.
func BenchmarkRead(b *testing.B) {
	dir := b.TempDir()
	payload := batch(64 << 10)
	l := openOurs(b, dir+"/ours", segment.Options{TailCacheBytes: 1, SegmentBytes: 256 << 20})
	const frames = 1024
	for range frames {
		check(b, l.append(payload))
	}
	check(b, l.sync())
	names, err := filepath.Glob(dir + "/ours/*.log")
	check(b, err)
	f, err := os.Open(names[0])
	check(b, err)
	buf := make([]byte, 1<<20)
	pool := buffers.NewPool(8 << 20)
	for _, cold := range []bool{false, true} {
		drop := func() error {
			if !cold {
				return nil
			}
			return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		}
		b.Run(map[bool]string{false: "warm", true: "cold"}[cold], func(b *testing.B) {
			compare(b, frames*64<<10,
				side{"ours", func() error {
					if err := drop(); err != nil {
						return err
					}
					for i := uint64(2); i < frames+2; {
						t := l.ColdEntries(i, frames+2, 1<<20)
						t.Buffers = pool
						if t.Do(); t.Err != nil {
							return t.Err
						}
						i += uint64(len(t.Frames))
						t.Lent.Free()
					}
					return nil
				}},
				side{"bare", func() error {
					if err := drop(); err != nil {
						return err
					}
					for at := int64(0); ; at += int64(len(buf)) {
						if _, err := f.ReadAt(buf, at); err == io.EOF {
							return nil
						} else if err != nil {
							return err
						}
					}
				}})
		})
	}
	check(b, f.Close())
	check(b, l.Close())
}

// counted counts the bytes given to write calls.
type counted struct{ bytes int64 }

func (c *counted) Before(call vfs.Call) vfs.Fault {
	if call.Op == vfs.OpWrite {
		c.bytes += int64(call.Bytes)
	}
	return vfs.Fault{}
}

// BenchmarkWritten reports the bytes given to write calls per payload byte, footers, headers and checkpoints included.
func BenchmarkWritten(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("batch=%dKiB", size>>10), func(b *testing.B) {
			c := &counted{}
			payload := batch(size)
			l := openOurs(b, b.TempDir()+"/ours", segment.Options{FS: vfs.Inject(vfs.OS(), c), SegmentBytes: 8 << 20})
			total := int64(0)
			for b.Loop() {
				for range (32 << 20) / size {
					check(b, l.append(payload))
					total += int64(size)
				}
				check(b, l.sync())
				for _, last := range l.ClosedLasts() {
					l.SealNext(last)
					if s := l.BeginSeal(last, make([]byte, 4096)); s != nil {
						check(b, l.EndSeal(s, s.Do()))
					}
				}
			}
			b.ReportMetric(float64(c.bytes)/float64(total), "written/payload")
			check(b, l.Close())
		})
	}
}
