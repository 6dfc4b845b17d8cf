package partition

import "testing"

// A leader's log grows while files are fetched. filled fetches one manifest after the other until what is lacking is less than catchUp,
// and gives how long that took, in ticks, and the bytes that the fastest tick fetched; ok is false if it takes longer than bound.
func filled(p *fillPace, lacks, perTick, growth, catchUp, bound int64) (ticks, fastest int64, ok bool) {
	const tickNs = int64(100e6)
	now := int64(0)
	for lacks > catchUp && ticks < bound {
		p.begin(now, lacks)
		rate := perTick * int64(p.factor())
		took := (lacks + rate - 1) / rate
		now, ticks, fastest = now+took*tickNs, ticks+took, max(fastest, rate)
		p.end(now)
		lacks, now = took*growth, now+10*tickNs
	}
	return ticks, fastest, lacks <= catchUp
}

// Where the log grows twice as fast as files are fetched at first, redundancy is back in bounded time; where it grows slower than half of
// that, the pace stays what it is.
func TestFillPaceFollowsTheLeader(t *testing.T) {
	const perTick, catchUp = 6 << 20, 64 << 20
	for _, row := range []struct{ growth, behind, ticksMax, fastest int64 }{
		{0, 5 << 30, 900, perTick},
		{perTick / 3, 5 << 30, 1300, perTick},
		{perTick * 2, 1 << 30, 1200, perTick * 8},
		{perTick * 5, 1 << 30, 6000, perTick * 8},
	} {
		ticks, fastest, ok := filled(&fillPace{}, row.behind, perTick, row.growth, catchUp, 1e6)
		if !ok || ticks > row.ticksMax || fastest > row.fastest {
			t.Errorf("%d MiB per tick more, %d MiB behind: there: %t, after %d ticks at up to %d MiB per tick; want %d ticks and %d MiB",
				row.growth>>20, row.behind>>20, ok, ticks, fastest>>20, row.ticksMax, row.fastest>>20)
		}
	}
}

// The pace is bounded, and it is the first one again after a while without a fill. A fill that did not end says nothing about the next.
func TestFillPaceIsBoundedAndForgets(t *testing.T) {
	var p fillPace
	now := int64(0)
	for range 10 {
		p.begin(now, 1000)
		now++
		p.end(now)
	}
	if p.factor() != fillPaceMax {
		t.Errorf("%d times the pace, want %d", p.factor(), fillPaceMax)
	}
	p.begin(now+fillPaceAfter+1, 1000)
	if p.factor() != 1 {
		t.Errorf("%d times the pace after a rest", p.factor())
	}
	var q fillPace
	for range 5 {
		q.begin(now, 1000)
	}
	if q.factor() != 1 {
		t.Errorf("%d times the pace without one complete fill", q.factor())
	}
}
