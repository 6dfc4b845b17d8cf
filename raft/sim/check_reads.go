package sim

import (
	"errors"

	"lograft/raft"
)

// read is a question not answered yet.
type read struct {
	ctx      string
	required uint64 // committed anywhere before it was asked
	asked    uint64 // the node's tick count
}

// readBook holds one node's reads, oldest first.
type readBook struct{ open []read }

func (b *readBook) ask(n *node, ctx []byte) {
	b.open = append(b.open, read{ctx: string(ctx), required: n.c.check.top(), asked: n.ticksRun})
	n.c.stats.Reads++
	n.c.trace.printf(n.c.now, "n%d asks %x, committed %d", n.id, ctx, n.c.check.top())
}

// answer ends the read that index answers: of several with equal bytes the one
// that required most of what index reaches.
func (b *readBook) answer(ctx []byte, index uint64) (r read, ok bool) {
	at := -1
	for i := range b.open {
		if b.open[i].ctx != string(ctx) {
			continue
		}
		if at < 0 || b.open[i].required <= index && b.open[i].required >= b.open[at].required {
			at = i
		}
	}
	if at < 0 {
		return r, false
	}
	r = b.open[at]
	b.open = append(b.open[:at], b.open[at+1:]...)
	return r, true
}

// drop ends the oldest read with these bytes. Nobody says which of several it
// was: the others keep the least that any of them required.
func (b *readBook) drop(ctx []byte) bool {
	at := -1
	for i := range b.open {
		switch {
		case b.open[i].ctx != string(ctx):
		case at < 0:
			at = i
		default:
			b.open[i].required = min(b.open[i].required, b.open[at].required)
		}
	}
	if at >= 0 {
		b.open = append(b.open[:at], b.open[at+1:]...)
	}
	return at >= 0
}

func (b *readBook) forget() uint64 {
	lost := uint64(len(b.open))
	b.open = nil
	return lost
}

// finish: each read ends once, and a state is never behind what was known
// committed when it was asked, lease or not.
func (b *readBook) finish(n *node, states []raft.ReadState, drops []raft.DroppedRead) {
	k := n.c.check
	for i := range states {
		r, ok := b.answer(states[i].RequestCtx, states[i].Index)
		switch {
		case !ok:
			k.fail("reads end once", "node %d: a ReadState for %x, which nobody waits for", n.id, states[i].RequestCtx)
			return
		case states[i].Index < r.required:
			k.fail("reads never stale", "node %d: read %x got index %d, %d was committed before it was asked", n.id, r.ctx, states[i].Index, r.required)
			return
		case states[i].Index > k.top():
			k.fail("reads never stale", "node %d: read %x got index %d, committed is %d", n.id, r.ctx, states[i].Index, k.top())
			return
		}
		n.c.stats.ReadsAnswered++
		n.c.trace.printf(n.c.now, "n%d answered %x at %d", n.id, r.ctx, states[i].Index)
	}
	for i := range drops {
		if !b.drop(drops[i].RequestCtx) {
			k.fail("reads end once", "node %d: a DroppedRead for %x, which nobody waits for", n.id, drops[i].RequestCtx)
			return
		}
		n.c.trace.printf(n.c.now, "n%d dropped %x: %v", n.id, drops[i].RequestCtx, drops[i].Reason)
		switch reason := drops[i].Reason; {
		case errors.Is(reason, raft.ErrNoLeader):
			n.c.stats.ReadsNoLeader++
		case errors.Is(reason, raft.ErrRoleChanged):
			n.c.stats.ReadsRoleChanged++
		case errors.Is(reason, raft.ErrReadTimeout):
			n.c.stats.ReadsTimeout++
		default:
			k.fail("reads end once", "node %d: dropped for %v", n.id, reason)
			return
		}
	}
}

// readsOverdue: no read waits much longer than waiting for a leader and asking
// it can take, each one election timeout.
func (k *checker) readsOverdue(n *node) {
	if !n.up() || k.c.err != nil || n.raw.HasReady() {
		return
	}
	limit := uint64(2*k.c.plan.electionTick + 2)
	for i := range n.reads.open {
		if r := n.reads.open[i]; n.ticksRun-r.asked > limit {
			k.fail("no read unanswered", "node %d: read %x waits for %d ticks", n.id, r.ctx, n.ticksRun-r.asked)
			return
		}
	}
}
