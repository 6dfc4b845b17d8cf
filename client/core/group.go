package core

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	pb "lograft/api/lograft/v1"
)

// GroupOptions of a GroupConsumer. Zero values take the defaults named.
type GroupOptions struct {
	Group    string
	Topics   []string
	ClientID string // for people
	// InstanceID, if it is not empty, makes the member static: it does not leave when it is closed, and who joins with the same id within
	// the session goes on with its partitions. Who had it before is fenced: its consumer fails with ReasonFencedInstance.
	InstanceID string
	SessionNs  int64 // a member that is not heard for so long is expired, 10 s
	PollNs     int64 // a program that does not poll for so long leaves the group, 5 min
	CommitNs   int64 // how often what is marked is committed, 1 s
	// NoCommit commits nothing: Mark has no effect.
	NoCommit bool
	// AutoMark marks what was delivered when the program polls again.
	AutoMark bool
	Reset    Reset
	// StopAtEnd ends when everything assigned is read up to the ends as they were when the consumer began.
	StopAtEnd bool
	Consumer  ConsumerOptions
}

// Reset says where a partition begins that has no committed offset, or one that is not in the log any more.
type Reset uint8

// ResetStart begins at the log start, ResetEnd at the end (which is committed at once), ResetNone fails.
const (
	ResetStart Reset = iota
	ResetEnd
	ResetNone
)

// Reasons of groups that a client must know.
const (
	ReasonUnknownMember     = "UNKNOWN_MEMBER"
	ReasonFencedInstance    = "FENCED_INSTANCE_ID"
	ReasonStaleGeneration   = "STALE_GENERATION"
	ReasonGroupNotFound     = "GROUP_NOT_FOUND"
	ReasonGroupNotEmpty     = "GROUP_NOT_EMPTY"
	ReasonNoCommittedOffset = "NO_COMMITTED_OFFSET"
)

const (
	sessionDefault = int64(10e9)
	pollDefault    = int64(300e9)
	commitDefault  = int64(1e9)
	findLate       = int64(2e9) // before another broker is asked
	leaveLate      = int64(4e9) // before a member leaves without an answer
	commitLate     = int64(8e9) // before a commit without an answer is sent again: it has one effect
)

// TP names a partition of a topic.
type TP struct {
	Topic     string
	Partition int32
}

// GroupEvent is one thing that happened. The fields that are set say what.
type GroupEvent struct {
	Begin    bool
	Consumer *ConsumerEvent // Answer, Offsets, Metadata or Down
	Found    *FoundAnswer
	Message  *StreamMessage
	Broken   *StreamBroken
	Poll     bool // the program wants the next; one at a time
	Mark     *Mark
	Commit   uint64 // the program waits until everything marked is committed; its own number, from 1
	Leave    bool
	Timer    bool
}

// FoundAnswer ends a Find.
type FoundAnswer struct {
	Token   uint64
	Address string // of the coordinator
	Err     *Error
}

// StreamMessage is a message of the coordinator, StreamBroken the end of a stream.
type (
	StreamMessage struct {
		Stream  uint64
		Message *pb.JoinResponse
	}
	StreamBroken struct {
		Stream uint64
		Err    error
	}
)

// Mark says that the program is done with a partition's records below Offset.
type Mark struct {
	TP
	Offset int64
}

// Find asks a broker for the group's coordinator. Address "": any broker.
type Find struct {
	Token   uint64
	Address string
}

// StreamOpen opens a member's stream; StreamSend sends on one.
type (
	StreamOpen struct {
		Stream  uint64
		Address string
	}
	StreamSend struct {
		Stream  uint64
		Message *pb.JoinRequest
	}
)

// CommitDone answers GroupEvent.Commit.
type CommitDone struct {
	Number uint64
	Err    *Error
}

// Delivery is what one Poll gives.
type Delivery struct {
	Fetched    *Fetched // nil: none
	Ended      []PartitionEnd
	Over       bool   // StopAtEnd: nothing more will come
	Err        *Error // the consumer can't go on
	Generation int64
}

