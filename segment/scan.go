package segment

import (
	"encoding/binary"
	"errors"
	"io"

	"lograft/segment/vfs"
)

const (
	headerChunkBytes = 128
	// sectorBytes is how much a disk loses at least where it can't read.
	sectorBytes = 4096
	// largePayloadBytes is the payload from which on a scan of headers reads each one alone.
	largePayloadBytes = 16 << 10
)

// scan takes an unsealed segment into the log frame by frame. after is the next file, or nil.
func (r *recovery) scan(f, after *found) error {
	l := r.l
	if err := f.close(); err != nil {
		return err
	}
	file, err := r.fs.OpenRW(l.path(f.name))
	if err != nil {
		return err
	}
	s := newSegment(f.head)
	s.file = newHandle(file, l.o.Files)
	l.segs = append(l.segs, s)
	f.f = file
	defer func() { f.f = nil }() // the segment's from here on
	if len(l.limits) == 0 {
		l.limits = append(l.limits, limitRun{s.head.prev.index, s.head.limit})
	}
	r.at = point{id: s.head.prev, next: s.head.offset, time: s.head.time}
	r.rec.SegmentsScanned++
	rd := &frameReader{f: file, salt: saltOf(l.o.Group, s.head.base), payloadMax: l.o.PayloadBytesMax, pos: segmentHeaderBytes, end: f.size, chunkBytes: scanChunkBytes}
	for {
		if s.closed() || after != nil && s.last.index+1 == after.base {
			return r.cutFooter(f, s)
		}
		err := r.scanFrame(rd, s)
		if err == io.EOF {
			s.onFile = s.size
			return nil
		}
		var bad *frameError
		if vfs.IsUnreadable(err) {
			bad = &frameError{what: err.Error()}
		} else if !errors.As(err, &bad) {
			if err != nil {
				return err
			}
			continue
		}
		e := s.last.index + 1
		if !r.durable(e) {
			return r.cutTorn(f, s, e)
		}
		more, err := r.skipDamage(rd, s, after, bad)
		if err != nil || !more {
			s.onFile = f.size
			return err
		}
	}
}

// scanFrame accepts the next frame if it continues the log. Payloads below the persist mark were synced and are left to Verify.
func (r *recovery) scanFrame(rd *frameReader, s *segment) error {
	pos := rd.pos
	f, head, n, err := rd.nextHeader()
	if err != nil {
		return err
	}
	p := &r.at
	if f.Index != p.id.index+1 || f.Term < p.id.term || f.Offset != p.next || f.AppendTime < p.time {
		rd.pos = pos
		return &frameError{what: "a frame that does not continue the log"}
	}
	if f.Kind == KindData && f.Index > r.l.o.Mark.Index {
		rd.pos = pos
		b, err := rd.window(n)
		if err == nil {
			err = checkBatch(b[frameHeaderBytes:n])
		}
		if err != nil {
			return err
		}
		head = b[:frameHeaderBytes]
		f.Payload = b[frameHeaderBytes:n]
		rd.pos = pos + n
	}
	rd.chunkBytes = scanChunkBytes
	if n > largePayloadBytes && f.Index < r.l.o.Mark.Index {
		rd.chunkBytes = headerChunkBytes
	}
	s.add(&f, head, n)
	r.l.noteTerm(entryID{f.Index, f.Term})
	r.l.noteLimit(&f)
	r.at = point{id: s.last, next: s.next, time: s.time}
	r.rec.FramesScanned++
	return nil
}

// cutFooter cuts what follows the last frame of a closed segment: a footer that was not written whole, or is damaged.
func (r *recovery) cutFooter(f *found, s *segment) error {
	s.onFile = s.size
	if f.size == s.size {
		return nil
	}
	r.rec.FootersCut++
	return s.file.f.Truncate(s.size)
}

// cutTorn leaves a torn tail to be cut; the segments after it go.
func (r *recovery) cutTorn(f *found, s *segment, e uint64) error {
	r.tear(e)
	r.aside(f, s.size)
	r.rec.TornBytes += f.size - s.size
	s.onFile = s.size
	r.cut = s
	return nil
}

