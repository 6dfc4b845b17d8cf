package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"lograft/record"
)

// shrinkage is how much smaller snappy makes batches of 64 KiB of d's values.
func shrinkage(t *testing.T, d *Data, valueBytes int) float64 {
	t.Helper()
	s := d.Source(valueBytes, 0, 1)
	var raw, packed int
	for range 20 {
		b := record.NewBuilder(record.BuilderOptions{Codec: record.CodecSnappy, ProducerID: -1})
		for range (64 << 10) / valueBytes {
			v := s.Next()
			raw += len(v)
			if err := b.Append(record.Record{Value: v}); err != nil {
				t.Fatal(err)
			}
		}
		batch, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		packed += len(batch)
	}
	return float64(raw) / float64(packed)
}

// What is measured must shrink like real logs (performance.md: 3 to 8 with snappy), or not at all.
func TestDataShrinks(t *testing.T) {
	for _, c := range []struct {
		data     *Data
		min, max float64
	}{
		{&Data{Name: "generated", lines: generateLines(generatedLines)}, 3, 8},
		{&Data{Name: "random"}, 0.95, 1.01},
	} {
		if got := shrinkage(t, c.data, 1024); got < c.min || got > c.max {
			t.Errorf("%s shrinks %.2f:1, want %v to %v", c.data.Name, got, c.min, c.max)
		}
	}
	files, _ := filepath.Glob("../../" + logGlob)
	if len(files) == 0 {
		t.Skip("no real log files beside the repository")
	}
	d, err := readLines("real", files)
	if err != nil {
		t.Fatal(err)
	}
	if got := shrinkage(t, d, 1024); got < 3 || got > 8 {
		t.Errorf("real log lines shrink %.2f:1", got)
	}
}

// A repeated payload proves nothing: no two values are the same, also when the lines have come round and with several producers.
func TestNoValueIsRepeated(t *testing.T) {
	for _, d := range []*Data{{Name: "few lines", lines: [][]byte{[]byte("a line of some length"), []byte("b")}}, {Name: "random"}} {
		for _, size := range []int{20, 100, 1024} {
			seen := map[string]bool{}
			sources := []*Source{d.Source(size, 0, 2), d.Source(size, 1, 2)}
			for i := range 2000 {
				v := sources[i%2].Next()
				if len(v) != size {
					t.Fatalf("%s: a value of %d bytes, want %d", d.Name, len(v), size)
				}
				if seen[string(v)] {
					t.Fatalf("%s, %d bytes: value %d came twice: %q", d.Name, size, i, v)
				}
				seen[string(v)] = true
			}
		}
	}
}

// A value handed out stays as it is while others are made.
func TestValuesDoNotShareMemory(t *testing.T) {
	s := (&Data{lines: [][]byte{[]byte("some line")}}).Source(64, 0, 1)
	first := s.Next()
	before := bytes.Clone(first)
	for range 10_000 {
		v := s.Next()
		for i := range v {
			v[i] = 'x'
		}
		_ = append(v, "beyond"...)
	}
	if !bytes.Equal(first, before) {
		t.Fatalf("was %q, is %q", before, first)
	}
}

// Lines come in order, each part of one behind a running number, and a cut one goes on in the next value.
func TestLinesAreJoined(t *testing.T) {
	s := (&Data{lines: [][]byte{[]byte("alpha"), []byte("beta"), []byte("gamma")}}).Source(16, 0, 1)
	for i, want := range []string{"1 alpha\n2 beta\n3", "4 gamma\n5 alpha\n", "6 beta\n7 gamma\n8", "9 alpha\n10 beta\n"} {
		if got := string(s.Next()); got != want {
			t.Errorf("value %d is %q, want %q", i, got, want)
		}
	}
}

func TestOpenData(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.log"), []byte("one\r\n\ntwo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, filepath.Join(dir, "a.log")} {
		d, err := OpenData(name)
		if err != nil || len(d.lines) != 2 || string(d.lines[0]) != "one" {
			t.Errorf("%s: %v, %q", name, err, d.lines)
		}
	}
	for _, name := range []string{filepath.Join(dir, "missing"), t.TempDir(), os.DevNull} {
		if _, err := OpenData(name); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
