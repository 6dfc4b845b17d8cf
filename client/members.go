package client

import (
	"context"

	"google.golang.org/grpc"

	pb "lograft/api/lograft/v1"
)

// Members says who is in the cluster and what is under way there.
type Members struct {
	Brokers     []MemberBroker    // by node
	Moving      []MovingPartition // by topic and number
	Rebalancing bool
	// MetadataVoters and MetadataLearners are nodes; MetadataMoving: they are wanted and not in effect yet.
	MetadataVoters, MetadataLearners []uint64
	MetadataMoving                   bool
}

// MemberBroker is a broker's place in the cluster.
type MemberBroker struct {
	Node       uint64
	PeerAddr   string
	Registered bool   // false: added, and not started yet
	Leaving    bool   // it is being decommissioned
	Replicas   int    // partitions that shall have a replica there
	Held       int    // partitions that may have files there, those on the move counted too
	Preferred  int    // partitions that it shall lead
	Directory  []byte // id of the data directory that is registered; empty: none is
}

// MovingPartition is a partition whose replicas are on the move.
type MovingPartition struct {
	Topic     string
	Partition int32
	From, To  []uint64 // nodes of the replicas that vote, and of those that shall
}

// membershipCall runs a unary call of MembershipService; a try that got no answer is made again with the same request id.
func membershipCall[Out any](ctx context.Context, c *Client, do func(context.Context, pb.MembershipServiceClient) (Out, error)) (Out, error) {
	out, err := call(ctx, c, func(ctx context.Context, conn *grpc.ClientConn) (Out, error) {
		return do(ctx, pb.NewMembershipServiceClient(conn))
	})
	if err != nil {
		return out, err
	}
	return out, nil
}

// AddBroker gives a node a place in the cluster, so that it may register when it is started. peerAddr is where others reach its peer port.
func (c *Client) AddBroker(ctx context.Context, node uint64, peerAddr string) error {
	in := &pb.AddBrokerRequest{Node: node, PeerAddress: peerAddr, RequestId: requestID()}
	_, err := membershipCall(ctx, c, func(ctx context.Context, k pb.MembershipServiceClient) (*pb.AddBrokerResponse, error) {
		return k.AddBroker(ctx, in)
	})
	return err
}

// RemoveBroker takes a node's place in the cluster. It must hold no replica of a partition any more.
func (c *Client) RemoveBroker(ctx context.Context, node uint64) error {
	in := &pb.RemoveBrokerRequest{Node: node, RequestId: requestID()}
	_, err := membershipCall(ctx, c, func(ctx context.Context, k pb.MembershipServiceClient) (*pb.RemoveBrokerResponse, error) {
		return k.RemoveBroker(ctx, in)
	})
	return err
}

// LostDirectory is a node and the id of the data directory that it had when it was decided that it never comes back; empty: it had none.
type LostDirectory struct {
	Node      uint64
	Directory []byte
}

// ForfeitBrokers gives up the data directories of nodes that never come back, although groups lose their majority with them: from then on
// these directories are refused everywhere. A node that is connected, and one that has another directory by now, are refused. Recover brings
// the groups back one by one.
func (c *Client) ForfeitBrokers(ctx context.Context, lost []LostDirectory) error {
	in := &pb.ForfeitBrokersRequest{RequestId: requestID()}
	for _, l := range lost {
		in.Nodes, in.Directories = append(in.Nodes, l.Node), append(in.Directories, l.Directory)
	}
	_, err := membershipCall(ctx, c, func(ctx context.Context, k pb.MembershipServiceClient) (*pb.ForfeitBrokersResponse, error) {
		return k.ForfeitBrokers(ctx, in)
	})
	return err
}

// DecommissionBroker has everything moved away from a node, whether it runs or not; with cancel it may keep and take replicas again. It
// returns when that is decided: the moves go on by themselves, see DescribeMembers.
func (c *Client) DecommissionBroker(ctx context.Context, node uint64, cancel bool) error {
	in := &pb.DecommissionBrokerRequest{Node: node, Cancel: cancel, RequestId: requestID()}
	_, err := membershipCall(ctx, c, func(ctx context.Context, k pb.MembershipServiceClient) (*pb.DecommissionBrokerResponse, error) {
		return k.DecommissionBroker(ctx, in)
	})
	return err
}

// Rebalance has replicas, then preferred leaders, evened out over the brokers. It returns when that is decided.
func (c *Client) Rebalance(ctx context.Context) error {
	in := &pb.RebalanceRequest{RequestId: requestID()}
	_, err := membershipCall(ctx, c, func(ctx context.Context, k pb.MembershipServiceClient) (*pb.RebalanceResponse, error) {
		return k.Rebalance(ctx, in)
	})
	return err
}

// ReassignPartition says on which nodes a partition's replicas shall be, the preferred leader first. It returns when that is decided.
func (c *Client) ReassignPartition(ctx context.Context, topic string, partition int32, nodes []uint64) error {
	in := &pb.ReassignPartitionRequest{Topic: topic, Partition: partition, Nodes: nodes, RequestId: requestID()}
	_, err := membershipCall(ctx, c, func(ctx context.Context, k pb.MembershipServiceClient) (*pb.ReassignPartitionResponse, error) {
		return k.ReassignPartition(ctx, in)
	})
	return err
}

// TransferLeader hands the leadership of a partition to its replica on a node, and returns when it leads.
func (c *Client) TransferLeader(ctx context.Context, topic string, partition int32, node uint64) error {
	_, err := callLeader(ctx, c, topic, partition, func(ctx context.Context, conn *grpc.ClientConn, ref *pb.PartitionRef) (*pb.TransferLeaderResponse, error) {
		return pb.NewMembershipServiceClient(conn).TransferLeader(ctx, &pb.TransferLeaderRequest{Partition: ref, Node: node})
	})
	if err != nil {
		return err
	}
	return nil
}

// DescribeMembers says who is in the cluster and what is on the move: certainly, or as far as one broker knows (Committed), which works
// without a majority too.
func (c *Client) DescribeMembers(ctx context.Context, consistency Consistency) (Members, error) {
	in := &pb.DescribeMembersRequest{Consistency: consistency.wire()}
	out, err := membershipCall(ctx, c, func(ctx context.Context, k pb.MembershipServiceClient) (*pb.DescribeMembersResponse, error) {
		return k.DescribeMembers(ctx, in)
	})
	if err != nil {
		return Members{}, err
	}
	m := Members{Rebalancing: out.GetRebalancing(), MetadataVoters: out.GetMetadataVoters(), MetadataLearners: out.GetMetadataLearners(), MetadataMoving: out.GetMetadataMoving()}
	for _, b := range out.GetBrokers() {
		m.Brokers = append(m.Brokers, MemberBroker{Node: b.GetNode(), PeerAddr: b.GetPeerAddress(), Registered: b.GetRegistered(), Leaving: b.GetLeaving(),
			Directory: b.GetDirectory(), Replicas: int(b.GetReplicas()), Held: int(b.GetHeld()), Preferred: int(b.GetPreferred())})
	}
	for _, p := range out.GetMoving() {
		m.Moving = append(m.Moving, MovingPartition{Topic: p.GetTopic(), Partition: p.GetPartition(), From: p.GetFrom(), To: p.GetTo()})
	}
	return m, nil
}
