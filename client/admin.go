package client

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	pb "lograft/api/lograft/v1"
	"lograft/client/core"
)

// backoffConfig of connections: a broker that restarts is found again soon.
var backoffConfig = backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}

// TopicSpec says what topic to create.
type TopicSpec struct {
	Name              string
	Partitions        int32 // 0: 1
	ReplicationFactor int32 // 0: 3, or as many as there are brokers
	Config            []ConfigEntry
}

// ConfigEntry is a topic setting.
type ConfigEntry struct{ Key, Value string }

// Setting is an effective setting of a topic.
type Setting struct {
	Key, Value, Default string
	About               string // for people, with the bounds
	Given               bool   // somebody set it; else Value is the default
}

// Topic describes a topic.
type Topic struct {
	Name       string
	ID         [16]byte
	Config     []Setting   // every setting, by key
	Partitions []Partition // by number
}

// Partition describes a partition.
type Partition struct {
	Number      int32
	Leader      uint64   // node; 0: none known to the broker that answered
	LeaderEpoch int32    // Raft term
	Replicas    []uint64 // nodes of those that vote, the preferred leader first
	ReplicaIDs  []uint64 // by the same index: a replica that comes in the place of another one on the same node has another id
	Wanted      []uint64 // while the partition is on the move: nodes of those that shall vote
}

// Broker describes a registered broker.
type Broker struct {
	Node                                    uint64
	ClientAddr, PeerAddr, HTTPAddr, Version string
	Commands                                uint32 // newest version of commands that its build carries out
	Rack                                    string // empty: none
	Away                                    bool   // the metadata group's leader has not reached it for a while: it gets no replicas
}

// Cluster describes a cluster.
type Cluster struct {
	Name           string
	ID             [16]byte
	Brokers        []Broker // by node
	Topics         []Topic  // by name
	MetadataLeader uint64   // node; 0: none known
	MetadataNodes  []uint64 // that vote in the metadata group
	MetadataIDs    []uint64 // ids of their replicas, by the same index
	AnsweredBy     uint64
	Commands       uint32 // active version of commands: what needs a newer one is refused until every broker knows it
}

// ReplicaState is what a broker knows of a replica that it holds.
type ReplicaState struct {
	Topic                               string // empty: the metadata group
	Partition                           int32
	Node, ReplicaID                     uint64
	Leader                              uint64 // node; 0: none known
	LeaderEpoch                         int32
	LogStart, HighWatermark, NextOffset int64
	SizeBytes                           int64
	LastIndex, AppliedIndex             uint64
	Match                               map[uint64]uint64 // leader only: replica id -> highest index known to be there
	Problem                             string            // why it does not serve; empty if it does
	Faulty                              []FaultyRange     // held but damaged there: under repair from other replicas
	Repaired                            uint64            // entries repaired from other replicas since the broker's start
}

// FaultyRange is a range of entries of a replica's log whose bytes are damaged.
type FaultyRange struct {
	From, To uint64 // indexes, inclusive; To 0: unknown
	Segment  uint64 // base index: the file's name
	Position int64  // in that file
	Reason   string
}

func fromTopic(t *pb.Topic) Topic {
	out := Topic{Name: t.GetName()}
	copy(out.ID[:], t.GetId())
	for _, c := range t.GetConfig() {
		out.Config = append(out.Config, Setting{c.GetKey(), c.GetValue(), c.GetDefaultValue(), c.GetAbout(), c.GetGiven()})
	}
	for _, p := range t.GetPartitions() {
		q := Partition{Number: p.GetNumber(), Leader: p.GetLeaderNode(), LeaderEpoch: p.GetLeaderEpoch()}
		for _, r := range p.GetReplicas() {
			q.Replicas, q.ReplicaIDs = append(q.Replicas, r.GetNode()), append(q.ReplicaIDs, r.GetId())
		}
		for _, r := range p.GetWanted() {
			q.Wanted = append(q.Wanted, r.GetNode())
		}
		out.Partitions = append(out.Partitions, q)
	}
	return out
}

// CreateTopic creates a topic; a try that got no answer is made again with the same request id, so it has one effect.
func (c *Client) CreateTopic(ctx context.Context, spec TopicSpec) (Topic, error) {
	in := &pb.CreateTopicRequest{Name: spec.Name, Partitions: spec.Partitions, ReplicationFactor: spec.ReplicationFactor, RequestId: requestID()}
	for _, e := range spec.Config {
		in.Config = append(in.Config, &pb.ConfigEntry{Key: e.Key, Value: e.Value})
	}
	out, err := call(ctx, c, func(ctx context.Context, conn *grpc.ClientConn) (*pb.CreateTopicResponse, error) {
		return pb.NewTopicServiceClient(conn).CreateTopic(ctx, in)
	})
	if err != nil {
		return Topic{}, err
	}
	return fromTopic(out.GetTopic()), nil
}

func requestID() []byte {
	rng := newRand()
	b := make([]byte, 0, 16)
	for range 2 {
		for v, i := rng.Uint64(), 0; i < 8; i++ {
			b = append(b, byte(v>>(8*i)))
		}
	}
	return b
}

// DeleteTopic deletes a topic.
func (c *Client) DeleteTopic(ctx context.Context, name string) error {
	in := &pb.DeleteTopicRequest{Name: name, RequestId: requestID()}
	_, err := call(ctx, c, func(ctx context.Context, conn *grpc.ClientConn) (*pb.DeleteTopicResponse, error) {
		return pb.NewTopicServiceClient(conn).DeleteTopic(ctx, in)
	})
	if err != nil {
		return err
	}
	return nil
}

