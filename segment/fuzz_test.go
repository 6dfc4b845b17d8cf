package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"path"
	"testing"

	"lograft/segment/vfs"
)

// Whatever the bytes, the frame decoder takes only what it would write itself.
func FuzzDecodeFrame(f *testing.F) {
	m := newMaker(rand.New(rand.NewPCG(1, 1)))
	salt := saltOf(testGroup, 2)
	for range 10 {
		fr := m.next()
		b := make([]byte, frameHeaderBytes, frameHeaderBytes+len(fr.Payload))
		putHeader(b, &fr, salt)
		f.Add(append(b, fr.Payload...))
	}
	f.Add(bytes.Repeat([]byte{0xff}, 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, n, err := decodeFrame(b, salt, 1<<16)
		if err != nil {
			return
		}
		again := make([]byte, frameHeaderBytes)
		putHeader(again, &fr, salt)
		if n != fr.encodedBytes() || !bytes.Equal(append(again, fr.Payload...), b[:n]) {
			t.Fatalf("%x decodes to %+v", b[:n], fr)
		}
	})
}

// Whatever lies in a segment file, with or without what the journal says, Open and Verify come back, and what Open accepts it accepts
// again.
func FuzzOpen(f *testing.F) {
	rng := rand.New(rand.NewPCG(2, 2))
	p := newPatient(f, rng, testGroup)
	names := p.files(f)
	for _, name := range names {
		f.Add(readAll(f, p.mem, path.Join(p.o.Dir, name)), uint8(0), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint8, alone bool) {
		mem := p.mem.Clone()
		o := p.o
		if alone {
			mem = vfs.NewMem()
			if err := mem.MkdirAll(o.Dir); err != nil {
				t.Fatal(err)
			}
			o.Mark, o.CommitFloor = Mark{}, 0
		}
		replace(t, mem, path.Join(o.Dir, names[int(at)%len(names)]), b)
		o.FS = mem
		l, rec, err := Open(o)
		if err != nil {
			if !contradiction(err) {
				t.Fatal(err)
			}
			return
		}
		verdict := l.Verify()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l, again, err := Open(o)
		if err != nil || again.TornFrom != 0 || forgets(again, rec, math.MaxUint64) != "" {
			t.Fatalf("opened twice: %+v, then %+v %v", rec, again, err)
		}
		if err := l.Verify(); (err == nil) != (verdict == nil) {
			t.Fatalf("verified twice: %v, then %v", verdict, err)
		}
	})
}

// Whatever the bytes, the manifest decoder takes only what Encode would write, and its memory follows the bytes that are there.
func FuzzDecodeManifest(f *testing.F) {
	m := Manifest{Group: testGroup, Start: Start{Index: 1, Term: 1}, Last: Start{Index: 9, Term: 3, Offset: 40, AppendTime: 7, Hash: [32]byte{2}, Limit: 900}, Checkpoint: []byte("state"),
		Segments: []SegmentSummary{{Base: 2, Last: 5, Bytes: 900, Hash: [32]byte{1}}, {Base: 6, Last: 9, Bytes: 1000, Hash: [32]byte{2}}}}
	f.Add(m.Encode())
	m.Segments, m.Last, m.Checkpoint = nil, m.Start, nil
	f.Add(m.Encode())
	f.Add(bytes.Repeat([]byte{0xff}, 300))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= manifestHeadBytes {
			b = bytes.Clone(b)
			binary.LittleEndian.PutUint32(b[12:], manifestSum(b)) // the checksum is no obstacle
		}
		m, err := DecodeManifest(b, testGroup)
		if err != nil {
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrVersion) {
				t.Fatal(err)
			}
			return
		}
		again := m.Encode()
		copy(again[8:12], b[8:12]) // version and reserved bytes
		binary.LittleEndian.PutUint32(again[12:], manifestSum(again))
		if !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to %+v", b, m)
		}
	})
}
