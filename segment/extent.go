package segment

// Extent is one segment in numbers.
type Extent struct {
	Base, Last             uint64 // indexes of the first and last entry; Last = Base-1 if it is empty
	BaseOffset, NextOffset int64  // it holds records iff they differ
	LastTime               int64  // append time of the last entry, ms
	Bytes                  int64  // header and frames
	Closed                 bool   // it takes no more entries
	Sealed                 bool
	State                  bool // the checkpoint as of its last entry is on disk
}

// Extents appends all segments to dst, oldest first; only the last can be open.
func (l *Log) Extents(dst []Extent) []Extent {
	for _, s := range l.segs {
		dst = append(dst, Extent{Base: s.head.base, Last: s.last.index, BaseOffset: s.head.offset, NextOffset: s.next, LastTime: s.time,
			Bytes: s.size, Closed: s.closed(), Sealed: s.sealed, State: s.state})
	}
	return dst
}
