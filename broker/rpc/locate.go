package rpc

import (
	"fmt"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// locate finds a partition in the metadata that this broker has applied. Not finding it proves nothing yet: the metadata may be
// behind (GetMetadata is where an unknown topic is certainly unknown), so the reason is retriable.
func locate(dir Directory, ref *pb.PartitionRef) (*cluster.Topic, *cluster.Partition, *partition.Error) {
	v := dir.View()
	var t *cluster.Topic
	var ok bool
	switch id := ref.GetTopicId(); len(id) {
	case 0:
		t, ok = v.TopicByName(ref.GetTopic())
	case 16:
		t, ok = v.TopicByID(cluster.ID(id))
	default:
		return nil, nil, invalid("topic id of %d bytes: want 16", len(id))
	}
	if !ok {
		return nil, nil, &partition.Error{Reason: partition.ReasonUnknownGroup, RetryAfterMs: 20,
			Message: fmt.Sprintf("topic %q (id %x) is not known here: it is new, deleted or was created again; refresh metadata", ref.GetTopic(), ref.GetTopicId())}
	}
	n := ref.GetPartition()
	if n < 0 || int(n) >= len(t.Partitions) {
		return nil, nil, invalid("topic %q has partitions 0 to %d, not partition %d", t.Name, len(t.Partitions)-1, n)
	}
	return t, &t.Partitions[n], nil
}

// toError is a replica's error as clients get it.
func toError(dir Directory, e *partition.Error) *pb.Error {
	out := &pb.Error{Reason: string(e.Reason), Message: e.Message, Outcome: pb.Outcome_OUTCOME_FAILED, LeaderNode: e.LeaderNode, LeaderEpoch: e.LeaderEpoch,
		LogStart: e.LogStart, HighWatermark: e.HighWatermark, RetryAfterMs: e.RetryAfterMs}
	if e.Outcome == partition.OutcomeUnknown {
		out.Outcome = pb.Outcome_OUTCOME_UNKNOWN
	}
	if b, ok := dir.View().BrokerByID(e.LeaderNode); ok {
		out.LeaderAddress = b.ClientAddr
	}
	return out
}

// A session token is: group 16 | applied index u64 big-endian.
const sessionBytes = 24

func sessionToken(g partition.GroupID, applied uint64) []byte {
	b := append(make([]byte, 0, sessionBytes), g[:]...)
	for s := 56; s >= 0; s -= 8 {
		b = append(b, byte(applied>>s))
	}
	return b
}

func parseSession(g partition.GroupID, b []byte) (applied uint64, err *partition.Error) {
	if len(b) != sessionBytes {
		return 0, invalid("session token of %d bytes: want %d, from an answer of this partition", len(b), sessionBytes)
	}
	if partition.GroupID(b) != g {
		return 0, invalid("the session token is of another partition, or the topic was created again")
	}
	for _, c := range b[16:] {
		applied = applied<<8 | uint64(c)
	}
	return applied, nil
}

// hosts reports whether a broker holds a replica of the partition.
func hosts(dir Directory, p *cluster.Partition, node uint64) bool {
	_, ok := dir.View().Local(p, node)
	return ok
}