// GroupEffects is what a step asks of its driver.
type GroupEffects struct {
	ConsumerEffects        // Send, Offsets, Metadata and Timer
	Find            *Find  // at most one at a time counts
	Close           uint64 // stream to close
	Open            *StreamOpen
	Join            []StreamSend
	Deliver         *Delivery // answers Poll
	Commits         []CommitDone
	Left            bool // the answer to Leave
}

// GroupConsumer is a member of a group: it reads the partitions that the group's coordinator assigns to it.
type GroupConsumer struct {
	opts GroupOptions
	rng  *rand.Rand
	read *Consumer
	meta Metadata

	// Preparation: the topics are looked up, and their ends if StopAtEnd.
	begun    bool
	prepared bool
	lookup   subscribed // one for all topics
	ends     map[TP]int64
	asks     map[uint64]*endAsk // by token
	nextAsk  uint64

	member  membership
	parts   []*owned // by TP
	waiting int      // partitions to come
	queue   []Fetched
	ended   []PartitionEnd
	fatal   *Error

	wanted    bool // the program polls
	polledAt  int64
	delivered *owned // whose records the program has now (AutoMark)

	commit  committing
	leaving bool
	leaveAt int64 // when it leaves without an answer
	left    bool
}

// NewGroupConsumer makes a consumer; GroupEvent.Begin starts it.
func NewGroupConsumer(o GroupOptions) *GroupConsumer {
	if o.SessionNs == 0 {
		o.SessionNs = sessionDefault
	}
	if o.PollNs == 0 {
		o.PollNs = pollDefault
	}
	if o.CommitNs == 0 {
		o.CommitNs = commitDefault
	}
	o.Topics = slices.Compact(slices.Sorted(slices.Values(o.Topics)))
	g := &GroupConsumer{opts: o, rng: o.Consumer.Rand, read: NewConsumer(o.Consumer), ends: map[TP]int64{}, asks: map[uint64]*endAsk{}}
	return g
}

// Generation is the last generation that this member was told, 0 if it is in none.
func (g *GroupConsumer) Generation() int64 { return g.member.generation }

// Owned are the partitions that this member may work on, in order.
func (g *GroupConsumer) Owned() (list []TP) {
	for _, p := range g.parts {
		if !p.revoking {
			list = append(list, p.TP)
		}
	}
	return list
}

// Step takes one event and does what follows from it.
func (g *GroupConsumer) Step(now int64, ev *GroupEvent, eff *GroupEffects) {
	*eff = GroupEffects{}
	if ev.Begin {
		g.begun, g.polledAt = true, now
		g.lookup = subscribed{askAt: now, deadline: now + g.read.opts.TimeoutNs}
	}
	switch {
	case ev.Consumer != nil:
		g.consumerEvent(now, ev.Consumer, eff)
	case ev.Found != nil:
		g.found(now, ev.Found)
	case ev.Message != nil:
		g.message(now, ev.Message, eff)
	case ev.Broken != nil && ev.Broken.Stream == g.member.stream:
		g.broke(now, &Error{Reason: ReasonUnavailable, Message: fmt.Sprintf("the stream to the coordinator at %s broke: %v", g.member.address, ev.Broken.Err)}, eff)
	case ev.Mark != nil:
		g.mark(ev.Mark)
	case ev.Poll:
		g.poll(now)
	case ev.Commit != 0:
		g.commit.waiters = append(g.commit.waiters, ev.Commit)
	case ev.Leave:
		g.leaving, g.leaveAt = true, now+leaveLate
	}
	if g.begun && !g.left {
		g.drive(now, eff)
	}
}

func at(eff *ConsumerEffects, t int64) {
	if t > 0 && (eff.Timer == 0 || t < eff.Timer) {
		eff.Timer = t
	}
}

