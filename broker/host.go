package broker

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"lograft/broker/cluster"
	"lograft/broker/engine"
	"lograft/broker/partition"
	"lograft/broker/transport"
	"lograft/raft"
)

// host connects sessions to workers. It implements rpc.Host.
type host struct {
	n    *node
	next atomic.Uint64

	mu       sync.RWMutex
	sessions map[uint64]*session
}

type session struct {
	deliver func(partition.Reply)
	waiting atomic.Int64 // requests without a reply
}

func newHost(n *node) *host { return &host{n: n, sessions: map[uint64]*session{}} }

// Now implements rpc.Host.
func (h *host) Now() int64 {
	mono, _ := h.n.now()
	return mono
}

// Register implements rpc.Host.
func (h *host) Register(deliver func(partition.Reply)) uint64 {
	id := h.next.Add(1)
	h.mu.Lock()
	h.sessions[id] = &session{deliver: deliver}
	h.mu.Unlock()
	return id
}

// Unregister implements rpc.Host. Replicas are told only if one of them still has something for the session.
func (h *host) Unregister(id uint64) {
	h.mu.Lock()
	s := h.sessions[id]
	delete(h.sessions, id)
	h.mu.Unlock()
	if s != nil && s.waiting.Load() > 0 {
		h.n.engine.PostAll(engine.Event{Cancel: id})
	}
}

func (h *host) session(id uint64) *session {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.sessions[id]
}

// Post implements rpc.Host. All requests are of one session.
func (h *host) Post(reqs []partition.Request) {
	if s := h.session(reqs[0].From); s != nil {
		s.waiting.Add(int64(len(reqs)))
	}
	now := h.Now()
	for i := range reqs {
		reqs[i].ArrivedAt = now
	}
	split(reqs, h.n.engine.Workers(), func(worker int, ev engine.Event) {
		if h.n.engine.Post(worker, ev) {
			return
		}
		for i := range ev.Requests {
			h.deliver([]partition.Reply{{From: ev.Requests[i].From, Token: ev.Requests[i].Token,
				Err: &partition.Error{Reason: partition.ReasonShutdown, Message: "the broker stops: ask another"}}})
		}
	})
}

func (h *host) deliver(replies []partition.Reply) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for i := range replies {
		if s := h.sessions[replies[i].From]; s != nil {
			s.waiting.Add(-1)
			s.deliver(replies[i])
		} else {
			replies[i].Lent.Free()
		}
	}
}

// proposeTimeout is how long one try of a command of our own may take.
const proposeTimeout = 2 * time.Second

// propose is command where the result says nothing.
func (h *host) propose(ctx context.Context, group partition.GroupID, command []byte) error {
	_, err := h.command(ctx, group, command)
	return err
}

// command carries out one try of a metadata command of this broker itself.
func (h *host) command(ctx context.Context, group partition.GroupID, command []byte) (cluster.Result, error) {
	answer := make(chan partition.Reply, 1)
	id := h.Register(func(r partition.Reply) { answer <- r })
	defer h.Unregister(id)
	h.Post([]partition.Request{{From: id, Group: group, Op: partition.OpPropose, Command: command, Deadline: h.Now() + int64(proposeTimeout)}})
	select {
	case <-ctx.Done():
		return cluster.Result{}, ctx.Err()
	case r := <-answer:
		if r.Err != nil {
			return cluster.Result{}, r.Err
		}
		x, err := cluster.DecodeResult(r.Result)
		if err == nil && x.Reason != cluster.ReasonNone {
			err = fmt.Errorf("%s: %s", x.Reason, x.Message)
		}
		return x, err
	}
}

// outbox collects what one worker's replicas send in a step: one frame per peer and class (architecture D7).
type outbox struct {
	mesh  *transport.Mesh
	peers []outgoing
}

type outgoing struct {
	to    uint64
	class transport.Class
	enc   *transport.Encoder
}

// frameBytesTarget is where a frame is closed and the next begun.
const frameBytesTarget = 2 << 20

func newOutbox(m *transport.Mesh) *outbox { return &outbox{mesh: m} }

// Send implements partition.Sender.
func (o *outbox) Send(node uint64, group partition.GroupID, m *raft.Message) {
	class := transport.ClassOf(m)
	for i := range o.peers {
		if p := &o.peers[i]; p.to == node && p.class == class {
			p.enc.Add(group, m)
			if p.enc.Bytes() >= frameBytesTarget {
				o.mesh.Send(node, class, p.enc.Frame())
			}
			return
		}
	}
	enc := transport.NewEncoder()
	enc.Add(group, m)
	o.peers = append(o.peers, outgoing{to: node, class: class, enc: enc})
}

// Flush implements engine.Outbox.
func (o *outbox) Flush() {
	for i := range o.peers {
		if p := &o.peers[i]; p.enc.Len() > 0 {
			o.mesh.Send(p.to, p.class, p.enc.Frame())
		}
	}
}
