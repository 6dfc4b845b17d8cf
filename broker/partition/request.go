package partition

import (
	"lograft/internal/buffers"
	"lograft/record"
	"lograft/segment"
)

// GroupID is the uuid of one Raft group: one partition of one incarnation of a topic, or the metadata group.
type GroupID = [16]byte

// Op says what a Request wants.
type Op uint8

// The operations of a Request and the fields of it that each one reads.
const (
	OpProduce    Op = iota + 1 // Batch, ExpectedOffset
	OpFetch                    // Offset, MaxBytes, MinBytes, Consistency, Deadline (long poll)
	OpListOffset               // Which, Consistency
	OpPropose                  // Command: a state machine's command; answered when applied here
	OpBarrier                  // wait until everything committed before now is applied here (one ReadIndex round)
	OpTransfer                 // Offset: replica id that shall lead, 0 for the most up-to-date one; answered when leadership has moved
	OpDescribe                 // nothing; answers Reply.Describe
	OpScrub                    // Offset 1: check the log's files now; answers Reply.Describe and Reply.Scrub
	OpQuery                    // Ask: a Coordinator's Query, linearizable or committed; answers Reply.Answer
	OpAsk                      // Ask: a question to the Coordinator that leads; waits without a deadline
	OpTrim                     // Offset: the new log start, or TrimAll; answered when it can't be undone
	OpEpochEnd                 // Offset: a leader epoch, Consistency; answers where it ended
	OpRecover                  // Offset: a Recover constant; Gone; answers Reply.Recovery
	OpRelease                  // ProducerID, ProducerEpoch: this producer is closed
)

// Offset in an OpRecover: say what would be given up; give it up and, where a majority of the voters is among Gone, go on without them; give up
// what keeps this replica from voting, and no more.
const (
	RecoverPlan int64 = iota
	RecoverForce
	RecoverVotes
)

// Consistency is the promise a read asks for (architecture D14).
type Consistency uint8

// Linearizable pays a ReadIndex round where the answer speaks about the end; Committed answers from what this replica
// knows; Session waits until Request.Session is applied here.
const (
	Linearizable Consistency = iota
	Committed
	Session
)

// WhichOffset selects what OpListOffset answers.
type WhichOffset uint8

// EarliestOffset is the log start offset, LatestOffset the high watermark, OffsetAtTime the first offset whose append time is
// at or after Request.Offset (ms).
const (
	EarliestOffset WhichOffset = iota
	LatestOffset
	OffsetAtTime
)

// TrimAll in Request.Offset of OpTrim gives up everything that is there.
const TrimAll int64 = -1

// NoExpectedOffset in Request.ExpectedOffset makes an append unconditional.
const NoExpectedOffset int64 = -1

// Request is one thing that a session wants of one replica. Exactly one Reply answers it, whatever happens, unless the session
// was closed with Cancel first. The replica owns Batch and Command from here on: the caller must not touch them again (Batch
// is stamped in place).
type Request struct {
	From  uint64 // the session's id, copied to Reply.From
	Token uint64 // the session's own number of this request, copied to Reply.Token
	Group GroupID
	Op    Op
	// Deadline is the monotonic time (ns since the driver's zero) at which a waiting request is answered with what is there
	// (fetch: an empty answer, or ReasonTimeout if the claim about the end could not be confirmed). 0: the replica's default.
	Deadline int64
	// ArrivedAt is when the request was handed to its worker, monotonic ns, for Stats alone; 0: not known.
	ArrivedAt int64

	Batch          record.Batch // validated (record.Validate) by the caller
	ExpectedOffset int64        // NoExpectedOffset, or the next offset that the partition must have

	Offset      int64
	MaxBytes    int // at least one batch is returned even if it is larger
	MinBytes    int // a fetch waits until so many bytes are there or Deadline; <= 1 answers with whatever there is
	Consistency Consistency
	Which       WhichOffset
	Session     uint64 // Consistency Session: applied index that must be reached first
	Borrow      bool   // fetch: whoever takes the reply frees Reply.Lent

	Command []byte
	Ask     any // immutable: it is read by the replica's worker

	ProducerID    int64
	ProducerEpoch int16

	Gone []uint64 // replica ids that never come back: with a majority of the voters among them the group goes on without them

	epochFound int32   // of an OpEpochEnd whose end is being read
	denied     *denial // of an append: the answer, which waits for a round as a read of the end does
}

