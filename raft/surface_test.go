package raft_test

import (
	"errors"
	"reflect"
	"testing"

	"lograft/raft"
)

// The names below are a contract: programs outside this repository are compiled against them. A name that changes its type, its number
// or its parameters does not compile here.

// Fields are named in the order of the contract: an unkeyed literal fails to compile when one is missing, added or of another type.
var (
	_ = raft.HardState{uint64(0), uint64(0), uint64(0)}
	_ = raft.SoftState{uint64(0), raft.StateFollower}
	_ = raft.ConfState{[]uint64(nil), []uint64(nil), []uint64(nil), []uint64(nil), false}
	_ = raft.ReadState{uint64(0), []byte(nil)}
	_ = raft.DroppedRead{[]byte(nil), error(nil)}
	_ = raft.CommitGroup{uint64(0), uint64(0)}
	_ = raft.FatalError{string(""), uint64(0), uint64(0), error(nil)}
	_ = raft.ConfChangeSingle{raft.ConfChangeAddNode, uint64(0)}
	_ = raft.ConfChange{ID: uint64(0), Type: raft.ConfChangeAddNode, NodeID: uint64(0), Context: []byte(nil)}
	_ = raft.ConfChangeV2{Transition: raft.ConfChangeTransitionAuto, Changes: []raft.ConfChangeSingle(nil), Context: []byte(nil)}
	_ = raft.Entry{Type: raft.EntryNormal, Term: uint64(0), Index: uint64(0), Data: []byte(nil), Context: []byte(nil)}
	_ = raft.Snapshot{Data: []byte(nil), Metadata: raft.SnapshotMetadata{ConfState: raft.ConfState{}, Index: uint64(0), Term: uint64(0)}}
	_ = raft.Event{Kind: string(""), Node: uint64(0), Term: uint64(0), Index: uint64(0), Peer: uint64(0), Detail: string("")}
	_ = raft.Message{Type: raft.MsgHup, To: uint64(0), From: uint64(0), Term: uint64(0), LogTerm: uint64(0), Index: uint64(0),
		Commit: uint64(0), CommitTerm: uint64(0), Entries: []raft.Entry(nil), Snapshot: (*raft.Snapshot)(nil), Reject: false,
		RejectHint: uint64(0), Context: []byte(nil), RequestSnapshot: uint64(0), Priority: int64(0)}
	_ = raft.Config{ID: uint64(0), ElectionTick: int(0), HeartbeatTick: int(0), MinElectionTick: int(0), MaxElectionTick: int(0),
		Applied: uint64(0), MaxSizePerMsg: uint64(0), MaxInflightMsgs: int(0), MaxInflightBytes: uint64(0), MaxUncommittedSize: uint64(0),
		MaxCommittedSizePerReady: uint64(0), MaxApplyUnpersistedLogLimit: uint64(0), CheckQuorum: false, PreVote: false,
		SkipBcastCommit: false, BatchAppend: false, DisableProposalForwarding: false, StepDownOnRemoval: false,
		ReadOnlyOption: raft.ReadOnlySafe, LeaseMarginTick: int(0), Priority: int64(0), SnapshotTimeoutTick: int(0),
		Rand: (func(n int) int)(nil), Tracer: raft.Tracer(nil)}
	_ = raft.Ready{Number: uint64(0), SoftState: (*raft.SoftState)(nil), HardState: raft.HardState{}, HasHardState: false, MustSync: false,
		ReadStates: []raft.ReadState(nil), DroppedReads: []raft.DroppedRead(nil), Entries: []raft.Entry(nil),
		Snapshot: (*raft.Snapshot)(nil), CommittedEntries: []raft.Entry(nil), Messages: []raft.Message(nil), PersistedMessages: []raft.Message(nil)}
	_ = raft.LightReady{CommitIndex: uint64(0), HasCommitIndex: false, CommittedEntries: []raft.Entry(nil), Messages: []raft.Message(nil)}
	_ = raft.BasicStatus{ID: uint64(0), HardState: raft.HardState{}, SoftState: raft.SoftState{}, Applied: uint64(0), Persisted: uint64(0),
		LastIndex: uint64(0), LeadTransferee: uint64(0)}
	_ = raft.Status{BasicStatus: raft.BasicStatus{}, Conf: raft.ConfState{}, Progress: map[uint64]raft.Progress(nil)}
	_ = raft.Progress{Match: uint64(0), Next: uint64(0), PendingSnapshot: uint64(0), PendingRequestSnapshot: uint64(0),
		CommittedIndex: uint64(0), CommitGroupID: uint64(0), State: raft.ProgressProbe, RecentActive: false, Paused: false,
		IsLearner: false, InflightCount: int(0), InflightBytes: uint64(0)}
)