func (g *GroupConsumer) drive(now int64, eff *GroupEffects) {
	if g.leaving {
		g.driveLeave(now, eff)
	}
	if !g.left && (g.fatal == nil || g.leaving) {
		if !g.prepared && g.fatal == nil {
			g.prepare(now, eff)
		}
		if g.prepared {
			g.driveAsks(now, eff)
			g.driveMember(now, eff)
			g.driveCommit(now, eff)
			g.acknowledge(eff)
		}
	}
	g.stepReader(now, &ConsumerEvent{Timer: true}, eff)
	g.deliver(now, eff)
}

// stepReader steps the embedded consumer and takes what it fetched.
func (g *GroupConsumer) stepReader(now int64, ev *ConsumerEvent, eff *GroupEffects) {
	var e ConsumerEffects
	g.read.Step(now, ev, &e)
	eff.Send = append(eff.Send, e.Send...)
	eff.Offsets = append(eff.Offsets, e.Offsets...)
	eff.Epochs = append(eff.Epochs, e.Epochs...)
	for _, name := range e.Metadata {
		if !slices.Contains(eff.Metadata, name) {
			eff.Metadata = append(eff.Metadata, name)
		}
	}
	at(&eff.ConsumerEffects, e.Timer)
	g.queue = append(g.queue, e.Fetched...)
	for i := range e.Ended {
		g.partitionEnded(now, &e.Ended[i], eff)
	}
}

func (g *GroupConsumer) consumerEvent(now int64, ev *ConsumerEvent, eff *GroupEffects) {
	if ev.Offsets != nil && g.asks[ev.Offsets.Token] != nil {
		g.endAnswer(now, ev.Offsets)
		return
	}
	if ev.Metadata != nil {
		g.metadata(now, ev.Metadata)
	}
	g.stepReader(now, ev, eff)
}

// fail ends the consumer: the program is told at its next poll.
func (g *GroupConsumer) fail(err *Error) {
	if g.fatal == nil {
		g.fatal = err
	}
}

// prepare looks the topics up, and where they end if that is where to stop.
func (g *GroupConsumer) prepare(now int64, eff *GroupEffects) {
	t := &g.lookup
	switch {
	case t.known:
		g.driveAsks(now, eff)
		g.prepared = len(g.asks) == 0
	case now >= t.deadline:
		g.fail(g.read.gaveUp(t.last, "the metadata"))
	case t.asked:
		at(&eff.ConsumerEffects, t.deadline)
	case now >= t.askAt:
		t.asked = true
		eff.Metadata = append(eff.Metadata, g.opts.Topics...)
		at(&eff.ConsumerEffects, t.deadline)
	default:
		at(&eff.ConsumerEffects, t.askAt)
	}
}

func (g *GroupConsumer) metadata(now int64, a *MetadataAnswer) {
	if a.Response != nil {
		g.meta.merge(a.Response)
	}
	t := &g.lookup
	if t.known || !t.asked {
		return
	}
	t.asked = false
	if a.Err != nil {
		if Refused(a.Err.Reason) {
			g.fail(a.Err)
			return
		}
		t.last = a.Err
		t.tries++
		t.askAt = now + Backoff(g.rng, t.tries)
		return
	}
	for _, name := range g.opts.Topics {
		if g.meta.Topics[name] == nil {
			g.fail(TopicNotFound(name))
			return
		}
	}
	t.known = true
	if !g.opts.StopAtEnd {
		return
	}
	for _, name := range g.opts.Topics {
		for n := range g.meta.Topics[name].GetPartitions() {
			g.askEnd(now, TP{name, int32(n)})
		}
	}
}

// endAsk asks where a partition ends, on one of its replicas after the other.
type endAsk struct {
	TP
	token    uint64
	turn     int
	tries    int
	waiting  bool
	lateAt   int64
	askAt    int64
	deadline int64
	last     *Error
}

// ownAsks sets the tokens of this file's asks apart from those of the embedded consumer.
const ownAsks = uint64(1) << 63