// skipDamage notes the damage at rd.pos and moves to the next good frame of the file. more is false if there is none.
func (r *recovery) skipDamage(rd *frameReader, s *segment, after *found, bad *frameError) (more bool, err error) {
	s.stale = true
	e := s.last.index + 1
	fr := FaultyRange{From: e, Segment: s.head.base, Position: rd.pos, Reason: bad.what}
	last := uint64(0)
	if after != nil {
		last = after.base - 1
	}
	whole := r.floor
	if r.l.o.JournalDamaged {
		whole = anyFrame
	}
	pos, f, err := resync(rd, r.at, last, whole, s.head.limit)
	if err != nil {
		return false, err
	}
	if pos > 0 {
		fr.To, fr.End = f.Index-1, pos
		if f.Term == r.at.id.term {
			fr.Term = f.Term
		}
		r.fault(fr, f.Term)
		r.at = point{id: entryID{f.Index - 1, r.at.id.term}, next: f.Offset, time: f.AppendTime}
		s.last, s.next, s.time, s.size, s.guessed = r.at.id, r.at.next, r.at.time, pos, fr.Term == 0
		rd.pos = pos
		return true, nil
	}
	if after == nil {
		r.tailBad = true
		return false, nil
	}
	fr.To = last
	s.size = rd.end
	if after.headErr == nil {
		h := &after.head
		r.fault(fr, h.prev.term)
		r.at = point{id: h.prev, next: h.offset, time: h.time}
	} else {
		r.l.faulty = append(r.l.faulty, fr)
		r.at = point{id: entryID{last, r.at.id.term}, next: r.at.next, time: r.at.time, nextUnknown: true}
		s.guessed = true
	}
	s.last, s.next, s.time = r.at.id, r.at.next, r.at.time
	return false, nil
}

// anyFrame lets resync take any frame whose header is good.
const anyFrame = ^uint64(0)

// resync looks byte by byte behind rd.pos for the next header that checks and could follow p: a greater index up to last (0: any), and
// no more entries between than fit there. It begins before limit, where the segment is closed: what lies behind is none of the segment's,
// whatever its checksum says, and is cut. The payload of a frame above whole must be good too: such a frame may be cut as a torn one,
// and with it would go all that says how far the damage before it reaches. pos is 0 if there is none. rd.pos stays.
func resync(rd *frameReader, p point, last, whole uint64, limit int64) (pos int64, f Frame, err error) {
	from := rd.pos
	defer func() { rd.pos = from }()
	for at := from + 1; at < limit && at+frameHeaderBytes <= rd.end; at++ {
		if rd.pos = at; rd.chunkBytes == frameHeaderBytes && at%sectorBytes == 0 {
			rd.chunkBytes = sectorBytes
		}
		b, err := rd.window(frameHeaderBytes)
		if vfs.IsUnreadable(err) {
			// Sector by sector from here on: what can be read may hold good frames.
			if rd.chunkBytes == frameHeaderBytes {
				at += sectorBytes - 1 - at%sectorBytes
			} else {
				at--
			}
			rd.chunkBytes = frameHeaderBytes
			continue
		}
		if err != nil {
			return 0, Frame{}, err
		}
		index := binary.LittleEndian.Uint64(b[16:])
		if b[8] != frameVersion || index <= p.id.index+1 || index-p.id.index-1 > uint64(at-from)/frameHeaderBytes || last > 0 && index > last {
			continue
		}
		f, _, n, err := rd.nextHeader()
		if err == nil && f.Kind == KindData && f.Index > whole {
			rd.pos = at
			if b, err = rd.window(n); err == nil {
				err = checkBatch(b[frameHeaderBytes:n])
			}
		}
		var bad *frameError
		if err != nil && !errors.As(err, &bad) && !vfs.IsUnreadable(err) {
			return 0, Frame{}, err
		}
		if err == nil && f.Term >= p.id.term && f.Offset >= p.next && f.AppendTime >= p.time {
			f.Payload = nil
			return at, f, nil
		}
	}
	return 0, Frame{}, nil
}
