package client

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"

	pb "lograft/api/lograft/v1"
	"lograft/client/core"
)

// GroupSummary is a group in a list.
type GroupSummary struct {
	Name        string
	State       string // empty, stable, rebalancing
	Members     int
	Generation  int64
	Coordinator uint64 // node; 0: none known
}

// Group describes a group.
type Group struct {
	Name        string
	State       string // empty, stable, rebalancing
	Generation  int64
	Coordinator uint64 // node; 0: none known
	Members     []GroupMember
	Partitions  []GroupLag // by topic and number
}

// GroupMember is a member of a group.
type GroupMember struct {
	ID           [16]byte
	ClientID     string
	InstanceID   string   // static members
	Topics       []string // subscribed
	Generation   int64    // the last one it was told
	Acknowledged int64    // the last one it acknowledged
	Partitions   []TopicPartition
	Waiting      int // partitions to come, when others have given them up
}

// GroupLag says how far a group has read a partition.
type GroupLag struct {
	Topic       string
	Partition   int32
	Committed   int64 // next offset to read; -1: none is committed
	CommittedAt int64 // append time of the commit, ms
	LogStart    int64
	End         int64 // next offset of the log; -1: not known, Problem says why
	Lag         int64 // records from the committed offset (without one: from the log start) to the end; -1: not known
	LagTime     time.Duration
	// LagTimeKnown is false if the age of the oldest unread record could not be read.
	LagTimeKnown bool
	Member       [16]byte // that holds it; zero: nobody
	Problem      string
}

// Reasons about groups.
const (
	ReasonGroupNotFound     = core.ReasonGroupNotFound
	ReasonGroupNotEmpty     = core.ReasonGroupNotEmpty
	ReasonFencedInstance    = core.ReasonFencedInstance
	ReasonNoCommittedOffset = core.ReasonNoCommittedOffset
)

// everywhere runs a call on one broker after the other, those that nobody named too, until one can answer: only some hold a replica
// of a group's state.
func everywhere[Out any](ctx context.Context, c *Client, do func(context.Context, *grpc.ClientConn) (Out, error)) (Out, *Error) {
	var zero Out
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	list := c.candidates()
	rng := newRand()
	for round := 1; ; round++ {
		var last *Error
		for _, address := range list {
			out, err := callOne(ctx, c, address, do)
			if err == nil {
				return out, nil
			}
			if last = err; !core.Retriable(err.Reason) {
				return zero, err
			}
		}
		meta, err := c.metadata(ctx, &pb.GetMetadataRequest{Consistency: pb.Consistency_CONSISTENCY_COMMITTED})
		if err != nil {
			return zero, err
		}
		for _, b := range meta.GetBrokers() {
			if !slices.Contains(list, b.GetClientAddress()) {
				list = append(list, b.GetClientAddress())
			}
		}
		select {
		case <-ctx.Done():
			return zero, last
		case <-time.After(time.Duration(core.Backoff(rng, round))):
		}
	}
}

// ListGroups gives all groups by name.
func (c *Client) ListGroups(ctx context.Context) ([]GroupSummary, error) {
	found := map[string]GroupSummary{}
	ask := func(ctx context.Context, conn *grpc.ClientConn) (*pb.ListGroupsResponse, error) {
		return pb.NewGroupServiceClient(conn).ListGroups(ctx, &pb.ListGroupsRequest{})
	}
	take := func(out *pb.ListGroupsResponse) {
		for _, g := range out.GetGroups() {
			found[g.GetName()] = GroupSummary{g.GetName(), g.GetState(), int(g.GetMembers()), g.GetGeneration(), g.GetCoordinator()}
		}
	}
	out, err := call(ctx, c, ask)
	if err != nil {
		return nil, err
	}
	take(out)
	if missing := out.GetMissing(); len(missing) > 0 {
		if err := c.listMissing(ctx, missing, ask, take); err != nil {
			return nil, err
		}
	}
	list := make([]GroupSummary, 0, len(found))
	for _, g := range found {
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b GroupSummary) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return list, nil
}

