package transport

import "lograft/raft"

// Class is one of the streams between two brokers: bulk never delays data, neither delays control (architecture D9).
type Class uint8

// OwnTypes is where message types begin that are not Raft's but of the replicas themselves: repair and file pulls.
const OwnTypes raft.MessageType = 128

// Data carries entries and their acknowledgements, Control elections, heartbeats and read rounds, Bulk snapshots and repair.
const (
	Data Class = iota
	Control
	Bulk
	classes
)

// String names the class.
func (c Class) String() string { return [...]string{"data", "control", "bulk"}[c] }

// ClassOf is the stream that a message takes.
func ClassOf(m *raft.Message) Class {
	switch m.Type {
	case raft.MsgSnapshot:
		return Bulk
	case raft.MsgAppend, raft.MsgAppendResponse, raft.MsgPropose:
		return Data
	}
	if m.Type >= OwnTypes {
		return Bulk
	}
	return Control
}

// Bounds of what waits for one stream.
const (
	queueBytesMax  = 16 << 20
	queueFramesMax = 4096
)

// queue is what waits for one stream. What does not fit, and all of it when the stream is down, is dropped and named: Raft sends
// again what it must. It is a step machine: the caller locks.
type queue struct {
	frames []Frame
	bytes  int
	up     bool
}

// put adds a frame; dropped names the messages that will not be sent.
func (q *queue) put(f Frame) (dropped []Ref) {
	if !q.up || len(q.frames) >= queueFramesMax || q.bytes+f.Bytes > queueBytesMax {
		return f.Refs
	}
	q.frames = append(q.frames, f)
	q.bytes += f.Bytes
	return nil
}

// take gives everything that waits, in order, and reuses spare's memory.
func (q *queue) take(spare []Frame) []Frame {
	clear(spare)
	frames := q.frames
	q.frames, q.bytes = spare[:0], 0
	return frames
}

// open says that the stream is up.
func (q *queue) open() { q.up = true }

// close says that the stream is down; what waited is dropped.
func (q *queue) close() (dropped []Ref) {
	q.up = false
	for _, f := range q.frames {
		dropped = append(dropped, f.Refs...)
	}
	q.frames, q.bytes = nil, 0
	return dropped
}
