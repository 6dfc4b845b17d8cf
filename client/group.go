package client

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"

	pb "lograft/api/lograft/v1"
	"lograft/client/core"
	"lograft/internal/buffers"
)

// Reset says where a group begins a partition that has no committed offset, or one that is not in the log any more.
type Reset = core.Reset

// The resets.
const (
	ResetStart = core.ResetStart
	ResetEnd   = core.ResetEnd
	ResetNone  = core.ResetNone
)

// GroupOptions of a GroupConsumer. Zero values take the defaults named.
type GroupOptions struct {
	Group    string
	Topics   []string
	ClientID string // for people; host name and process id
	// InstanceID makes the member static (Kafka's group.instance.id): Close does not leave the group, and a consumer that is started with
	// the same id within SessionTimeout goes on with the same partitions, without a rebalance. If the one before still runs, it is fenced:
	// its Poll fails with FENCED_INSTANCE_ID. Empty: a member that leaves when it is closed.
	InstanceID     string
	SessionTimeout time.Duration // a member that is not heard for so long loses its partitions, 10 s
	PollTimeout    time.Duration // a program that does not poll for so long leaves the group, 5 min
	CommitEvery    time.Duration // 1 s
	Reset          Reset
	NoCommit       bool // commit nothing
	// ManualMark: the program says with Mark what it is done with. Else a batch counts as done when Poll is called again.
	ManualMark bool
	// StopAtEnd ends when everything assigned is read up to the ends as they were when the consumer began.
	StopAtEnd   bool
	Consistency Consistency
	FetchBytes  int           // 1 MiB
	BufferBytes int           // 32 MiB
	Timeout     time.Duration // a partition that was not readable for so long, or no coordinator reachable, is an error, 30 s
}

// TopicPartition names a partition of a topic.
type TopicPartition = core.TP

// GroupConsumer is a member of a group: Poll gives the records of the partitions that the group assigned to it. Each record of the
// group's topics is given to some member at least once: after a rebalance, from the last committed offset on. Poll is called by one
// goroutine.
type GroupConsumer struct {
	c      *Client
	opts   GroupOptions
	core   *core.GroupConsumer
	events *inbox[core.GroupEvent]
	cancel context.CancelFunc
	done   chan struct{}

	reader  *reader                             // owned by run
	members map[uint64]*stream[*pb.JoinRequest] // owned by run

	polling    bool // owned by the caller of Poll
	deliveries chan core.Delivery
	left       chan struct{}

	mu      sync.Mutex
	numbers uint64
	commits map[uint64]chan *core.Error
	owned   []TopicPartition
	stalled core.Stall
	memory  *buffers.Pool
}

// NewGroupConsumer joins a group; Close leaves it.
func (c *Client) NewGroupConsumer(o GroupOptions) (*GroupConsumer, error) {
	if o.ClientID == "" {
		host, _ := os.Hostname()
		o.ClientID = fmt.Sprintf("%s-%d", host, os.Getpid())
	}
	switch {
	case o.Group == "":
		return nil, &Error{Reason: core.ReasonInvalid, Message: "a group consumer needs a group"}
	case len(o.Topics) == 0:
		return nil, &Error{Reason: core.ReasonInvalid, Message: "a group consumer needs a topic"}
	}
	ctx, cancel := context.WithCancel(context.Background())
	k := &GroupConsumer{c: c, opts: o, events: newInbox[core.GroupEvent](), cancel: cancel, done: make(chan struct{}),
		members: map[uint64]*stream[*pb.JoinRequest]{}, memory: buffers.NewPool(releasedBytesMax),
		deliveries: make(chan core.Delivery, 1), left: make(chan struct{}), commits: map[uint64]chan *core.Error{},
		core: core.NewGroupConsumer(core.GroupOptions{Group: o.Group, Topics: o.Topics, ClientID: o.ClientID, InstanceID: o.InstanceID, SessionNs: int64(o.SessionTimeout), PollNs: int64(o.PollTimeout),
			CommitNs: int64(o.CommitEvery), NoCommit: o.NoCommit, AutoMark: !o.ManualMark, Reset: o.Reset, StopAtEnd: o.StopAtEnd,
			Consumer: core.ConsumerOptions{Consistency: o.Consistency.wire(), FetchBytes: o.FetchBytes, BufferBytes: o.BufferBytes, TimeoutNs: int64(o.Timeout), Rand: newRand()}})}
	k.reader = newReader(c, o.Consistency, func(ev core.ConsumerEvent) { k.events.put(core.GroupEvent{Consumer: &ev}) })
	k.events.put(core.GroupEvent{Begin: true})
	go k.run(ctx)
	return k, nil
}

// Poll waits for the next records of an assigned partition, or for partitions to end. over says that nothing more will come. An error
// is ctx's, or why this consumer can't go on.
func (k *GroupConsumer) Poll(ctx context.Context) (b *Batch, ended []End, over bool, err error) {
	k.wish()
	select {
	case <-ctx.Done():
		return nil, nil, false, ctx.Err()
	case d := <-k.deliveries:
		return k.take(&d)
	}
}

// TryPoll is Poll without waiting: ok is false if there is nothing at the moment.
func (k *GroupConsumer) TryPoll() (b *Batch, ended []End, over, ok bool, err error) {
	k.wish()
	select {
	case d := <-k.deliveries:
		b, ended, over, err = k.take(&d)
		return b, ended, over, true, err
	default:
		return nil, nil, false, false, nil
	}
}

