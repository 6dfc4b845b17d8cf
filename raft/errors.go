package raft

import (
	"errors"
	"fmt"
)

// Errors of Step and of calls in the wrong moment.
var (
	ErrStepLocalMsg     = errors.New("raft: a local message must not be stepped")
	ErrStepPeerNotFound = errors.New("raft: response of a peer that is not in the configuration")
	ErrInvalidMessage   = errors.New("raft: invalid message")
	ErrReadyOutstanding = errors.New("raft: a Ready is outstanding: end it with Advance, AdvanceAppend or AdvanceAppendAsync first")
	ErrNotPromotable    = errors.New("raft: this node can't be elected now")
	ErrLeaseMode        = errors.New("raft: refused while leases are in use")

	ErrRequestSnapshotDropped = errors.New("raft: snapshot request dropped")
)

// Errors of Storage. ErrLogTemporarilyUnavailable is legal only if the EntriesContext says CanAsync.
var (
	ErrCompacted                      = errors.New("raft: the log is compacted there")
	ErrUnavailable                    = errors.New("raft: the log does not reach there")
	ErrEntryFaulty                    = errors.New("raft: the entry is damaged and under repair")
	ErrLogTemporarilyUnavailable      = errors.New("raft: the entries are being fetched")
	ErrSnapshotOutOfDate              = errors.New("raft: the snapshot is older than the log")
	ErrSnapshotTemporarilyUnavailable = errors.New("raft: no snapshot is at hand yet")
)

// ErrProposalDropped is matched by every refused proposal, together with exactly one of the reasons below it. A refused proposal has
// no effect, now or later.
var (
	ErrProposalDropped = errors.New("raft: proposal dropped")

	ErrNoLeader           = errors.New("no leader is known")
	ErrNotLeader          = errors.New("this node does not lead")
	ErrForwardingDisabled = errors.New("this node does not lead, and forwarding is disabled")
	ErrTransferring       = errors.New("leadership is being transferred")
	ErrUncommittedLimit   = errors.New("too many bytes are uncommitted")
	ErrRemoved            = errors.New("this node was removed from the configuration")
	ErrConfChangePending  = errors.New("another configuration change is pending")
	ErrInvalidConfChange  = errors.New("invalid configuration change")
)

// Reasons of a DroppedRead, beside ErrNoLeader.
var (
	ErrRoleChanged = errors.New("raft: the role, the leader or the term changed while the read waited")
	ErrReadTimeout = errors.New("raft: the read was not answered within an election timeout")
)

type dropped struct{ reason error }

func (d *dropped) Error() string   { return ErrProposalDropped.Error() + ": " + d.reason.Error() }
func (d *dropped) Unwrap() []error { return []error{ErrProposalDropped, d.reason} }

// The refusals are built once, so that refusing does not allocate.
var (
	dropNoLeader      = &dropped{ErrNoLeader}
	dropForwarding    = &dropped{ErrForwardingDisabled}
	dropTransferring  = &dropped{ErrTransferring}
	dropUncommitted   = &dropped{ErrUncommittedLimit}
	dropRemoved       = &dropped{ErrRemoved}
	dropConfPending   = &dropped{ErrConfChangePending}
	dropInvalidChange = &dropped{ErrInvalidConfChange}
)

// FatalError poisons a node: the state that it found can't come about if storage and peers keep their contracts. The process decides
// what to do; the node does nothing any more.
type FatalError struct {
	Op          string
	Index, Term uint64
	Err         error
}

func (e *FatalError) Error() string {
	return fmt.Sprintf("raft: %s at index %d, term %d: %v", e.Op, e.Index, e.Term, e.Err)
}

// Unwrap gives the cause.
func (e *FatalError) Unwrap() error { return e.Err }

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalidMessage, fmt.Sprintf(format, args...))
}
