// Package core is the client without goroutines, clocks or sockets: Producer and Consumer are step machines, fed with what the
// program wants, what brokers answer and timers; what they leave in their effects is carried out by a driver. Package client is the
// driver with goroutines and gRPC; the broker's simulator drives the same machines under its one loop (architecture D8).
//
// Times are monotonic ns since the driver's zero.
package core

import (
	"fmt"
	"math/rand/v2"

	pb "lograft/api/lograft/v1"
)

// Outcome says what is known about the effect of an append that was not acknowledged.
type Outcome uint8

// OutcomeFailed: certainly no effect. OutcomeUnknown: it may or may not appear, as a whole.
const (
	OutcomeFailed Outcome = iota
	OutcomeUnknown
)

// String is the word of the command line.
func (o Outcome) String() string {
	if o == OutcomeUnknown {
		return "unknown"
	}
	return "failed"
}

// Error is what a broker refused, or what this client gave up on.
type Error struct {
	Reason  string // the machine's name, docs/errors.md
	Message string // names the fix
	Outcome Outcome
	// LogStart and HighWatermark are set with OFFSET_OUT_OF_RANGE.
	LogStart, HighWatermark int64
	Divergence              int64 // with LOG_TRUNCATED: the first offset at which the log is not the one that was read
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Reasons that the client itself gives, or must know.
const (
	ReasonTimeout     = "TIMED_OUT"
	ReasonUnavailable = "UNAVAILABLE"

	reasonUnauthenticated = "UNAUTHENTICATED"
	reasonDenied          = "PERMISSION_DENIED"
	ReasonUnreachable     = "UNREACHABLE" // no broker answers at the address
	ReasonTopicNotFound   = "TOPIC_NOT_FOUND"
	ReasonInvalid         = "INVALID_ARGUMENT"
	ReasonTooLarge        = "MESSAGE_TOO_LARGE"
	ReasonClosed          = "CLIENT_CLOSED"
	ReasonOutOfRange      = "OFFSET_OUT_OF_RANGE"
	// ReasonExpectedOffset: a conditional append found the partition elsewhere.
	ReasonExpectedOffset = "EXPECTED_OFFSET"

	reasonNotLeader        = "NOT_LEADER"
	reasonNotReady         = "NOT_READY"
	reasonUnknownPartition = "UNKNOWN_PARTITION"
	reasonOverloaded       = "OVERLOADED"
	reasonDiskFull         = "DISK_FULL"
	reasonFaulty           = "FAULTY"
	reasonShutdown         = "SHUTTING_DOWN"
	reasonTableFull        = "PRODUCER_TABLE_FULL"
	reasonSequenceGap      = "SEQUENCE_GAP"
	reasonCorrupt          = "CORRUPT_BATCH"
	ReasonTopicExists      = "TOPIC_EXISTS" // whoever creates a topic may find that another one did
	reasonQuota            = "QUOTA"
	reasonNotUpgraded      = "CLUSTER_NOT_UPGRADED"
)

// Retriable reports whether asking again, there or elsewhere, can succeed.
func Retriable(reason string) bool {
	switch reason {
	case ReasonTimeout, ReasonUnavailable, ReasonUnreachable, reasonNotLeader, reasonNotReady, reasonUnknownPartition, reasonOverloaded, reasonDiskFull, reasonFaulty, reasonShutdown, reasonTableFull, reasonCorrupt, reasonQuota:
		return true
	}
	return false
}

// Refused reports whether a reason says that this client may not ask so: asking again changes nothing.
func Refused(reason string) bool { return reason == reasonUnauthenticated || reason == reasonDenied }

func fromError(e *pb.Error) *Error {
	out := &Error{Reason: e.GetReason(), Message: e.GetMessage(), LogStart: e.GetLogStart(), HighWatermark: e.GetHighWatermark()}
	if e.GetOutcome() == pb.Outcome_OUTCOME_UNKNOWN {
		out.Outcome = OutcomeUnknown
	}
	return out
}

// TopicNotFound is the error about a topic that certainly does not exist.
func TopicNotFound(name string) *Error {
	return &Error{Reason: ReasonTopicNotFound, Message: fmt.Sprintf("topic %q not found: create it with: broker topic create %s", name, name)}
}

// Waits before something is tried again, ns; each is drawn from [half, full).
const (
	retryMin = int64(20e6)
	retryMax = int64(500e6)
)

// Backoff is the wait before try number n (1, 2, ...).
func Backoff(rng *rand.Rand, n int) int64 {
	d := retryMin
	for ; n > 1 && d < retryMax; n-- {
		d *= 2
	}
	d = min(d, retryMax)
	return d/2 + rng.Int64N(d/2)
}

// Metadata is what a client knows of a cluster.
type Metadata struct {
	Addresses map[uint64]string // of brokers, by node
	Topics    map[string]*pb.Topic
}

// merge takes an answer in.
func (m *Metadata) merge(r *pb.GetMetadataResponse) {
	if m.Addresses == nil {
		m.Addresses, m.Topics = map[uint64]string{}, map[string]*pb.Topic{}
	}
	for _, b := range r.GetBrokers() {
		m.Addresses[b.GetNode()] = b.GetClientAddress()
	}
	for _, t := range r.GetTopics() {
		m.Topics[t.GetName()] = t
	}
}

func replicaNodes(p *pb.Partition) []uint64 {
	nodes := make([]uint64, 0, len(p.GetReplicas()))
	for _, r := range p.GetReplicas() {
		nodes = append(nodes, r.GetNode())
	}
	return nodes
}
