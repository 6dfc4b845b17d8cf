package client

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	pb "lograft/api/lograft/v1"
	"lograft/client/core"
)

// callLeader runs a unary call on the leader of a partition: each time it is refused for a reason that may pass, the leader is looked up
// again and the next broker asked, until the client's timeout. The reference carries the topic's id, so that a topic that is created again
// meanwhile is not confused with the one that was meant.
func callLeader[Out any](ctx context.Context, c *Client, topic string, partition int32, do func(context.Context, *grpc.ClientConn, *pb.PartitionRef) (Out, error)) (Out, *Error) {
	var zero Out
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	rng := newRand()
	var id []byte
	var last *Error
	for try := 0; ; try++ {
		t, addresses, err := c.locate(ctx, topic, partition)
		switch {
		case err != nil && !core.Retriable(err.Reason):
			return zero, err
		case err != nil:
			last = err
		case id != nil && string(id) != string(t.GetId()):
			return zero, &Error{Reason: core.ReasonTopicNotFound, Message: fmt.Sprintf("topic %q was deleted and created again", topic)}
		case len(addresses) > 0:
			id = t.GetId()
			ref := &pb.PartitionRef{Topic: topic, TopicId: id, Partition: partition}
			out, err := callOne(ctx, c, addresses[try%len(addresses)], func(ctx context.Context, conn *grpc.ClientConn) (Out, error) { return do(ctx, conn, ref) })
			if err == nil || !core.Retriable(err.Reason) {
				return out, err
			}
			last = err
		}
		select {
		case <-ctx.Done():
			if last == nil {
				last = &Error{Reason: core.ReasonUnavailable, Message: fmt.Sprintf("no broker of %s/%d is registered: see broker cluster info", topic, partition)}
			}
			return zero, last
		case <-time.After(time.Duration(core.Backoff(rng, try+1))):
		}
	}
}

// locate finds the addresses of a partition's replicas, the leader's first as far as it is known.
func (c *Client) locate(ctx context.Context, topic string, partition int32) (*pb.Topic, []string, *Error) {
	m, err := c.metadata(ctx, &pb.GetMetadataRequest{Topics: []string{topic}})
	if err != nil {
		return nil, nil, err
	}
	if len(m.GetTopics()) == 0 {
		return nil, nil, core.TopicNotFound(topic)
	}
	t := m.GetTopics()[0]
	if n := len(t.GetPartitions()); partition < 0 || int(partition) >= n {
		return nil, nil, &Error{Reason: core.ReasonInvalid, Message: fmt.Sprintf("topic %q has partitions 0 to %d: there is no partition %d", topic, n-1, partition)}
	}
	p := t.GetPartitions()[partition]
	address := map[uint64]string{}
	for _, b := range m.GetBrokers() {
		address[b.GetNode()] = b.GetClientAddress()
	}
	var list []string
	if a := address[p.GetLeaderNode()]; a != "" {
		list = append(list, a)
	}
	for _, r := range p.GetReplicas() {
		if a := address[r.GetNode()]; a != "" && r.GetNode() != p.GetLeaderNode() {
			list = append(list, a)
		}
	}
	return t, list, nil
}

// Trimmed is what is left of a partition after a trim.
type Trimmed struct {
	Partition               int32
	LogStart, HighWatermark int64
}

// TrimAll makes TrimPartition give up everything that a partition holds.
const TrimAll int64 = -1

// TrimPartition gives up the records before an offset, on every replica and for good. It returns when no crash can bring them back. An
// offset that was given up already is no error; one beyond the end is refused with OFFSET_OUT_OF_RANGE.
func (c *Client) TrimPartition(ctx context.Context, topic string, partition int32, before int64) (Trimmed, error) {
	out, err := callLeader(ctx, c, topic, partition, func(ctx context.Context, conn *grpc.ClientConn, ref *pb.PartitionRef) (*pb.TrimPartitionResponse, error) {
		return pb.NewTopicServiceClient(conn).TrimPartition(ctx, &pb.TrimPartitionRequest{Partition: ref, BeforeOffset: before})
	})
	if err != nil {
		return Trimmed{}, err
	}
	return Trimmed{partition, out.GetLogStart(), out.GetHighWatermark()}, nil
}

// OffsetAtTime is the offset of the first record that was appended at or after a time (ms since 1970), the high watermark if there is none.
func (c *Client) OffsetAtTime(ctx context.Context, topic string, partition int32, ms int64) (int64, error) {
	out, err := callLeader(ctx, c, topic, partition, func(ctx context.Context, conn *grpc.ClientConn, ref *pb.PartitionRef) (*pb.ListOffsetsResponse, error) {
		return pb.NewFetchServiceClient(conn).ListOffsets(ctx, &pb.ListOffsetsRequest{Partition: ref, AtTime: &ms})
	})
	if err != nil {
		return 0, err
	}
	return out.GetOffset(), nil
}

// EpochEnd is where a leader epoch ended.
type EpochEnd struct {
	LeaderEpoch int32 // the highest one at or below the one asked for; -1: it began before the log start
	EndOffset   int64 // the offset after its last record; -1 with LeaderEpoch -1
}

// OffsetForLeaderEpoch tells where a leader epoch ended: what a reader got of that epoch from there on was never committed.
func (c *Client) OffsetForLeaderEpoch(ctx context.Context, topic string, partition, epoch int32) (EpochEnd, error) {
	out, err := callLeader(ctx, c, topic, partition, func(ctx context.Context, conn *grpc.ClientConn, ref *pb.PartitionRef) (*pb.OffsetForLeaderEpochResponse, error) {
		return pb.NewFetchServiceClient(conn).OffsetForLeaderEpoch(ctx, &pb.OffsetForLeaderEpochRequest{Partition: ref, LeaderEpoch: epoch})
	})
	if err != nil {
		return EpochEnd{}, err
	}
	return EpochEnd{out.GetLeaderEpoch(), out.GetEndOffset()}, nil
}
