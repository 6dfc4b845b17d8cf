package sim

import (
	"fmt"

	"lograft/broker/datadir"
	"lograft/broker/engine"
	"lograft/broker/partition"
	"lograft/broker/transport"
	"lograft/raft"
)

// link is one direction between two brokers.
type link struct{ from, to uint64 }

// Cut breaks the link in one direction; Heal restores all links.
func (w *World) Cut(from, to uint64) {
	if from == to {
		return
	}
	w.Log("cut %d->%d", from, to)
	w.Counts.Partitions++
	w.cuts[link{from, to}] = true
}

// Isolate cuts a broker off from all others, both ways.
func (w *World) Isolate(id uint64) {
	for _, n := range w.nodes {
		w.Cut(id, n.id)
		w.Cut(n.id, id)
	}
}

// Split cuts every link between the brokers of side and the others, except those of bridge, which both sides reach (0: none).
func (w *World) Split(side map[uint64]bool, bridge uint64) {
	for _, a := range w.nodes {
		for _, b := range w.nodes {
			if side[a.id] != side[b.id] && a.id != bridge && b.id != bridge {
				w.Cut(a.id, b.id)
			}
		}
	}
}

// Heal restores every link, its speed too.
func (w *World) Heal() {
	w.Log("heal")
	clear(w.cuts)
	clear(w.slow)
}

// outbox encodes what a worker's replicas send in one step and hands one frame per peer to the network.
type outbox struct {
	n     *Node
	peers []outPeer
}

type outPeer struct {
	to  uint64
	enc *transport.Encoder
}

// Send implements partition.Sender.
func (o *outbox) Send(node uint64, group partition.GroupID, m *raft.Message) {
	o.n.voted(group, m)
	for i := range o.peers {
		if o.peers[i].to == node {
			o.peers[i].enc.Add(group, m)
			return
		}
	}
	enc := transport.NewEncoder()
	enc.Add(group, m)
	o.peers = append(o.peers, outPeer{to: node, enc: enc})
}

func (o *outbox) flush() {
	for _, p := range o.peers {
		f := p.enc.Frame()
		buf := append([]byte(nil), f.Head...)
		for _, payload := range f.Payloads {
			buf = append(buf, payload...)
		}
		o.n.w.transmit(o.n.id, p.to, buf, f.Refs)
	}
	o.peers = o.peers[:0]
}

// transmit carries a frame to another broker, or loses it, or carries it twice; later frames may overtake it.
func (w *World) transmit(from, to uint64, buf []byte, refs []transport.Ref) {
	w.Counts.Frames++
	sender := w.Node(from)
	in := sender.data.Incarnation()
	if w.percent(w.opts.LossPercent) {
		w.Counts.FramesLost++
		if w.percent(50) { // as when a queue was full: the core is told
			lost := make([]engine.Lost, 0, len(refs))
			for _, r := range refs {
				lost = append(lost, engine.Lost{Group: r.Group, To: r.To, Snapshot: r.Type == raft.MsgSnapshot})
			}
			for i := range sender.workers {
				sender.post(i, engine.Event{Lost: lost})
			}
		}
		return
	}
	copies := 1
	if w.percent(w.opts.DupPercent) {
		w.Counts.FramesDup++
		copies = 2
	}
	for range copies {
		delay := w.between(w.opts.NetDelayMin, w.opts.NetDelayMax) + w.between(0, w.slow[link{from, to}])
		w.After(delay, func() { w.arrive(from, to, in, buf) })
	}
}

func (w *World) arrive(from, to uint64, in datadir.Incarnation, buf []byte) {
	n := w.Node(to)
	if !n.up || w.cuts[link{from, to}] {
		return
	}
	n.wake(n.incarnation, func() {
		if n.hears(from, in) {
			n.receive(from, buf)
		}
	})
}

// receive takes a frame off the wire.
func (n *Node) receive(from uint64, buf []byte) {
	msgs, err := transport.Decode(append([]byte(nil), buf...), transport.DefaultLimits())
	if err != nil {
		panic(fmt.Sprintf("a frame that we encoded does not decode: %v", err))
	}
	byWorker := make([][]engine.Message, len(n.workers))
	for _, m := range msgs {
		i := engine.WorkerOf(m.Group, len(n.workers))
		byWorker[i] = append(byWorker[i], engine.Message{From: from, Group: m.Group, Raft: m.Msg})
	}
	for i, ms := range byWorker {
		if len(ms) > 0 {
			n.post(i, engine.Event{Messages: ms})
		}
	}
}