// Reply answers one Request. Err nil means success.
type Reply struct {
	From, Token uint64
	Err         *Error

	BaseOffset int64    // produce: offset of the batch's first record; list offset: the answer
	AppendTime int64    // ms; produce and list offset; fetch: of the first batch
	Duplicate  bool     // produce: this batch had been appended before, BaseOffset is the original one
	Batches    [][]byte // fetch: whole RecordBatches in offset order, immutable, shared; the first may start before Offset
	Bytes      int      // fetch: sum of len(Batches)
	// Lent, if not nil, is the memory of Batches, read for a request that Borrows: whoever has the reply frees it once when nobody looks at
	// Batches any more, also where the reply goes nowhere.
	Lent *buffers.Loan

	LogStart      int64  // first offset that can be read
	HighWatermark int64  // next offset after the applied ones
	HighConfirmed bool   // HighWatermark was confirmed by a ReadIndex round that began after the request arrived
	LeaderEpoch   int32  // term of this replica's leader as far as it knows
	Applied       uint64 // applied Raft index: the session token together with the group id
	At            int64  // produce: when the batch was applied, monotonic ns, for statistics alone; 0: not told

	Epoch int32 // epoch end: the highest one at or below that asked for, -1 if it is not in the log any more

	Result   []byte // propose: what the state machine answered
	Answer   any    // query, ask: immutable
	Describe *Description
	Scrub    *ScrubState
	Recovery *Recovery
}

// Description is a replica's view of itself and, when it leads, of its followers.
type Description struct {
	ReplicaID, LeaderID, Term           uint64
	FirstIndex, LastIndex, Applied      uint64
	LogStart, NextOffset, HighWatermark int64
	SizeBytes                           int64
	Voters, Learners                    []uint64
	Match                               map[uint64]uint64     // leader only: replica id -> highest index known to be there
	Faulty                              []segment.FaultyRange // held but damaged: served and repaired by others
	Repaired                            uint64                // entries repaired from peers since the start
	Refilling                           bool                  // its log was lost and is being fetched anew
}

// Reason is the machine's name of an error, the contract of architecture D18; docs/errors.md lists all of them.
type Reason string

// Every reason a replica or a session can give.
const (
	ReasonNotLeader         Reason = "NOT_LEADER"          // produce, propose: another replica leads (see Error.Leader), or none
	ReasonNotReady          Reason = "NOT_READY"           // leader, but its own no-op is not applied yet
	ReasonUnknownGroup      Reason = "UNKNOWN_PARTITION"   // no such topic or partition here
	ReasonTimeout           Reason = "TIMED_OUT"           // the deadline passed before the answer was certain
	ReasonUnavailable       Reason = "UNAVAILABLE"         // no leader could be reached to confirm the end
	ReasonOutOfRange        Reason = "OFFSET_OUT_OF_RANGE" // LogStart and HighWatermark say what there is
	ReasonSequenceGap       Reason = "SEQUENCE_GAP"        // an idempotent producer skipped sequence numbers
	ReasonFenced            Reason = "PRODUCER_FENCED"     // a newer epoch of this producer id has written
	ReasonProducerTableFull Reason = "PRODUCER_TABLE_FULL" // retriable
	ReasonExpectedOffset    Reason = "EXPECTED_OFFSET"     // conditional append: the partition is elsewhere
	ReasonTooLarge          Reason = "MESSAGE_TOO_LARGE"
	ReasonCorrupt           Reason = "CORRUPT_BATCH"
	ReasonInvalid           Reason = "INVALID_ARGUMENT"
	ReasonOverloaded        Reason = "OVERLOADED" // retriable: a budget is used up
	ReasonDiskFull          Reason = "DISK_FULL"  // retriable
	ReasonFaulty            Reason = "FAULTY"     // the range is damaged here: ask another replica
	ReasonShutdown          Reason = "SHUTTING_DOWN"
	ReasonTopicExists       Reason = "TOPIC_EXISTS"
	ReasonTopicNotFound     Reason = "TOPIC_NOT_FOUND"
	ReasonNotEnoughBrokers  Reason = "NOT_ENOUGH_BROKERS"
	ReasonUnauthenticated   Reason = "UNAUTHENTICATED"   // the caller did not prove who it is
	ReasonDenied            Reason = "PERMISSION_DENIED" // no ACL allows it, or one denies it
	ReasonQuota             Reason = "QUOTA"             // retriable: the principal's quota is used up
	ReasonInternal          Reason = "INTERNAL"
)

// Outcome says what is known about the effect of a failed write.
type Outcome uint8

// OutcomeFailed: certainly no effect, now or later. OutcomeUnknown: it may or may not appear, as a whole.
const (
	OutcomeFailed Outcome = iota
	OutcomeUnknown
)

// Error is the one error value between a replica and a session. Message names the fix.
type Error struct {
	Reason  Reason
	Message string
	Outcome Outcome // writes only
	// Leader is the replica id that leads as far as this replica knows, 0 if unknown; LeaderNode its node id.
	Leader, LeaderNode uint64
	LeaderEpoch        int32
	LogStart           int64 // ReasonOutOfRange
	HighWatermark      int64 // ReasonOutOfRange, ReasonExpectedOffset
	RetryAfterMs       int64 // retriable reasons: hint, 0 if none
}

// Error implements error.
func (e *Error) Error() string { return string(e.Reason) + ": " + e.Message }
