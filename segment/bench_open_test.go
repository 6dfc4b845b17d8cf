package segment

import (
	"fmt"
	"os"
	"testing"
	"time"

	"lograft/segment/vfs"
)

// sparseFrames writes n frames of 64 KiB batches into f from the end of its header on, but only the bytes that Open looks at below a
// persist mark, the rest of each payload is a hole in the file: of a sealed segment's frames nothing.
func sparseFrames(b *testing.B, f *os.File, h *header, n int, sealed bool) (mark Mark, index []indexEntry, last Frame) {
	b.Helper()
	payload := make([]byte, 64<<10)
	salt := saltOf(h.group, h.base)
	head := make([]byte, frameHeaderBytes)
	pos := int64(segmentHeaderBytes)
	for i := range n {
		last = Frame{Index: h.base + uint64(i), Term: 1, Kind: KindData, Count: 100, Offset: h.offset + int64(i)*100, Payload: payload}
		if !sealed {
			putHeader(head, &last, salt)
			if _, err := f.WriteAt(append(head, payload[:batchSummedFrom]...), pos); err != nil {
				b.Fatal(err)
			}
		}
		index = noteIndex(index, &last, pos)
		pos += last.encodedBytes()
	}
	if err := f.Truncate(pos); err != nil {
		b.Fatal(err)
	}
	return Mark{Index: last.Index, Term: 1, Position: pos, SegmentBase: h.base}, index, last
}

// sparseSegment makes a segment file, sealed or not.
func sparseSegment(b *testing.B, dir string, h *header, n int, sealed bool) (Mark, Frame) {
	b.Helper()
	f, err := os.Create(dir + "/" + segmentName(h.base))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := f.WriteAt(h.encode(), 0); err != nil {
		b.Fatal(err)
	}
	mark, index, last := sparseFrames(b, f, h, n, sealed)
	if sealed {
		foot := footer{last: entryID{last.Index, 1}, next: last.NextOffset(), position: mark.Position, nextLimit: h.limit, index: index, runs: []termRun{{h.base, 1}}}
		if _, err := f.WriteAt(foot.encode(h.group, h.base), mark.Position); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return mark, last
}

func newHeader(limit int64) *header {
	return &header{group: testGroup, base: 2, prev: entryID{1, 1}, limit: limit}
}

// BenchmarkOpen10GiB opens a log of 160 sealed segments of 64 MiB and one that is half full, of 64 KiB batches. The payloads are holes:
// Open does not read them in a log whose persist mark is at its end. The pages are dropped by Open itself.
func BenchmarkOpen10GiB(b *testing.B) {
	dir := b.TempDir()
	h := newHeader(64 << 20)
	o := Options{FS: vfs.OS(), Dir: dir, Group: testGroup, Start: Start{Index: 1, Term: 1}}
	for k := range 161 {
		frames := 1024
		if k == 160 {
			frames = 512
		}
		mark, last := sparseSegment(b, dir, h, frames, k < 160)
		o.Mark = mark
		h = &header{group: testGroup, base: last.Index + 1, offset: last.NextOffset(), prev: entryID{last.Index, 1}, limit: 64 << 20}
	}
	for b.Loop() {
		l, rec := mustOpen(b, o)
		if rec.SegmentsSealed != 160 || rec.FramesScanned != 512 || len(rec.Faulty) > 0 {
			b.Fatalf("%+v", rec)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpenHalfFull opens 40 logs, each with one unsealed segment of 64 MiB that is half full of 64 KiB batches, and reports the
// time for 1,000.
func BenchmarkOpenHalfFull(b *testing.B) {
	const logs = 40
	var all []Options
	for g := range logs {
		dir := fmt.Sprintf("%s/%d", b.TempDir(), g)
		if err := os.Mkdir(dir, 0o750); err != nil {
			b.Fatal(err)
		}
		h := newHeader(64 << 20)
		mark, _ := sparseSegment(b, dir, h, 512, false)
		all = append(all, Options{FS: vfs.OS(), Dir: dir, Group: testGroup, Start: Start{Index: 1, Term: 1}, Mark: mark})
	}
	start := time.Now()
	for b.Loop() {
		for _, o := range all {
			l, rec := mustOpen(b, o)
			if rec.FramesScanned != 512 || len(rec.Faulty) > 0 {
				b.Fatalf("%+v", rec)
			}
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(time.Since(start).Seconds()/float64(b.N)*1000/logs, "s/1000-logs")
}
