package client

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	pb "lograft/api/lograft/v1"
)

// AlterTopic sets settings of a topic and puts others back to their defaults; all or nothing. The partitions follow when their
// leaders have heard of it, usually within a second.
func (c *Client) AlterTopic(ctx context.Context, name string, set []ConfigEntry, unset []string) (Topic, error) {
	in := &pb.AlterTopicRequest{Name: name, Unset: unset, RequestId: requestID()}
	for _, e := range set {
		in.Set = append(in.Set, &pb.ConfigEntry{Key: e.Key, Value: e.Value})
	}
	out, err := call(ctx, c, func(ctx context.Context, conn *grpc.ClientConn) (*pb.AlterTopicResponse, error) {
		return pb.NewTopicServiceClient(conn).AlterTopic(ctx, in)
	})
	if err != nil {
		return Topic{}, err
	}
	return fromTopic(out.GetTopic()), nil
}

// AddPartitions gives a topic more partitions, so that it has this many. Keys go to other partitions from then on.
func (c *Client) AddPartitions(ctx context.Context, name string, partitions int32) (Topic, error) {
	in := &pb.AddPartitionsRequest{Name: name, Partitions: partitions, RequestId: requestID()}
	out, err := call(ctx, c, func(ctx context.Context, conn *grpc.ClientConn) (*pb.AddPartitionsResponse, error) {
		return pb.NewTopicServiceClient(conn).AddPartitions(ctx, in)
	})
	if err != nil {
		return Topic{}, err
	}
	return fromTopic(out.GetTopic()), nil
}

// replicasTimeout bounds one broker's answer about its replicas: one that is paused must not hold up what the others say.
const replicasTimeout = 1500 * time.Millisecond

// TopicReplicas asks every broker what it knows of its replicas of a topic, by partition and node. Brokers that do not answer are
// left out.
func (c *Client) TopicReplicas(ctx context.Context, topic string) ([]ReplicaState, error) {
	cluster, err := c.DescribeCluster(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, replicasTimeout)
	defer cancel()
	var mu sync.Mutex
	var states []ReplicaState
	var asked sync.WaitGroup
	for _, b := range cluster.Brokers {
		asked.Go(func() {
			if found, err := c.DescribeReplicas(ctx, b.ClientAddr, topic); err == nil {
				mu.Lock()
				states = append(states, found...)
				mu.Unlock()
			}
		})
	}
	asked.Wait()
	slices.SortFunc(states, func(a, b ReplicaState) int {
		if d := int(a.Partition) - int(b.Partition); d != 0 {
			return d
		}
		return int(a.Node) - int(b.Node)
	})
	return states, nil
}
