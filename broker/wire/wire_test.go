package wire

import (
	"bytes"
	"errors"
	"testing"
)

// What is written comes back in order, and ends exactly there.
func TestRoundTrip(t *testing.T) {
	var w Writer
	w.U8(7)
	w.U32(1 << 31)
	w.U64(1 << 63)
	w.I64(-1)
	w.Bool(true)
	w.Bool(false)
	w.ID([16]byte{1, 15: 2})
	w.Str("näme")
	w.Bytes([]byte{0, 255})
	w.Count(2)
	w.U8(1)
	w.U8(2)

	r := NewReader(w.Data())
	if r.U8() != 7 || r.U32() != 1<<31 || r.U64() != 1<<63 || r.I64() != -1 || !r.Bool() || r.Bool() ||
		r.ID() != [16]byte{1, 15: 2} || r.Str() != "näme" || !bytes.Equal(r.Bytes(), []byte{0, 255}) || r.Count(1) != 2 || r.U8() != 1 || r.U8() != 2 {
		t.Fatal("something did not come back as it was written")
	}
	if err := r.End(); err != nil {
		t.Fatal(err)
	}
}

// Every prefix of a message ends early, and nothing that was cut off is returned.
func TestEveryPrefixIsShort(t *testing.T) {
	var w Writer
	w.Str("topic")
	w.Count(3)
	for v := range 3 {
		w.U64(uint64(v))
	}
	for cut := range len(w.Data()) {
		r := NewReader(w.Data()[:cut])
		_ = r.Str()
		for range r.Count(8) {
			r.U64()
		}
		if err := r.End(); !errors.Is(err, ErrShort) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if r.U64() != 0 || r.Str() != "" {
			t.Fatalf("cut at %d: a value after the error", cut)
		}
	}
}

// Bytes behind the last field are an error; a count that can't fit is one before anything is allocated for it.
func TestLeftAndHostileCounts(t *testing.T) {
	r := NewReader([]byte{1, 2})
	r.U8()
	if err := r.End(); !errors.Is(err, ErrLeft) {
		t.Fatal(err)
	}
	r = NewReader([]byte{255, 255, 255, 255, 0})
	if n := r.Count(1); n != 0 || !errors.Is(r.Err(), ErrShort) {
		t.Fatalf("count %d, %v", n, r.Err())
	}
	r = NewReader([]byte{255, 255, 255, 255, 0})
	if b := r.Bytes(); b != nil || !errors.Is(r.Err(), ErrShort) {
		t.Fatalf("%d bytes, %v", len(b), r.Err())
	}
}
