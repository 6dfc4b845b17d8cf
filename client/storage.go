package client

import (
	"context"

	"google.golang.org/grpc"

	pb "lograft/api/lograft/v1"
)

// ReplicaScrub is how far the check of a replica's files has come.
type ReplicaScrub struct {
	Topic           string // empty: the metadata group
	Partition       int32
	Node, ReplicaID uint64
	Pass            uint64 // checks begun since the broker's start
	Running         bool
	Bytes, Total    int64         // of this check, or the last one
	Found           uint64        // damaged ranges that checks found since the start
	Repaired        uint64        // entries repaired from other replicas since the start
	Faulty          []FaultyRange // damaged now
	Segments        []SealedSegment
	Problem         string // why it was not checked, or what contradicts itself; empty if all is well
}

// SealedSegment is a segment that never changes any more: replicas that hold the same one hold the same bytes.
type SealedSegment struct {
	Base, Last uint64 // indexes
	Bytes      int64  // of the file
	Hash       [32]byte
}

// Scrub asks one broker how far the check of its replicas is, of one topic or of all and the metadata group; start begins one first.
func (c *Client) Scrub(ctx context.Context, address, topic string, start bool) ([]ReplicaScrub, error) {
	out, err := callOne(ctx, c, address, func(ctx context.Context, conn *grpc.ClientConn) (*pb.ScrubResponse, error) {
		return pb.NewStorageServiceClient(conn).Scrub(ctx, &pb.ScrubRequest{Topic: topic, Start: start})
	})
	if err != nil {
		return nil, err
	}
	var all []ReplicaScrub
	for _, r := range out.GetReplicas() {
		s := ReplicaScrub{Topic: r.GetTopic(), Partition: r.GetPartition(), Node: r.GetNode(), ReplicaID: r.GetReplicaId(), Pass: r.GetPass(), Running: r.GetRunning(),
			Bytes: r.GetBytes(), Total: r.GetTotalBytes(), Found: r.GetFound(), Repaired: r.GetRepairedEntries(), Faulty: fromFaulty(r.GetFaulty()), Problem: r.GetProblem()}
		for _, f := range r.GetSegments() {
			x := SealedSegment{Base: f.GetBaseIndex(), Last: f.GetLastIndex(), Bytes: f.GetBytes()}
			copy(x.Hash[:], f.GetHash())
			s.Segments = append(s.Segments, x)
		}
		all = append(all, s)
	}
	return all, nil
}

func fromFaulty(in []*pb.FaultyRange) (out []FaultyRange) {
	for _, f := range in {
		out = append(out, FaultyRange{f.GetFromIndex(), f.GetToIndex(), f.GetSegment(), f.GetPosition(), f.GetReason()})
	}
	return out
}

// Recovery is what one replica of a partition without a leader would have to give up, or gave up.
type Recovery struct {
	Node, ReplicaID uint64
	Refilling       bool   // its log was lost: what no other replica holds is given up
	LastIndex       uint64 // the last entry that it holds
	From, To        int64  // offsets [From, To) are given up because entries among them are damaged; equal: none
	Done            bool
	Problem         string // why nothing was given up here
	// LastTerm and NextOffset are the end of the replica's log: the one with the highest (LastTerm, LastIndex) holds most, and none of what was
	// acknowledged from NextOffset on.
	LastTerm             uint64
	LogStart, NextOffset int64
	Gone                 []uint64 // replica ids in the group's configuration that never come back
	Stranded             bool     // a majority of the voters is among them
	Leader               uint64   // node, 0: none was heard lately
	Connected            []uint64 // of RecoverRequest.GoneNodes, those that the broker is connected with: they are not gone
	Voter                bool     // it has a vote in the group's configuration, as far as it has applied that
	DropTo               uint64   // the entries up to this one are given up because of damage; 0: none
}

// RecoverRequest says what to recover.
type RecoverRequest struct {
	Topic     string
	Partition int32
	Metadata  bool     // the metadata group, in place of a partition
	GoneNodes []uint64 // that never come back
	Accept    bool     // give up what is shown without it
	VotesOnly bool     // with Accept: only what keeps the replica from voting, because another one goes on without those that are gone
}

// Recover asks one broker what its replica of a partition without a leader would have to give up so that one can be elected; Accept gives
// it up. The caller asks every broker that hosts a replica, and where a majority of the voters is gone for good, has the one accept that holds
// most, after the others (VotesOnly).
func (c *Client) Recover(ctx context.Context, address string, q RecoverRequest) (Recovery, error) {
	out, err := callOne(ctx, c, address, func(ctx context.Context, conn *grpc.ClientConn) (*pb.RecoverResponse, error) {
		return pb.NewStorageServiceClient(conn).Recover(ctx, &pb.RecoverRequest{Topic: q.Topic, Partition: q.Partition, AcceptLoss: q.Accept, GoneNodes: q.GoneNodes,
			Metadata: q.Metadata, VotesOnly: q.VotesOnly})
	})
	if err != nil {
		return Recovery{}, err
	}
	return Recovery{Node: out.GetNode(), ReplicaID: out.GetReplicaId(), Refilling: out.GetRefilling(), LastIndex: out.GetLastIndex(), From: out.GetFromOffset(),
		To: out.GetToOffset(), Done: out.GetDone(), Problem: out.GetProblem(), LastTerm: out.GetLastTerm(), LogStart: out.GetLogStart(), NextOffset: out.GetNextOffset(),
		Gone: out.GetGoneReplicas(), Stranded: out.GetStranded(), Leader: out.GetLeaderNode(), Connected: out.GetConnectedNodes(), Voter: out.GetVoter(), DropTo: out.GetDropTo()}, nil
}