func (g *GroupConsumer) askEnd(now int64, tp TP) {
	g.nextAsk++
	a := &endAsk{TP: tp, token: ownAsks | g.nextAsk, askAt: now, deadline: now + g.read.opts.TimeoutNs}
	g.asks[a.token] = a
}

func (g *GroupConsumer) askTokens() []uint64 {
	list := make([]uint64, 0, len(g.asks))
	for token := range g.asks {
		list = append(list, token)
	}
	slices.Sort(list)
	return list
}

func (g *GroupConsumer) driveAsks(now int64, eff *GroupEffects) {
	for _, token := range g.askTokens() {
		a := g.asks[token]
		if a.waiting && now >= a.lateAt {
			g.askFailed(now, a, &Error{Reason: ReasonTimeout, Message: "no answer"})
		}
		switch {
		case a.waiting:
			at(&eff.ConsumerEffects, a.lateAt)
		case now >= a.deadline:
			delete(g.asks, token)
			g.fail(g.read.gaveUp(a.last, fmt.Sprintf("the end of %s/%d", a.Topic, a.Partition)))
		case now < a.askAt:
			at(&eff.ConsumerEffects, a.askAt)
		default:
			g.sendAsk(now, a, eff)
		}
	}
}

func (g *GroupConsumer) sendAsk(now int64, a *endAsk, eff *GroupEffects) {
	t := g.meta.Topics[a.Topic]
	if t == nil || int(a.Partition) >= len(t.GetPartitions()) {
		// New, or deleted meanwhile: then the coordinator withdraws it.
		g.askFailed(now, a, &Error{Reason: reasonUnknownPartition, Message: "it is not known yet"})
		eff.Metadata = append(eff.Metadata, a.Topic)
		at(&eff.ConsumerEffects, a.askAt)
		return
	}
	nodes := replicaNodes(t.GetPartitions()[a.Partition])
	address := g.meta.Addresses[nodes[a.turn%len(nodes)]]
	if address == "" {
		g.askFailed(now, a, &Error{Reason: ReasonUnavailable, Message: fmt.Sprintf("node %d is not registered", nodes[a.turn%len(nodes)])})
		at(&eff.ConsumerEffects, max(a.askAt, now+1))
		return
	}
	a.waiting, a.lateAt = true, now+offsetsTimeout+fetchSlack
	eff.Offsets = append(eff.Offsets, OffsetsAsk{Token: a.token, Address: address, Request: &pb.ListOffsetsRequest{
		Partition: &pb.PartitionRef{Topic: a.Topic, TopicId: t.GetId(), Partition: a.Partition}, Consistency: g.opts.Consumer.Consistency, TimeoutMs: offsetsTimeout / 1e6}})
	at(&eff.ConsumerEffects, a.lateAt)
}

func (g *GroupConsumer) askFailed(now int64, a *endAsk, err *Error) {
	a.waiting, a.last = false, err
	a.turn++
	a.tries++
	a.askAt = now + Backoff(g.rng, a.tries)
}

func (g *GroupConsumer) endAnswer(now int64, answer *OffsetsAnswer) {
	a := g.asks[answer.Token]
	if answer.Err != nil {
		if Retriable(answer.Err.Reason) {
			g.askFailed(now, a, answer.Err)
			return
		}
		delete(g.asks, a.token)
		g.fail(answer.Err)
		return
	}
	delete(g.asks, a.token)
	end := answer.Response.GetHighWatermark()
	if !g.prepared {
		g.ends[a.TP] = end
		return
	}
	if p := g.part(a.TP); p != nil && p.resolving == a.token {
		p.resolving, p.position, p.marked = 0, end, end // committed soon: whoever reads on does so from here
		g.subscribe(now, p)
	}
}

func compareTP(a, b TP) int {
	if c := strings.Compare(a.Topic, b.Topic); c != 0 {
		return c
	}
	return int(a.Partition) - int(b.Partition)
}
