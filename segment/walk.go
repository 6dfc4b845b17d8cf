package segment

import (
	"crypto/sha256"
	"hash"
	"io"

	"lograft/segment/vfs"
)

// walk goes through the frames of one segment file, checks every byte and that each frame continues the one before, and keeps what a
// footer would say.
type walk struct {
	r     *frameReader
	p     point
	sum   hash.Hash
	index []indexEntry
	runs  []termRun
	head  [frameHeaderBytes]byte
}

func newWalk(f vfs.File, h *header, payloadMax int, end int64) *walk {
	return &walk{
		r:   &frameReader{f: f, salt: saltOf(h.group, h.base), payloadMax: payloadMax, pos: segmentHeaderBytes, end: end, chunkBytes: scanChunkBytes},
		p:   point{id: h.prev, next: h.offset, time: h.time},
		sum: sha256.New(),
	}
}

var errDiscontinued = &frameError{what: "a frame that does not continue the log"}

// next reads one frame: io.EOF at the end, a *frameError for a bad one, at r.pos.
func (w *walk) next() (Frame, error) {
	pos := w.r.pos
	f, err := w.r.next()
	if err != nil {
		return f, err
	}
	if f.Index != w.p.id.index+1 || f.Term < w.p.id.term || f.Offset != w.p.next || f.AppendTime < w.p.time {
		w.r.pos = pos
		return f, errDiscontinued
	}
	putHeader(w.head[:], &f, w.r.salt)
	hashFrame(w.sum, &f, w.head[:])
	w.index = noteIndex(w.index, &f, pos)
	if n := len(w.runs); n == 0 || w.runs[n-1].term != f.Term {
		w.runs = append(w.runs, termRun{f.Index, f.Term})
	}
	w.p = point{id: entryID{f.Index, f.Term}, next: f.NextOffset(), time: f.AppendTime}
	return f, nil
}

// all reads to the end.
func (w *walk) all() error {
	for {
		if _, err := w.next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (w *walk) hash() [32]byte { return [32]byte(w.sum.Sum(nil)) }
