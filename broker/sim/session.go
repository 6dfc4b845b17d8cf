package sim

import (
	"google.golang.org/protobuf/proto"

	"lograft/broker/cluster"
	"lograft/broker/engine"
	"lograft/broker/partition"
	"lograft/broker/rpc"
)

// directory is what a broker's sessions look up.
type directory struct {
	n         *Node
	next, end int64 // producer ids
}

// NodeID implements rpc.Directory.
func (d *directory) NodeID() uint64 { return d.n.id }

// View implements rpc.Directory.
func (d *directory) View() *cluster.View { return d.n.parts.View() }

// Leader implements rpc.Directory.
func (d *directory) Leader(g partition.GroupID) (node, replica uint64, epoch int32) {
	c := d.n.leads[g]
	return c.LeaderNode, c.Leader, int32(c.Term)
}

// Changes implements rpc.Directory.
func (d *directory) Changes() uint64 { return d.n.leadChanges }

// TakeProducerID implements rpc.Directory.
func (d *directory) TakeProducerID() (int64, bool) {
	if d.next == d.end {
		return 0, false
	}
	d.next++
	return d.next - 1, true
}

// AddProducerIDs implements rpc.Directory.
func (d *directory) AddProducerIDs(first int64, count int) { d.next, d.end = first, first+int64(count) }

// AutoCreate implements rpc.Directory.
func (d *directory) AutoCreate() bool { return false }

// env is made anew with each start of a broker: what it holds is in memory only.
func (n *Node) env() *rpc.Env {
	if n.rpc == nil {
		n.rpc = &rpc.Env{Dir: &directory{n: n}, Random: n.w.requestID, Wall: n.wall, GroupSegmentBytes: 4 << 10,
			Appends: rpc.NewBudget(n.w.opts.AppendBytesMax), Answers: rpc.NewBudget(0)}
	}
	return n.rpc
}

// session drives one rpc.Session of one incarnation of a broker, as rpc.Server does with goroutines.
type session struct {
	n           *Node
	incarnation int
	id          uint64
	s           rpc.Session
	eff         rpc.Effects
	waiting     []proto.Message // not stepped because the session is full
	send        func(proto.Message)
	end         func(*partition.Error)
	over        bool
}

// open begins a session on a broker that is up.
func (n *Node) open(s rpc.Session, send func(proto.Message), end func(*partition.Error)) *session {
	x := &session{n: n, incarnation: n.incarnation, id: n.nextSession, s: s, send: send, end: end}
	n.nextSession++
	n.replies[x.id] = func(r partition.Reply) { x.step(&rpc.Event{Reply: &r}) }
	return x
}

func (x *session) alive() bool { return !x.over && x.n.up && x.n.incarnation == x.incarnation }

// message takes a message of the client.
func (x *session) message(m proto.Message) {
	x.waiting = append(x.waiting, m)
	x.drain()
}

func (x *session) drain() {
	for x.alive() && len(x.waiting) > 0 && !x.s.Full() {
		m := x.waiting[0]
		x.waiting = x.waiting[1:]
		x.step(&rpc.Event{Message: m})
	}
}

func (x *session) step(ev *rpc.Event) {
	if !x.alive() {
		return
	}
	x.eff = rpc.Effects{}
	x.s.Step(x.n.w.now, ev, &x.eff)
	eff := x.eff
	for _, q := range eff.Requests {
		q.From = x.id
		x.n.postGroup(q.Group, requestEvent(q))
	}
	for _, m := range eff.Send {
		x.send(m)
	}
	x.n.env().GiveHeld(eff.Held)
	if eff.Timer > 0 {
		x.n.after(x.incarnation, max(eff.Timer-x.n.w.now, 0), func() { x.step(&rpc.Event{Timer: true}) })
	}
	if eff.Done {
		x.close()
		x.end(eff.Err)
		return
	}
	if ev.Message == nil {
		x.drain()
	}
}

// close ends the session; what waits for it at replicas is cancelled.
func (x *session) close() {
	if !x.alive() {
		return
	}
	x.over = true
	rpc.Release(x.s)
	delete(x.n.replies, x.id)
	for i := range x.n.workers {
		x.n.post(i, engine.Event{Cancel: x.id})
	}
}
