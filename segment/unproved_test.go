package segment

import "testing"

// Only what a persist mark covers is believed from the page cache: not what lies behind it, not a footer, and nothing where marks may be
// missing.
func TestUnproved(t *testing.T) {
	const mib = int64(1 << 20)
	at := func(base uint64, size int64, m Mark, damaged bool) int64 {
		r := &recovery{l: &Log{o: Options{Mark: m, JournalDamaged: damaged}}}
		return r.unproved(&found{base: base, size: size})
	}
	mark := Mark{Index: 900, Term: 1, Position: 10 * mib, SegmentBase: 500}
	footer := footerAtMost(64 * mib)
	for _, c := range []struct {
		what    string
		base    uint64
		size    int64
		mark    Mark
		damaged bool
		want    int64
	}{
		{"before the mark's segment, up to its footer", 1, 64 * mib, mark, false, 64*mib - footer},
		{"the mark's segment, up to the mark", 500, 32 * mib, mark, false, 10 * mib},
		{"the mark's segment, sealed since", 500, 10*mib + 100, mark, false, 10*mib + 100 - footerAtMost(10*mib+100)},
		{"behind the mark's segment", 1000, 32 * mib, mark, false, 0},
		{"no mark", 1, 32 * mib, Mark{}, false, 0},
		{"marks may be missing", 1, 32 * mib, mark, true, 0},
		{"a short file", 1, 100, mark, false, 0},
	} {
		if got := at(c.base, c.size, c.mark, c.damaged); got != c.want {
			t.Errorf("%s: dropped from byte %d on, want %d", c.what, got, c.want)
		}
	}
	if indexed := 64 * mib / sparseBytes * indexEntryBytes; footer < indexed {
		t.Errorf("a footer may take %d bytes, its index alone takes %d", footer, indexed)
	}
}
