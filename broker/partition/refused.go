package partition

import (
	"slices"

	"lograft/raft"
	"lograft/segment"
)

// MsgPullRefused says that what its receiver sent as a segment's file is not what the file's hash says. Context: the pullAsk that was
// answered last. Older builds drop it, as they do every type that they don't know.
const MsgPullRefused raft.MessageType = 137

// takeRefused hears of a file that was sent from here and refused.
func (r *Replica) takeRefused(env *Env, m *raft.Message) {
	if ask, ok := decodePullAsk(m.Context); ok {
		r.doubtFile(env, &ask.file)
	}
}

// doubtFile checks a file that was refused by whoever was sent it, or that could not be read to be sent. If it is part of the log, what is
// bad of it becomes damage as what a read meets does, and is fetched from peers. If it is only kept for fills, nobody else looks at it,
// and it is given up at once if it is bad: the next snapshot begins behind it. One file is checked at a time; who was refused for
// another one says so again.
func (r *Replica) doubtFile(env *Env, file *segment.SegmentSummary) {
	s := &r.st.sources
	t := r.log.BeginKept(*file)
	if t == nil {
		if slices.Contains(r.log.Sealed(file.Base), *file) {
			r.checkSegment(env, file.Base)
		}
		return
	}
	if s.checking {
		return
	}
	s.checking = true
	r.job(env, t.Do, func(env *Env) {
		s.checking = false
		if !t.Damaged() {
			return
		}
		r.note(env, Note{Kind: NoteKeptRotten, Index: t.Segment.Last, Err: t.Err})
		r.dropSources(func(f *segment.SegmentSummary) bool { return *f == t.Segment })
	})
}

// dropSources gives up every snapshot that lists a file which is bad, and with its pins what was kept for it alone.
func (r *Replica) dropSources(bad func(*segment.SegmentSummary) bool) {
	r.st.sources.all = slices.DeleteFunc(r.st.sources.all, func(m *source) bool {
		for i := range m.manifest.Segments {
			if bad(&m.manifest.Segments[i]) {
				r.log.Unpin(m.pin)
				return true
			}
		}
		return false
	})
}
