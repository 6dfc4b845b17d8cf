package broker

import "testing"

// One group keeps what may be in flight to its followers; a thousand together stay within the broker's bound, or near it where each
// has the least that is of use.
func TestTailCachesShareABound(t *testing.T) {
	const most = 16 << 20
	for _, c := range []struct{ groups, want int }{{0, most}, {1, most}, {32, most}, {64, 8 << 20}, {1000, 1 << 20}} {
		if got := tailCacheOf(most, c.groups); got != c.want {
			t.Errorf("%d groups: %d bytes each, want %d", c.groups, got, c.want)
		}
	}
	if got := tailCacheOf(4096, 1); got != 4096 {
		t.Errorf("a bound of 4096 bytes became %d", got)
	}
}