// ListTopics gives all topics by name.
func (c *Client) ListTopics(ctx context.Context) ([]Topic, error) {
	out, err := call(ctx, c, func(ctx context.Context, conn *grpc.ClientConn) (*pb.ListTopicsResponse, error) {
		return pb.NewTopicServiceClient(conn).ListTopics(ctx, &pb.ListTopicsRequest{})
	})
	if err != nil {
		return nil, err
	}
	var topics []Topic
	for _, t := range out.GetTopics() {
		topics = append(topics, fromTopic(t))
	}
	return topics, nil
}

// DescribeTopic describes one topic.
func (c *Client) DescribeTopic(ctx context.Context, name string) (Topic, error) {
	out, err := call(ctx, c, func(ctx context.Context, conn *grpc.ClientConn) (*pb.DescribeTopicResponse, error) {
		return pb.NewTopicServiceClient(conn).DescribeTopic(ctx, &pb.DescribeTopicRequest{Name: name})
	})
	if err != nil {
		return Topic{}, err
	}
	return fromTopic(out.GetTopic()), nil
}

// DescribeCluster describes brokers and topics as one broker has applied them: it answers without a majority too.
func (c *Client) DescribeCluster(ctx context.Context) (Cluster, error) {
	out, err := c.metadata(ctx, &pb.GetMetadataRequest{AllTopics: true, Consistency: pb.Consistency_CONSISTENCY_COMMITTED})
	if err != nil {
		return Cluster{}, err
	}
	d := Cluster{Name: out.GetClusterName(), MetadataLeader: out.GetMetadataLeader(), AnsweredBy: out.GetAnsweredBy(), Commands: out.GetCommands()}
	copy(d.ID[:], out.GetClusterId())
	for _, b := range out.GetBrokers() {
		d.Brokers = append(d.Brokers, Broker{b.GetNode(), b.GetClientAddress(), b.GetPeerAddress(), b.GetHttpAddress(), b.GetVersion(), b.GetCommands(), b.GetRack(), b.GetAway()})
	}
	for _, t := range out.GetTopics() {
		d.Topics = append(d.Topics, fromTopic(t))
	}
	for _, r := range out.GetMetadataReplicas() {
		d.MetadataNodes, d.MetadataIDs = append(d.MetadataNodes, r.GetNode()), append(d.MetadataIDs, r.GetId())
	}
	return d, nil
}

func (c *Client) metadata(ctx context.Context, in *pb.GetMetadataRequest) (*pb.GetMetadataResponse, *Error) {
	out, err := call(ctx, c, func(ctx context.Context, conn *grpc.ClientConn) (*pb.GetMetadataResponse, error) {
		return pb.NewClusterServiceClient(conn).GetMetadata(ctx, in)
	})
	if err == nil {
		c.learn(out.GetBrokers())
	}
	return out, err
}

// DescribeReplicas asks one broker what it knows of the replicas it holds; topic empty: all, the metadata group's too.
func (c *Client) DescribeReplicas(ctx context.Context, address, topic string) ([]ReplicaState, error) {
	out, err := callOne(ctx, c, address, func(ctx context.Context, conn *grpc.ClientConn) (*pb.DescribeReplicasResponse, error) {
		return pb.NewClusterServiceClient(conn).DescribeReplicas(ctx, &pb.DescribeReplicasRequest{Topic: topic})
	})
	if err != nil {
		return nil, err
	}
	var states []ReplicaState
	for _, r := range out.GetReplicas() {
		states = append(states, ReplicaState{Topic: r.GetTopic(), Partition: r.GetPartition(), Node: r.GetNode(), ReplicaID: r.GetReplicaId(), Leader: r.GetLeaderNode(), LeaderEpoch: r.GetLeaderEpoch(),
			LogStart: r.GetLogStart(), HighWatermark: r.GetHighWatermark(), NextOffset: r.GetNextOffset(), SizeBytes: r.GetSizeBytes(),
			LastIndex: r.GetLastIndex(), AppliedIndex: r.GetAppliedIndex(), Match: r.GetMatch(), Problem: r.GetProblem(),
			Faulty: fromFaulty(r.GetFaulty()), Repaired: r.GetRepairedEntries()})
	}
	return states, nil
}

// Offsets is where a partition begins and ends.
type Offsets struct {
	LogStart, HighWatermark int64
	Confirmed               bool   // the end was confirmed with the leader
	Node                    uint64 // that answered
}

// ListOffsets asks any broker that holds a replica of the partition.
func (c *Client) ListOffsets(ctx context.Context, topic string, partition int32, consistency Consistency) (Offsets, error) {
	t, err := c.DescribeTopic(ctx, topic)
	if err != nil {
		return Offsets{}, err
	}
	if partition < 0 || int(partition) >= len(t.Partitions) {
		return Offsets{}, &Error{Reason: core.ReasonInvalid, Message: fmt.Sprintf("topic %q has partitions 0 to %d: there is no partition %d", topic, len(t.Partitions)-1, partition)}
	}
	in := &pb.ListOffsetsRequest{Partition: &pb.PartitionRef{Topic: topic, TopicId: t.ID[:], Partition: partition}, Consistency: consistency.wire()}
	out, cerr := call(ctx, c, func(ctx context.Context, conn *grpc.ClientConn) (*pb.ListOffsetsResponse, error) {
		return pb.NewFetchServiceClient(conn).ListOffsets(ctx, in)
	})
	if cerr != nil {
		return Offsets{}, cerr
	}
	return Offsets{out.GetLogStart(), out.GetHighWatermark(), out.GetHighConfirmed(), out.GetServedBy()}, nil
}
