package engine

import "lograft/broker/partition"

// Space judges the looks at a broker's disk (architecture D19). It is used by one goroutine.
//
// The broker is at its reserve when no more than Reserve bytes are free, and until a quarter more than that is free again: so a trim of a
// few bytes doesn't let appends in for a moment.
type Space struct {
	Reserve int64
	full    bool
}

// Look takes what the file system says and gives each of so many workers its share. size 0: no bound is known, so nothing is refused.
func (s *Space) Look(free, size int64, workers int) partition.Disk {
	if size <= 0 {
		s.full = false
		return partition.Disk{}
	}
	switch {
	case free <= s.Reserve:
		s.full = true
	case free >= s.Reserve+s.Reserve/4:
		s.full = false
	}
	n := int64(max(1, workers))
	return partition.Disk{Bounded: true, Full: s.full, Room: max(0, free-s.Reserve)/n + 1, Spare: max(0, min(free-s.Reserve/2, s.Reserve/2)) / n}
}

// Full reports whether the broker was at its reserve at the last look.
func (s *Space) Full() bool { return s.full }

// Of a reserve.
const (
	reserveFixed    = 16 << 20  // the journal's logs while they are compacted, checkpoints and footers under way
	reservePerGroup = 256 << 10 // a trim, a no-op, a footer and a checkpoint of each group
	reserveShare    = 20        // at most this part of the file system
	reserveMin      = 4 << 20
)

// Reserve is how many bytes of a disk of size bytes a broker keeps for what is under way: appends without an answer are bounded per
// group and by what each of the brokers takes in all. At most a twentieth of the disk, or small disks could hold nothing else: where
// that is less, what was appended last may be held up, never lost, until somebody else makes room.
func Reserve(groups, brokers int, bytesInFlight, size int64) int64 {
	windows := min(int64(groups)*partition.BytesUncommittedDefault, int64(brokers)*bytesInFlight)
	want := windows + int64(groups)*reservePerGroup + reserveFixed
	return max(reserveMin, min(want, size/reserveShare))
}
