package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"lograft/integration"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A section's text is replaced between its marks, added if it has none, and what stands around it is left alone.
func TestReplaceSection(t *testing.T) {
	file := filepath.Join(t.TempDir(), "b.md")
	if err := os.WriteFile(file, []byte("# B\n\n## raft\ntext\n\n## a\nwords\n<!-- begin a -->\nold\n<!-- end a -->\nafter\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, s := range [][2]string{{"a", "new\n"}, {"b", "first\n"}, {"b", "second\n"}} {
		if err := replaceSection(file, s[0], s[1]); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := "# B\n\n## raft\ntext\n\n## a\nwords\n<!-- begin a -->\nnew\n<!-- end a -->\nafter\n\n## b\n<!-- begin b -->\nsecond\n<!-- end b -->\n"
	if string(b) != want {
		t.Errorf("have:\n%s\nwant:\n%s", b, want)
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		in             []float64
		mid, low, high float64
	}{{nil, 0, 0, 0}, {[]float64{3, 1, 2}, 2, 1, 3}, {[]float64{4, 1, 2, 3}, 2.5, 1, 4}} {
		if mid, low, high := integration.Spread(c.in); mid != c.mid || low != c.low || high != c.high {
			t.Errorf("%v: %v %v %v", c.in, mid, low, high)
		}
	}
}

// The table shows every row, also one whose counters are missing, and the ratio to the disk of the same round.
func TestThroughputTable(t *testing.T) {
	results := make([][]result, len(rows))
	for i := range rows {
		results[i] = []result{{MBPerSec: 30, SyncMode: "always"}, {MBPerSec: 60}, {MBPerSec: 50}}
	}
	text := throughputTable(&bench{}, results, []float64{100, 100, 50})
	for _, w := range rows {
		if strings.Count(text, "| "+w.name+" |") != 2 {
			t.Errorf("%s stands %d times in\n%s", w.name, strings.Count(text, w.name), text)
		}
	}
	if !strings.Contains(text, "**0.60** [0.30, 1.00]") {
		t.Errorf("ratio: %s", text)
	}
}

// Memory of one tenth of the looks: the sum over brokers, the median over the looks.
func TestTenth(t *testing.T) {
	var looks [][]int64
	for i := range 20 {
		looks = append(looks, []int64{int64(i), 100})
	}
	if got := tenth(looks, 9); got != 118.5 {
		t.Errorf("%v", got)
	}
	if got := tenth([][]int64{{5, 6}}, 9); got != 11 {
		t.Errorf("%v", got)
	}
}