// Functions and methods, with the types of their parameters and results.
var (
	_ func(uint64) raft.Config                               = raft.DefaultConfig
	_ func(*raft.Config) error                               = (*raft.Config).Validate
	_ func(raft.Config, raft.Storage) (*raft.RawNode, error) = raft.NewRawNode

	_ func(*raft.RawNode) bool                                                          = (*raft.RawNode).Tick
	_ func(n *raft.RawNode, ticks int) bool                                             = (*raft.RawNode).TickN
	_ func(*raft.RawNode) int                                                           = (*raft.RawNode).IdleTicks
	_ func(*raft.RawNode, raft.Message) error                                           = (*raft.RawNode).Step
	_ func(*raft.RawNode) bool                                                          = (*raft.RawNode).Calm
	_ func(n *raft.RawNode, m *raft.Message) (answer raft.Message, taken bool)          = (*raft.RawNode).StepCalm
	_ func(*raft.RawNode) error                                                         = (*raft.RawNode).Campaign
	_ func(*raft.RawNode)                                                               = (*raft.RawNode).Ping
	_ func(n *raft.RawNode, context, data []byte) error                                 = (*raft.RawNode).Propose
	_ func(n *raft.RawNode, context []byte, cc raft.ConfChanger) error                  = (*raft.RawNode).ProposeConfChange
	_ func(*raft.RawNode, raft.ConfChanger) (raft.ConfState, error)                     = (*raft.RawNode).ApplyConfChange
	_ func(*raft.RawNode, []byte) error                                                 = (*raft.RawNode).ReadIndex
	_ func(*raft.RawNode, uint64)                                                       = (*raft.RawNode).TransferLeader
	_ func(*raft.RawNode) error                                                         = (*raft.RawNode).ForgetLeader
	_ func(*raft.RawNode) error                                                         = (*raft.RawNode).RequestSnapshot
	_ func(*raft.RawNode, uint64)                                                       = (*raft.RawNode).ReportUnreachable
	_ func(*raft.RawNode, uint64, raft.SnapshotStatus)                                  = (*raft.RawNode).ReportSnapshot
	_ func(*raft.RawNode) bool                                                          = (*raft.RawNode).HasReady
	_ func(*raft.RawNode) *raft.Ready                                                   = (*raft.RawNode).Ready
	_ func(*raft.RawNode, *raft.Ready) *raft.LightReady                                 = (*raft.RawNode).Advance
	_ func(*raft.RawNode, *raft.Ready) *raft.LightReady                                 = (*raft.RawNode).AdvanceAppend
	_ func(*raft.RawNode, *raft.Ready)                                                  = (*raft.RawNode).AdvanceAppendAsync
	_ func(*raft.RawNode, uint64)                                                       = (*raft.RawNode).OnPersistReady
	_ func(*raft.RawNode)                                                               = (*raft.RawNode).AdvanceApply
	_ func(*raft.RawNode, uint64)                                                       = (*raft.RawNode).AdvanceApplyTo
	_ func(*raft.RawNode, raft.EntriesContext)                                          = (*raft.RawNode).OnEntriesFetched
	_ func(*raft.RawNode) error                                                         = (*raft.RawNode).Err
	_ func(*raft.RawNode, bool)                                                         = (*raft.RawNode).SetElectable
	_ func(*raft.RawNode, int64)                                                        = (*raft.RawNode).SetPriority
	_ func(*raft.RawNode, bool)                                                         = (*raft.RawNode).SetBatchAppend
	_ func(*raft.RawNode, bool)                                                         = (*raft.RawNode).SetSkipBcastCommit
	_ func(*raft.RawNode, bool)                                                         = (*raft.RawNode).SetCheckQuorum
	_ func(*raft.RawNode, uint64)                                                       = (*raft.RawNode).SetMaxCommittedSizePerReady
	_ func(*raft.RawNode, uint64)                                                       = (*raft.RawNode).SetMaxApplyUnpersistedLogLimit
	_ func(n *raft.RawNode, id uint64, count int)                                       = (*raft.RawNode).AdjustMaxInflightMsgs
	_ func(*raft.RawNode, bool)                                                         = (*raft.RawNode).EnableGroupCommit
	_ func(*raft.RawNode, []raft.CommitGroup)                                           = (*raft.RawNode).AssignCommitGroups
	_ func(*raft.RawNode)                                                               = (*raft.RawNode).ClearCommitGroups
	_ func(*raft.RawNode) (ok, known bool)                                              = (*raft.RawNode).CheckGroupCommitConsistent
	_ func(*raft.RawNode) raft.Status                                                   = (*raft.RawNode).Status
	_ func(*raft.RawNode) raft.BasicStatus                                              = (*raft.RawNode).BasicStatus
	_ func(n *raft.RawNode, visit func(id uint64, pr *raft.Progress))                   = (*raft.RawNode).VisitProgress
	_ func(raft.EntriesContext) bool                                                    = raft.EntriesContext.CanAsync
	_ func(raft.EntriesContext) uint64                                                  = raft.EntriesContext.To
	_ func() *raft.MemoryStorage                                                        = raft.NewMemoryStorage
	_ func(raft.ConfState) *raft.MemoryStorage                                          = raft.NewMemoryStorageWithConfState
	_ func(*raft.MemoryStorage, raft.Snapshot) error                                    = (*raft.MemoryStorage).ApplySnapshot
	_ func(*raft.MemoryStorage, []raft.Entry) error                                     = (*raft.MemoryStorage).Append
	_ func(*raft.MemoryStorage, raft.HardState)                                         = (*raft.MemoryStorage).SetHardState
	_ func(*raft.MemoryStorage, raft.ConfState)                                         = (*raft.MemoryStorage).SetConfState
	_ func(*raft.MemoryStorage, uint64) error                                           = (*raft.MemoryStorage).Compact
	_ func(*raft.MemoryStorage, uint64, *raft.ConfState, []byte) (raft.Snapshot, error) = (*raft.MemoryStorage).CreateSnapshot
	_ func([]byte) (raft.ConfChange, error)                                             = raft.UnmarshalConfChange
	_ func([]byte) (raft.ConfChangeV2, error)                                           = raft.UnmarshalConfChangeV2
)

