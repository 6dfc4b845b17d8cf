package partition

import (
	"encoding/binary"
	"fmt"

	"lograft/raft"
)

// A replica is refilled when its log could not be opened although the journal knows its term and vote: what it held was set aside, and it
// begins with nothing, under its own id, as a replica does that was not born with its group; or when its log lost its end, and what a leader
// sends by itself, counting on what was acknowledged, begins behind it. It may have acknowledged entries that it
// does not hold any more, so until it is whole again it
//
//   - grants no vote and no pre-vote, stands for no election and takes no leadership (deaf, SetElectable);
//   - answers no reads: what it showed before must not un-happen;
//   - acknowledges appends as everyone: of what it says then it holds everything.
//
// It is whole when it has applied the entry that was a leader's last one when the leader answered its question, asked after the loss, in
// a term not below the one that the journal holds. Proof that it can be counted as any other replica from then on: an entry e that it
// acknowledged before the loss came from the leader of some term t, which is at most the journalled term T, because the term is
// synced before the acknowledgement. Let L, of term u >= T >= t, be the leader that answered, with last index X.
//
//   - t = u: L sent e itself, and a leader's log only grows in its term: e is in L's log, at most at X. That holds for acknowledgements that
//     reach L after its answer, too: they were of what it had sent before.
//   - t < u and e is ever committed: the majority that acknowledged e and the one that elected L share a voter. If it is this replica, it
//     voted before the loss, when it held e; so a voter of L held e, and e is in L's log (Raft paper §5.4.3), at most at X.
//   - t < u and e is never committed: nobody needs it.
//
// Everything applied up to X is committed, so every later leader holds it, and with it e where it matters. The question
// is asked anew after each restart: a later answer only asks for more. With two replicas, or when a majority is being refilled, nobody
// may be elected: then `broker cluster recover` decides.
type refill struct {
	on     bool
	token  uint64
	ticks  int
	target uint64 // index that must be applied; 0: no leader has answered yet
	ending bool   // the mark of the refill is being removed
}

const refillAskTicks = 10

// Refilling reports whether this replica lost its log and does not hold again what it acknowledged.
func (r *Replica) Refilling() bool { return r.refill.on }

func (r *Replica) beginRefill() {
	if r.opts.Refill {
		r.refill = refill{on: true, token: uint64(r.opts.Rand(1<<31-1)) + 1}
	}
}

// electable reports whether this replica may stand for election.
func (r *Replica) electable() bool {
	return !r.opts.NoVote && len(r.damage.ranges) == 0 && !r.refill.on
}

// refillTick asks who leads, again and again, and ends the refill when everything is here.
func (r *Replica) refillTick(env *Env) {
	f := &r.refill
	if !f.on || f.ending {
		return
	}
	if f.ticks--; f.ticks <= 0 {
		f.ticks = refillAskTicks
		ask := refillWord{token: f.token, term: r.hard.Term, index: r.log.LastIndex()}
		for _, id := range r.repairPeers() {
			r.send(env, &raft.Message{Type: MsgRefillAsk, From: r.opts.ReplicaID, To: id, Context: ask.encode()})
		}
	}
	if f.target == 0 || r.applied < f.target || r.fill.phase != fillNone || len(r.damage.ranges) > 0 || r.log.Durable() < r.applied {
		return
	}
	r.endRefill(env, func() {})
}

// endRefill makes durable that this replica counts as any other again, then lets it; then is called in that step.
func (r *Replica) endRefill(env *Env, then func()) {
	r.refill.ending = true
	var err error
	r.job(env, func() { err = r.opts.Whole() }, func(env *Env) {
		if err != nil {
			r.halt(env, fmt.Errorf("the mark of a refill: %w", err))
			return
		}
		r.refill = refill{}
		r.node.SetElectable(r.electable())
		r.note(env, Note{Kind: NoteWhole, Index: r.applied})
		then()
	})
}

// answerRefill lets a leader begin anew with a replica that holds less than the leader knows of it, and tells it what it must hold again.
// An acknowledgement from before the loss may come late: the next question undoes it. A question that comes late costs a probe.
func (r *Replica) answerRefill(env *Env, m *raft.Message) {
	ask, ok := decodeRefillWord(m.Context)
	forget := false
	if !ok || r.role != raft.StateLeader || r.hard.Term < ask.term {
		return
	}
	r.node.VisitProgress(func(id uint64, pr *raft.Progress) { forget = forget || id == m.From && pr.Match > ask.index })
	if forget {
		r.node.ForgetProgress(m.From)
	}
	answer := refillWord{token: ask.token, term: r.hard.Term, index: r.node.BasicStatus().LastIndex}
	r.send(env, &raft.Message{Type: MsgRefillAnswer, From: r.opts.ReplicaID, To: m.From, Context: answer.encode()})
}

func (r *Replica) takeRefill(m *raft.Message) {
	f := &r.refill
	if a, ok := decodeRefillWord(m.Context); ok && f.on && f.target == 0 && a.token == f.token && a.term >= r.hard.Term && a.index > 0 {
		f.target = a.index
	}
}

// Types of the messages by which a replica that lost its log learns what it must hold again (see MsgRepairAsk).
const (
	MsgRefillAsk    raft.MessageType = 133 // Context: refillWord, term: the journalled one, index: the last entry held
	MsgRefillAnswer raft.MessageType = 134 // Context: refillWord, term: the leader's, index: its last entry
)

// refillWord is a question or an answer.
//
//	version u8=1 | token u64 | term u64 | index u64   (little-endian)
type refillWord struct{ token, term, index uint64 }

const (
	refillVersion   = 1
	refillWordBytes = 1 + 3*8
)

func (w *refillWord) encode() []byte {
	b := []byte{refillVersion}
	for _, v := range [...]uint64{w.token, w.term, w.index} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

func decodeRefillWord(b []byte) (w refillWord, ok bool) {
	if len(b) != refillWordBytes || b[0] != refillVersion {
		return w, false
	}
	for i, p := range [...]*uint64{&w.token, &w.term, &w.index} {
		*p = binary.LittleEndian.Uint64(b[1+8*i:])
	}
	return w, w.token != 0
}
