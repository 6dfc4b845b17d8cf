package transport

import (
	"cmp"
	"slices"
)

// LinkStats is what one stream to one peer did since the mesh was made.
type LinkStats struct {
	To    uint64
	Class Class
	Up    bool // frames pass now
	// Frames and Bytes were queued to be sent; Dropped is messages that were not, for want of a stream or of room.
	Frames, Bytes, Dropped uint64
	QueuedBytes            int // waiting now
}

// sent counts a frame that was handed to a link. The link's lock is held.
func (s *LinkStats) sent(f *Frame, dropped int) {
	s.Dropped += uint64(dropped)
	if dropped == 0 {
		s.Frames++
		s.Bytes += uint64(f.Bytes)
	}
}

// Stats gives every link's counters as they stand, by peer and class.
func (m *Mesh) Stats() []LinkStats {
	var out []LinkStats
	for _, p := range *m.links.Load() {
		for i := range p.links {
			l := &p.links[i]
			l.mu.Lock()
			s := l.stats
			s.To, s.Class, s.Up, s.QueuedBytes = l.to, l.class, l.queue.up, l.queue.bytes
			l.mu.Unlock()
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b LinkStats) int { return cmp.Or(cmp.Compare(a.To, b.To), cmp.Compare(a.Class, b.Class)) })
	return out
}
