// Package rpc is the client-facing services. What a call does is a Session: a step machine without goroutines, clocks or sockets,
// fed with messages of the client, replies of replicas and timers (architecture D8). server.go adapts sessions to gRPC; the
// simulator drives the same sessions from its loop. status.go is the one place where reasons become gRPC codes.
package rpc

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"lograft/broker/cluster"
	"lograft/broker/partition"
	"lograft/internal/buffers"
)

// Event is one thing that happened to a session. Exactly one of the fields says what.
type Event struct {
	Message proto.Message // the client's next message
	// Reply is the answer to one of the session's requests. If the session leaves Reply.Lent there, the driver frees it.
	Reply  *partition.Reply
	Closed bool // the client sends no more
	Timer  bool // the time of Effects.Timer has come
}

// Effects is what a step asks of its driver. The driver resets it before each step.
type Effects struct {
	Requests []partition.Request // From is set by the driver
	Send     []proto.Message     // to the client, in order
	Lent     []*buffers.Loan     // memory of Send's messages at the same places, as far as it goes: freed when the message is sent
	Held     int                 // bytes of plain records that the driver gives back (Env.GiveHeld) when gRPC has let go of all of Send so far
	Timer    int64               // step again at this time (monotonic ns); 0: no change
	Done     bool                // the session is over; Err, if any, is the call's status
	Err      *partition.Error
}

func (e *Effects) reset() { *e = Effects{Requests: e.Requests[:0], Send: e.Send[:0], Lent: e.Lent[:0]} }

// sendLent adds a message that holds bytes of a reply, whose memory goes with it.
func (e *Effects) sendLent(m proto.Message, r *partition.Reply) {
	e.lend(m, r.Lent)
	r.Lent = nil
}

// lend adds a message whose memory goes with it.
func (e *Effects) lend(m proto.Message, lent *buffers.Loan) {
	for len(e.Lent) < len(e.Send) {
		e.Lent = append(e.Lent, nil)
	}
	e.Send, e.Lent = append(e.Send, m), append(e.Lent, lent)
}

// Session is one call of a client.
type Session interface {
	Step(now int64, ev *Event, eff *Effects)
	// Full asks the driver to read no further message of the client until a later step.
	Full() bool
}

// Directory is what sessions look up. It is read by many sessions at once.
type Directory interface {
	NodeID() uint64
	View() *cluster.View
	// Leader is who leads a group as far as a replica here knows; zero if none is known.
	Leader(group partition.GroupID) (node, replica uint64, epoch int32)
	// Changes counts what Leader learned: an equal number says that nothing did.
	Changes() uint64
	// TakeProducerID hands out an id of this broker's block; ok is false if the block is used up.
	TakeProducerID() (id int64, ok bool)
	// AddProducerIDs gives the block [first, first+count).
	AddProducerIDs(first int64, count int)
	// AutoCreate says that clients may create topics by using them (--dev).
	AutoCreate() bool
}

// Env is what every session of a broker shares.
type Env struct {
	Dir    Directory
	Random func() [16]byte // request ids and seeds
	Wall   func() int64    // ms: the timestamp of plain records that have none
	// GroupSegmentBytes bounds the segments of the internal topic of groups, if this broker makes it. 0: 4 MiB.
	GroupSegmentBytes int64

	Appends *Budget // of batches that are being appended; nil: no bound
	Answers *Budget // of batches on their way to clients, until gRPC has let go of them; nil: no bound
	Plain   *Plain  // bounds plain records, within Answers; nil: there are no bounds but that of Answers
	// Hold returns a function that calls give once, whenever it is called itself or the connection of ctx is closed; nil: connections
	// are not known.
	Hold   func(ctx context.Context, give func()) func()
	Caller *Caller // of the one call that this Env is for; nil: it may do everything
	Prove  Prover  // nil: passwords can't be proved here
	asker  asker   // who makes the one call that this Env is for, where batches may be inflated
	// Connected reports whether a broker is connected with this one now; nil: that is not known of any.
	Connected func(node uint64) bool
}

// connected reports whether a node is this one or connected with it: then it is not gone.
func (e *Env) connected(node uint64) bool {
	return node == e.Dir.NodeID() || e.Connected != nil && e.Connected(node)
}

// GiveHeld gives back what sessions held for plain records (Effects.Held).
func (e *Env) GiveHeld(n int) { e.plain().budget.give(n) }

// call is what every session has.
type call struct {
	env   *Env
	token uint64
}

func (c *call) Full() bool { return false }

// ask adds a request to a replica and returns its token.
func (c *call) ask(eff *Effects, q partition.Request) uint64 {
	c.token++
	q.Token = c.token
	eff.Requests = append(eff.Requests, q)
	return c.token
}

func (e *Effects) fail(err *partition.Error) { e.Done, e.Err = true, err }

func invalid(format string, args ...any) *partition.Error {
	return &partition.Error{Reason: partition.ReasonInvalid, Message: fmt.Sprintf(format, args...)}
}

// TopicNotFound is the error that names a topic and how to make it.
func topicNotFound(name string) *partition.Error {
	return &partition.Error{Reason: partition.ReasonTopicNotFound, Message: fmt.Sprintf("topic %q not found: create it with: broker topic create %s", name, name)}
}

const timeoutDefaultNs = int64(10e9)

// deadline is when a request that names a timeout in ms must be answered.
func deadline(now, timeoutMs, absentNs int64) int64 {
	if timeoutMs <= 0 {
		return now + absentNs
	}
	return now + min(timeoutMs, timeoutMaxMs)*1e6
}

const timeoutMaxMs = 300_000