// Interfaces both ways: what implements ours here, and ours as exactly these methods.
var (
	_ raft.Storage     = (*raft.MemoryStorage)(nil)
	_ raft.ConfChanger = raft.ConfChange{}
	_ raft.ConfChanger = raft.ConfChangeV2{}
	_ error            = (*raft.FatalError)(nil)

	_ interface {
		InitialState() (raft.HardState, raft.ConfState, error)
		Entries(dst []raft.Entry, lo, hi, maxBytes uint64, c raft.EntriesContext) ([]raft.Entry, error)
		Term(i uint64) (uint64, error)
		FirstIndex() (uint64, error)
		LastIndex() (uint64, error)
		Snapshot(requestIndex, to uint64) (raft.Snapshot, error)
	} = raft.Storage(nil)
	_ raft.Storage = interface {
		InitialState() (raft.HardState, raft.ConfState, error)
		Entries(dst []raft.Entry, lo, hi, maxBytes uint64, c raft.EntriesContext) ([]raft.Entry, error)
		Term(i uint64) (uint64, error)
		FirstIndex() (uint64, error)
		LastIndex() (uint64, error)
		Snapshot(requestIndex, to uint64) (raft.Snapshot, error)
	}(nil)
	_ raft.ConfChanger = interface {
		AsV1() (raft.ConfChange, bool)
		AsV2() raft.ConfChangeV2
		Marshal() []byte
	}(nil)
	_ raft.Tracer = interface{ Trace(raft.Event) }(nil)
)