// listMissing asks the other brokers until every partition of the groups' state was answered for.
func (c *Client) listMissing(ctx context.Context, missing []int32, ask func(context.Context, *grpc.ClientConn) (*pb.ListGroupsResponse, error), take func(*pb.ListGroupsResponse)) error {
	meta, err := c.metadata(ctx, &pb.GetMetadataRequest{Consistency: pb.Consistency_CONSISTENCY_COMMITTED})
	if err != nil {
		return err
	}
	last := &Error{Reason: core.ReasonUnavailable, Message: "no broker is registered"}
	for _, b := range meta.GetBrokers() {
		out, err := callOne(ctx, c, b.GetClientAddress(), ask)
		if err != nil {
			last = err
			continue
		}
		take(out)
		missing = slices.DeleteFunc(missing, func(n int32) bool { return !slices.Contains(out.GetMissing(), n) })
		if len(missing) == 0 {
			return nil
		}
	}
	return &Error{Reason: core.ReasonUnavailable, Message: fmt.Sprintf("the groups of %d partitions of the groups' state could not be read: %s", len(missing), last.Message)}
}

// DescribeGroup describes a group: members, and how far each partition is read. The ends are confirmed with the partitions' leaders.
func (c *Client) DescribeGroup(ctx context.Context, name string) (Group, error) {
	out, err := everywhere(ctx, c, func(ctx context.Context, conn *grpc.ClientConn) (*pb.DescribeGroupResponse, error) {
		return pb.NewGroupServiceClient(conn).DescribeGroup(ctx, &pb.DescribeGroupRequest{Name: name})
	})
	if err != nil {
		return Group{}, err
	}
	g := Group{Name: out.GetName(), State: out.GetState(), Generation: out.GetGeneration(), Coordinator: out.GetCoordinator()}
	for _, m := range out.GetMembers() {
		x := GroupMember{ClientID: m.GetClientId(), InstanceID: m.GetInstanceId(), Topics: m.GetTopics(), Generation: m.GetGeneration(), Acknowledged: m.GetAcknowledged(), Waiting: int(m.GetWaiting())}
		copy(x.ID[:], m.GetMemberId())
		for _, p := range m.GetPartitions() {
			x.Partitions = append(x.Partitions, TopicPartition{Topic: p.GetTopic(), Partition: p.GetPartition()})
		}
		g.Members = append(g.Members, x)
	}
	for _, p := range out.GetPartitions() {
		x := GroupLag{Topic: p.GetTopic(), Partition: p.GetPartition(), Committed: p.GetCommitted(), CommittedAt: p.GetCommittedAt(), LogStart: p.GetLogStart(), End: p.GetEnd(), Lag: p.GetLag(), Problem: p.GetProblem()}
		copy(x.Member[:], p.GetMemberId())
		if ms := p.GetLagMs(); ms >= 0 {
			x.LagTime, x.LagTimeKnown = time.Duration(ms)*time.Millisecond, true
		}
		if x.End < 0 {
			c.fillLag(ctx, &x)
		}
		g.Partitions = append(g.Partitions, x)
	}
	return g, nil
}

// fillLag asks for the end of a partition of which the broker that described the group holds no replica.
func (c *Client) fillLag(ctx context.Context, x *GroupLag) {
	o, err := c.partitionOffsets(ctx, x.Topic, x.Partition)
	if err != nil {
		x.Problem = err.Message
		return
	}
	x.LogStart, x.End, x.Problem = o.LogStart, o.HighWatermark, ""
	if x.Lag = max(x.End-max(x.Committed, x.LogStart), 0); x.Lag == 0 {
		x.LagTimeKnown = true
	}
}

