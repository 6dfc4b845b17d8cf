package engine

import "testing"

// A disk becomes full below the reserve, and has room again only when a quarter more than it is free.
func TestSpaceHysteresis(t *testing.T) {
	s := Space{Reserve: 1000}
	for _, x := range []struct {
		free        int64
		full        bool
		room, spare int64
	}{{5000, false, 2001, 250}, {1001, false, 1, 250}, {1000, true, 1, 250}, {400, true, 1, 0}, {1249, true, 125, 250}, {1250, false, 126, 250}, {1100, false, 51, 250}} {
		d := s.Look(x.free, 100_000, 2)
		if d.Full != x.full || d.Room != x.room || d.Spare != x.spare || !d.Bounded {
			t.Errorf("%d free: %+v, want full %t, room %d, spare %d", x.free, d, x.full, x.room, x.spare)
		}
	}
	if d := s.Look(0, 0, 2); d.Bounded || s.Full() {
		t.Errorf("a disk of which nothing is known: %+v", d)
	}
}

// The reserve holds the windows of the groups, is bounded by what the brokers take, and leaves a small disk nearly all of its room.
func TestReserve(t *testing.T) {
	const mib, gib = int64(1) << 20, int64(1) << 30
	for _, x := range []struct {
		groups, brokers      int
		inFlight, size, want int64
	}{
		{2, 3, 256 * mib, 1000 * gib, 64*mib + mib/2 + 16*mib},
		{1000, 3, 256 * mib, 1000 * gib, 768*mib + 250*mib + 16*mib},
		{1000, 3, 256 * mib, 10 * gib, 512 * mib},
		{2, 3, 256 * mib, 8 * mib, 4 * mib},
	} {
		if got := Reserve(x.groups, x.brokers, x.inFlight, x.size); got != x.want {
			t.Errorf("%d groups, %d brokers, a disk of %d: %d, want %d", x.groups, x.brokers, x.size, got, x.want)
		}
	}
}