func (k *GroupConsumer) wish() {
	if !k.polling {
		k.polling = true
		k.events.put(core.GroupEvent{Poll: true})
	}
}

func (k *GroupConsumer) take(d *core.Delivery) (b *Batch, ended []End, over bool, err error) {
	k.polling = false
	if d.Err != nil {
		return nil, nil, false, d.Err
	}
	if d.Fetched != nil {
		f := &fetched{Fetched: *d.Fetched, memory: k.memory}
		f.decode()
		b, err = f.batch, f.err
	}
	return b, d.Ended, d.Over, err
}

// Mark says that the program is done with a partition's records below offset: they are committed soon. It is for ManualMark.
func (k *GroupConsumer) Mark(topic string, partition int32, offset int64) {
	k.events.put(core.GroupEvent{Mark: &core.Mark{TP: core.TP{Topic: topic, Partition: partition}, Offset: offset}})
}

// Commit commits everything marked so far and waits for it.
func (k *GroupConsumer) Commit(ctx context.Context) error {
	answer := make(chan *core.Error, 1)
	k.mu.Lock()
	k.numbers++
	n := k.numbers
	k.commits[n] = answer
	k.mu.Unlock()
	k.events.put(core.GroupEvent{Commit: n})
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-k.done:
		return &Error{Reason: core.ReasonClosed, Message: "the consumer is closed"}
	case err := <-answer:
		if err != nil {
			return err
		}
		return nil
	}
}

// Assigned are the partitions that this member works on now, in order.
func (k *GroupConsumer) Assigned() []TopicPartition {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.owned
}

// Close commits what is marked, leaves the group and ends the consumer. It takes at most a few seconds, and no longer than ctx.
func (k *GroupConsumer) Close(ctx context.Context) {
	k.events.put(core.GroupEvent{Leave: true})
	select {
	case <-ctx.Done():
	case <-k.left:
	}
	k.cancel()
	<-k.done
	k.reader.wait()
}

func (k *GroupConsumer) run(ctx context.Context) {
	defer close(k.done)
	var eff core.GroupEffects
	loop(ctx, k.c, k.events, core.GroupEvent{Timer: true}, func(ev *core.GroupEvent) int64 {
		k.step(ctx, ev, &eff)
		return eff.Timer
	})
	k.reader.close()
	for _, s := range k.members {
		s.close()
	}
}

func (k *GroupConsumer) step(ctx context.Context, ev *core.GroupEvent, eff *core.GroupEffects) {
	if ev.Consumer != nil {
		k.reader.before(ev.Consumer)
	}
	if ev.Broken != nil {
		k.closeMember(ev.Broken.Stream)
	}
	k.core.Step(k.c.now(), ev, eff)
	k.reader.effects(ctx, &eff.ConsumerEffects)
	if eff.Close != 0 {
		k.closeMember(eff.Close)
	}
	if eff.Open != nil {
		k.openMember(ctx, eff.Open)
	}
	for i := range eff.Join {
		if s := k.members[eff.Join[i].Stream]; s != nil {
			s.out.put(eff.Join[i].Message)
		}
	}
	if eff.Find != nil {
		k.find(ctx, *eff.Find)
	}
	k.mu.Lock()
	for _, c := range eff.Commits {
		k.commits[c.Number] <- c.Err
		delete(k.commits, c.Number)
	}
	k.owned, k.stalled = k.core.Owned(), k.core.Stalled()
	k.mu.Unlock()
	if eff.Deliver != nil {
		k.deliveries <- *eff.Deliver // there is room: it answers the one poll
	}
	if eff.Left {
		close(k.left)
	}
}

func (k *GroupConsumer) closeMember(id uint64) {
	if s := k.members[id]; s != nil {
		delete(k.members, id)
		s.close()
	}
}

func (k *GroupConsumer) openMember(ctx context.Context, o *core.StreamOpen) {
	id := o.Stream
	k.members[id] = openStream(ctx, k.c, o.Address,
		func(ctx context.Context, conn *grpc.ClientConn) (bidi[*pb.JoinRequest, *pb.JoinResponse], error) {
			return pb.NewGroupServiceClient(conn).Join(ctx)
		},
		func(m *pb.JoinResponse) {
			k.events.put(core.GroupEvent{Message: &core.StreamMessage{Stream: id, Message: m}})
		},
		func(err error) { k.events.put(core.GroupEvent{Broken: &core.StreamBroken{Stream: id, Err: err}}) })
}

// findTimeout bounds one broker's answer; the core asks another one then.
const findTimeout = 3 * time.Second

func (k *GroupConsumer) find(ctx context.Context, f core.Find) {
	k.reader.calls.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, findTimeout)
		defer cancel()
		ask := func(ctx context.Context, conn *grpc.ClientConn) (*pb.FindCoordinatorResponse, error) {
			return pb.NewGroupServiceClient(conn).FindCoordinator(ctx, &pb.FindCoordinatorRequest{Group: k.opts.Group})
		}
		var out *pb.FindCoordinatorResponse
		var err *core.Error
		if f.Address == "" {
			out, err = call(ctx, k.c, ask)
		} else {
			out, err = callOne(ctx, k.c, f.Address, ask)
		}
		k.events.put(core.GroupEvent{Found: &core.FoundAnswer{Token: f.Token, Address: out.GetAddress(), Err: err}})
	})
}