// partitionOffsets asks the brokers that hold a replica of a partition where it begins and ends.
func (c *Client) partitionOffsets(ctx context.Context, topic string, partition int32) (Offsets, *Error) {
	meta, err := c.metadata(ctx, &pb.GetMetadataRequest{Topics: []string{topic}})
	if err != nil {
		return Offsets{}, err
	}
	if len(meta.GetTopics()) == 0 {
		return Offsets{}, core.TopicNotFound(topic)
	}
	t := meta.GetTopics()[0]
	if partition < 0 || int(partition) >= len(t.GetPartitions()) {
		return Offsets{}, &Error{Reason: core.ReasonInvalid, Message: fmt.Sprintf("topic %q has partitions 0 to %d: there is no partition %d", topic, len(t.GetPartitions())-1, partition)}
	}
	in := &pb.ListOffsetsRequest{Partition: &pb.PartitionRef{Topic: topic, TopicId: t.GetId(), Partition: partition}}
	last := &Error{Reason: core.ReasonUnavailable, Message: fmt.Sprintf("no broker with a replica of %s/%d is registered", topic, partition)}
	for _, r := range t.GetPartitions()[partition].GetReplicas() {
		for _, b := range meta.GetBrokers() {
			if b.GetNode() != r.GetNode() {
				continue
			}
			out, err := callOne(ctx, c, b.GetClientAddress(), func(ctx context.Context, conn *grpc.ClientConn) (*pb.ListOffsetsResponse, error) {
				return pb.NewFetchServiceClient(conn).ListOffsets(ctx, in)
			})
			if err == nil {
				return Offsets{out.GetLogStart(), out.GetHighWatermark(), out.GetHighConfirmed(), out.GetServedBy()}, nil
			}
			last = err
		}
	}
	return Offsets{}, last
}

// GroupOffset is an offset for a group to go on from.
type GroupOffset struct {
	Topic     string
	Partition int32
	Offset    int64
}

// ResolvePosition is the offset that a position means in a partition now.
func (c *Client) ResolvePosition(ctx context.Context, topic string, partition int32, p Position) (int64, error) {
	if p.From == core.AtTime {
		return c.OffsetAtTime(ctx, topic, partition, p.Offset)
	}
	o, err := c.partitionOffsets(ctx, topic, partition)
	if err != nil {
		return 0, err
	}
	at := p.Resolve(o.LogStart, o.HighWatermark)
	if at < o.LogStart || at > o.HighWatermark {
		return 0, &Error{Reason: core.ReasonOutOfRange, LogStart: o.LogStart, HighWatermark: o.HighWatermark,
			Message: fmt.Sprintf("%s/%d holds offsets [%d, %d), not %d: choose one of these, start or end", topic, partition, o.LogStart, o.HighWatermark, at)}
	}
	return at, nil
}

// SeekGroup sets committed offsets of a group without members, all of them or none; it makes the group if there is none.
func (c *Client) SeekGroup(ctx context.Context, group string, offsets []GroupOffset) error {
	in := &pb.SeekGroupRequest{Group: group, RequestId: requestID()}
	var names []string
	for _, o := range offsets {
		if !slices.Contains(names, o.Topic) {
			names = append(names, o.Topic)
		}
	}
	meta, err := c.metadata(ctx, &pb.GetMetadataRequest{Topics: names})
	if err != nil {
		return err
	}
	for _, o := range offsets {
		i := slices.IndexFunc(meta.GetTopics(), func(t *pb.Topic) bool { return t.GetName() == o.Topic })
		if i < 0 {
			return core.TopicNotFound(o.Topic)
		}
		in.Offsets = append(in.Offsets, &pb.CommittedOffset{Topic: o.Topic, TopicId: meta.GetTopics()[i].GetId(), Partition: o.Partition, Offset: o.Offset})
	}
	if _, err := call(ctx, c, func(ctx context.Context, conn *grpc.ClientConn) (*pb.FindCoordinatorResponse, error) { // makes sure that groups can be kept
		return pb.NewGroupServiceClient(conn).FindCoordinator(ctx, &pb.FindCoordinatorRequest{Group: group})
	}); err != nil {
		return err
	}
	if _, err := everywhere(ctx, c, func(ctx context.Context, conn *grpc.ClientConn) (*pb.SeekGroupResponse, error) {
		return pb.NewGroupServiceClient(conn).SeekGroup(ctx, in)
	}); err != nil {
		return err
	}
	return nil
}

// DeleteGroup deletes a group without members and its committed offsets.
func (c *Client) DeleteGroup(ctx context.Context, name string) error {
	in := &pb.DeleteGroupRequest{Name: name, RequestId: requestID()}
	if _, err := everywhere(ctx, c, func(ctx context.Context, conn *grpc.ClientConn) (*pb.DeleteGroupResponse, error) {
		return pb.NewGroupServiceClient(conn).DeleteGroup(ctx, in)
	}); err != nil {
		return err
	}
	return nil
}
