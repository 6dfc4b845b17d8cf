package raft

// EntryType says what an entry carries. The numbers are the wire's.
type EntryType uint8

// EntryConfChange holds a ConfChange, EntryConfChangeV2 a ConfChangeV2 (empty Data: leave the joint configuration).
const (
	EntryNormal       EntryType = 0
	EntryConfChange   EntryType = 1
	EntryConfChangeV2 EntryType = 2
)

// Entry is one slot of the replicated log. Data and Context are immutable once the entry exists; whoever holds an Entry shares them.
type Entry struct {
	Type          EntryType
	Term, Index   uint64
	Data, Context []byte
}

func (e *Entry) size() uint64 { return uint64(len(e.Data) + len(e.Context)) }

func sizeOf(entries []Entry) (n uint64) {
	for i := range entries {
		n += entries[i].size()
	}
	return n
}

// HardState is what must survive a crash beside the log (Raft paper, figure 2).
type HardState struct {
	Term, Vote, Commit uint64
}

// SoftState is for the app's information; it needs no storage. LeaderID 0: no leader known.
type SoftState struct {
	LeaderID  uint64
	RaftState StateRole
}

// StateRole is the role of a node.
type StateRole uint8

// The roles of the Raft paper, and that of a node that asks whether it could win before it disturbs anyone (dissertation §9.6).
const (
	StateFollower StateRole = iota
	StateCandidate
	StateLeader
	StatePreCandidate
)

var roleNames = [...]string{"follower", "candidate", "leader", "pre-candidate"}

func (s StateRole) String() string {
	if int(s) < len(roleNames) {
		return roleNames[s]
	}
	return "unknown"
}

// ConfState is a configuration. Lists are sorted by id. A configuration with VotersOutgoing is joint.
type ConfState struct {
	Voters, Learners, VotersOutgoing, LearnersNext []uint64
	AutoLeave                                      bool
}

// SnapshotMetadata is the position of a snapshot in the log and the configuration as of it.
type SnapshotMetadata struct {
	ConfState   ConfState
	Index, Term uint64
}

// Snapshot replaces the log up to Metadata.Index. Data is immutable and the app's own.
type Snapshot struct {
	Data     []byte
	Metadata SnapshotMetadata
}

// ReadState answers a ReadIndex: what is applied at Index or later may be read. RequestCtx are the caller's bytes.
type ReadState struct {
	Index      uint64
	RequestCtx []byte
}

// DroppedRead says that a ReadIndex ended without an answer: ErrNoLeader, ErrRoleChanged or ErrReadTimeout.
type DroppedRead struct {
	RequestCtx []byte
	Reason     error
}

// MessageType is the kind of a Message. The numbers are the wire's, shared with raft-rs and etcd.
type MessageType uint8

// Hup, Beat, Unreachable, SnapStatus and CheckQuorum are local and never travel.
const (
	MsgHup                    MessageType = 0
	MsgBeat                   MessageType = 1
	MsgPropose                MessageType = 2
	MsgAppend                 MessageType = 3
	MsgAppendResponse         MessageType = 4
	MsgRequestVote            MessageType = 5
	MsgRequestVoteResponse    MessageType = 6
	MsgSnapshot               MessageType = 7
	MsgHeartbeat              MessageType = 8
	MsgHeartbeatResponse      MessageType = 9
	MsgUnreachable            MessageType = 10
	MsgSnapStatus             MessageType = 11
	MsgCheckQuorum            MessageType = 12
	MsgTransferLeader         MessageType = 13
	MsgTimeoutNow             MessageType = 14
	MsgReadIndex              MessageType = 15
	MsgReadIndexResp          MessageType = 16
	MsgRequestPreVote         MessageType = 17
	MsgRequestPreVoteResponse MessageType = 18
)

var messageNames = [...]string{"MsgHup", "MsgBeat", "MsgPropose", "MsgAppend", "MsgAppendResponse", "MsgRequestVote",
	"MsgRequestVoteResponse", "MsgSnapshot", "MsgHeartbeat", "MsgHeartbeatResponse", "MsgUnreachable", "MsgSnapStatus",
	"MsgCheckQuorum", "MsgTransferLeader", "MsgTimeoutNow", "MsgReadIndex", "MsgReadIndexResp", "MsgRequestPreVote",
	"MsgRequestPreVoteResponse"}

func (t MessageType) String() string {
	if int(t) < len(messageNames) {
		return messageNames[t]
	}
	return "unknown"
}

// Message is what replicas of a group send each other. Which fields a type uses:
//
//	MsgPropose            Entries (Index and Term unset); Term 0
//	MsgAppend             Index, LogTerm of the entry before Entries; Commit; NoAnswer: one that is accepted needs none
//	MsgAppendResponse     Index; Commit; Reject with RejectHint, LogTerm; RequestSnapshot
//	MsgRequest(Pre)Vote   Index, LogTerm of the last entry; Commit, CommitTerm; Priority; Context CampaignTransfer or empty
//	...Response           Reject; Commit, CommitTerm
//	MsgSnapshot           Snapshot
//	MsgHeartbeat(Resp.)   Commit; Context: the newest read round, 8 bytes little-endian, or empty
//	MsgTransferLeader     From is the transferee
//	MsgReadIndex(Resp)    Entries[0].Data names the request; Index is the answer; MsgReadIndex has Term 0
type Message struct {
	Type                               MessageType
	To, From, Term                     uint64
	LogTerm, Index, Commit, CommitTerm uint64
	Entries                            []Entry
	Snapshot                           *Snapshot // only on MsgSnapshot
	Reject, NoAnswer                   bool
	RejectHint                         uint64
	Context                            []byte
	RequestSnapshot                    uint64
	Priority                           int64
}

// CampaignTransfer is the Context of vote requests of an election that the leader asked for: they are answered in spite of a lease.
const CampaignTransfer = "CampaignTransfer"

// noLimit is the byte limit of reads that want everything.
const noLimit = ^uint64(0)

// termMax bounds terms: they must fit a leader epoch (int32).
const termMax = 1 << 31

// indexMax bounds the indexes that peers and Storage may name, so that the log can grow on for ever without overflow.
const indexMax = 1 << 62

// Ids 0, 2^64-1 and 2^64-2 are reserved.
func reservedID(id uint64) bool { return id == 0 || id >= ^uint64(0)-1 }

// SnapshotStatus is what the app reports of a snapshot that it sends for the core.
type SnapshotStatus uint8

// SnapshotProgress restarts the timeout after which the peer is freed.
const (
	SnapshotFinish   SnapshotStatus = 0
	SnapshotFailure  SnapshotStatus = 1
	SnapshotProgress SnapshotStatus = 2
)

// CommitGroup puts a peer into a commit group (group commit as in raft-rs). GroupID 0: none.
type CommitGroup struct {
	PeerID, GroupID uint64
}

// entryID is the pair that names an entry for good.
type entryID struct{ term, index uint64 }