// The numbers are the wire's, or stored by callers.
func TestSurfaceNumbers(t *testing.T) {
	messages := []raft.MessageType{raft.MsgHup, raft.MsgBeat, raft.MsgPropose, raft.MsgAppend, raft.MsgAppendResponse, raft.MsgRequestVote,
		raft.MsgRequestVoteResponse, raft.MsgSnapshot, raft.MsgHeartbeat, raft.MsgHeartbeatResponse, raft.MsgUnreachable, raft.MsgSnapStatus,
		raft.MsgCheckQuorum, raft.MsgTransferLeader, raft.MsgTimeoutNow, raft.MsgReadIndex, raft.MsgReadIndexResp, raft.MsgRequestPreVote,
		raft.MsgRequestPreVoteResponse}
	for i, m := range messages {
		if int(m) != i {
			t.Errorf("message %d has number %d", i, m)
		}
	}
	for _, c := range []struct{ got, want uint8 }{
		{uint8(raft.EntryNormal), 0}, {uint8(raft.EntryConfChange), 1}, {uint8(raft.EntryConfChangeV2), 2},
		{uint8(raft.StateFollower), 0}, {uint8(raft.StateCandidate), 1}, {uint8(raft.StateLeader), 2}, {uint8(raft.StatePreCandidate), 3},
		{uint8(raft.ReadOnlySafe), 0}, {uint8(raft.ReadOnlyLeaseBased), 1},
		{uint8(raft.ProgressProbe), 0}, {uint8(raft.ProgressReplicate), 1}, {uint8(raft.ProgressSnapshot), 2},
		{uint8(raft.SnapshotFinish), 0}, {uint8(raft.SnapshotFailure), 1}, {uint8(raft.SnapshotProgress), 2},
		{uint8(raft.ConfChangeAddNode), 0}, {uint8(raft.ConfChangeRemoveNode), 1}, {uint8(raft.ConfChangeAddLearnerNode), 3},
		{uint8(raft.ConfChangeTransitionAuto), 0}, {uint8(raft.ConfChangeTransitionImplicit), 1}, {uint8(raft.ConfChangeTransitionExplicit), 2},
	} {
		if c.got != c.want {
			t.Errorf("a constant is %d, want %d", c.got, c.want)
		}
	}
	for _, v := range []any{raft.EntryNormal, raft.StateFollower, raft.MsgHup, raft.ReadOnlySafe, raft.ProgressProbe, raft.SnapshotFinish,
		raft.ConfChangeAddNode, raft.ConfChangeTransitionAuto} {
		if k := reflect.TypeOf(v).Kind(); k != reflect.Uint8 {
			t.Errorf("%T is a %v, want uint8", v, k)
		}
	}
	if raft.CampaignTransfer != "CampaignTransfer" {
		t.Errorf("CampaignTransfer is %q", raft.CampaignTransfer)
	}
	if !reflect.TypeFor[raft.EntriesContext]().Comparable() {
		t.Error("EntriesContext is not comparable")
	}
}

// No sentinel is, by accident, another one.
func TestSurfaceSentinels(t *testing.T) {
	all := []error{raft.ErrCompacted, raft.ErrUnavailable, raft.ErrEntryFaulty, raft.ErrLogTemporarilyUnavailable, raft.ErrSnapshotOutOfDate,
		raft.ErrSnapshotTemporarilyUnavailable, raft.ErrStepLocalMsg, raft.ErrStepPeerNotFound, raft.ErrInvalidMessage, raft.ErrNotPromotable,
		raft.ErrProposalDropped, raft.ErrRequestSnapshotDropped, raft.ErrReadyOutstanding, raft.ErrNoLeader, raft.ErrNotLeader,
		raft.ErrForwardingDisabled, raft.ErrTransferring, raft.ErrUncommittedLimit, raft.ErrRemoved, raft.ErrConfChangePending,
		raft.ErrInvalidConfChange, raft.ErrRoleChanged, raft.ErrReadTimeout}
	for i, a := range all {
		for j, b := range all {
			if errors.Is(a, b) != (i == j) {
				t.Errorf("errors.Is(%v, %v) is %t", a, b, i != j)
			}
		}
	}
	cause := errors.New("cause")
	var fatal *raft.FatalError
	if err := error(&raft.FatalError{Op: "op", Index: 7, Term: 3, Err: cause}); !errors.As(err, &fatal) || !errors.Is(err, cause) {
		t.Errorf("%v hides its cause or itself", err)
	}
}
