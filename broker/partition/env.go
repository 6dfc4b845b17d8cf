package partition

import (
	"lograft/internal/buffers"
	"lograft/raft"
)

// Env is what a step of a replica may look at, and where its effects go. The worker that owns the replica hands the same Env to
// every replica of one step and carries out what it holds afterwards.
type Env struct {
	Now  int64 // monotonic, ns since the driver's zero
	Wall int64 // this broker's clock, ms since the Unix epoch
	// Clocks returns the median (ms) of these nodes' clocks as heard lately in peer heartbeats, this broker's included: of an even
	// number both middle ones. heard is how many there are (architecture D3).
	Clocks func(nodes []uint64) (lower, upper int64, heard int)
	Out    Sender
	Disk   Disk // room on this broker's disk; replicas take from it what they accept
	// Buffers lends the memory of what is read from files for requests that Borrow; nil: the garbage collector does.
	Buffers *buffers.Pool
	// Full reports whether a peer said lately that its disk is at its reserve; nil: none ever did.
	Full func(node uint64) bool

	Replies    []Reply
	Cold       []*ColdRead    // reads to be done off the worker; each comes back through Replica.ReadDone
	Leads      []LeaderChange // what this replica now believes about its leader
	Settled    []Settled      // groups that this replica leads and whose wanted members are in effect, once per term and version
	Stats      Stats          // grows for as long as the worker lives
	Scrubs     int            // replicas of this worker that read a segment for a check, likewise
	ScrubBytes int64          // that checks may read before they wait
	Handovers  int            // groups that may be handed to their preferred leaders before it waits
	Fills      int            // replicas of this worker that fetch a snapshot, as of its last tick
	Notes      []Note         // what operators are told about this broker's logs
	// Clock tells the time within a step, monotonic ns, for Stats alone; nil: the stages of a batch are not told apart.
	Clock func() int64

	scratch raft.Message // of StepCalm and Heard: thousands per second must not be garbage
}

// Sender takes messages for other brokers. It must not keep m or its slices after Send returned, the immutable byte slices of
// entries excepted; it never blocks, and reports what it drops through Replica.Dropped in a later step.
type Sender interface {
	Send(node uint64, group GroupID, m *raft.Message)
}

// LeaderChange says that a replica's view of its leader changed. ReplicaID 0: no leader known.
type LeaderChange struct {
	Group             GroupID
	Leader            uint64 // replica id
	LeaderNode        uint64
	Term              uint64
	Local             bool // this replica is the leader
	HighWatermarkHint int64
}

func (env *Env) reply(r Reply) { env.Replies = append(env.Replies, r) }

func (env *Env) fail(q *Request, err *Error) {
	env.reply(Reply{From: q.From, Token: q.Token, Err: err})
}
