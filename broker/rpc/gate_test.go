package rpc

import (
	"slices"
	"testing"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/group"
	"lograft/broker/partition"
)

// gated is a desk with the internal topic, whose one broker runs a build that knows commands up to a version; raised makes it active.
func gated(t *testing.T, known uint32, raised bool) *desk {
	t.Helper()
	d := newDesk(t, 1)
	d.apply(cluster.EncodeRegisterBroker(cluster.RegisterBroker{RequestID: cluster.ID{11}, NodeID: 1, DirID: cluster.ID{1}, Version: cluster.SayKnown("v", known)}))
	d.apply(cluster.EncodeCreateTopic(cluster.CreateTopic{RequestID: cluster.ID{12}, Seed: cluster.ID{12}, Name: cluster.GroupsTopic, Partitions: 1, ReplicationFactor: 1}))
	if raised {
		d.apply(cluster.EncodeRaiseCommands(cluster.RaiseCommands{RequestID: cluster.ID{13}, To: known}))
	}
	return d
}

// asked is the one command that the session proposed, nil if it did not.
func (d *desk) asked(eff *Effects) []byte {
	d.t.Helper()
	if len(eff.Requests) == 0 {
		return nil
	}
	if len(eff.Requests) > 1 || eff.Requests[0].Op != partition.OpPropose {
		d.t.Fatalf("requests %+v, want one command", eff.Requests)
	}
	return slices.Clone(eff.Requests[0].Command)
}

// While a broker may run an older build a static member is refused, others are not: with NOT_READY where the cluster is about to allow it,
// with CLUSTER_NOT_UPGRADED where a broker is in the way.
func TestStaticMemberIsGated(t *testing.T) {
	for _, c := range []struct {
		name     string
		known    uint32
		raised   bool
		instance string
		reason   string
	}{
		{"upgraded", cluster.CommandsKnown, true, "i", ""},
		{"about to be", cluster.CommandsKnown, false, "i", string(partition.ReasonNotReady)},
		{"an older build", 1, false, "i", string(cluster.ReasonNotUpgraded)},
		{"an older build, a member that is not static", 1, false, "", ""},
	} {
		d := gated(t, c.known, c.raised)
		d.s = NewGroupMember(d.env())
		eff := d.step(&Event{Message: &pb.JoinRequest{Message: &pb.JoinRequest_Member{Member: &pb.Membership{Group: "g", MemberId: make([]byte, 16), Topics: []string{"t"}, InstanceId: c.instance}}}})
		if c.reason == "" {
			if d.asked(eff) == nil {
				t.Errorf("%s: nothing is proposed: %+v", c.name, eff.Send)
			}
			continue
		}
		if len(eff.Send) != 1 || eff.Send[0].(*pb.JoinResponse).GetError().GetReason() != c.reason || d.asked(eff) != nil {
			t.Errorf("%s: %+v, want %s", c.name, eff.Send, c.reason)
		}
	}
}

// A quota of connections waits while the cluster is about to allow it, and is refused where a broker is in the way; one without is not.
func TestConnectionQuotaIsGated(t *testing.T) {
	put := func(d *desk, connections uint64) *Effects {
		d.s = NewPutQuota(d.env())
		return d.step(&Event{Message: &pb.PutQuotaRequest{Quota: &pb.Quota{Principal: "p", Requests: 1, Connections: connections}}})
	}
	d := gated(t, 1, false)
	if eff := put(d, 3); eff.Err == nil || eff.Err.Reason != partition.Reason(cluster.ReasonNotUpgraded) {
		t.Errorf("an older build: %+v", eff)
	}
	if eff := put(d, 0); d.asked(eff) == nil {
		t.Errorf("a quota that older builds know: %+v", eff)
	}
	d = gated(t, cluster.CommandsKnown, false)
	if eff := put(d, 3); eff.Err != nil || eff.Timer == 0 || d.asked(eff) != nil {
		t.Fatalf("about to be allowed: %+v", eff)
	}
	d.apply(cluster.EncodeRaiseCommands(cluster.RaiseCommands{RequestID: cluster.ID{13}, To: cluster.CommandsKnown}))
	d.now += leaderPollNs
	if eff := d.step(&Event{Timer: true}); d.asked(eff) == nil {
		t.Errorf("allowed meanwhile: %+v", eff)
	}
	d = gated(t, cluster.CommandsKnown, false)
	put(d, 3)
	d.now += leaderWaitNs
	if eff := d.step(&Event{Timer: true}); eff.Err == nil || eff.Err.Reason != partition.ReasonNotReady {
		t.Errorf("never allowed: %+v", eff)
	}
}

// The leader epoch of a commit is left out, and the offset is committed, until every broker's build knows of it.
func TestCommitEpochIsGated(t *testing.T) {
	for _, c := range []struct {
		known uint32
		epoch int32
	}{{cluster.CommandsKnown, 7}, {cluster.FeatureCommitEpochs.Since() - 1, 0}} {
		d := gated(t, c.known, true)
		d.s = NewGroupMember(d.env())
		eff := d.step(&Event{Message: &pb.JoinRequest{Message: &pb.JoinRequest_Member{Member: &pb.Membership{Group: "g", MemberId: make([]byte, 16), Topics: []string{"t"}}}}})
		d.step(&Event{Reply: &partition.Reply{Token: eff.Requests[0].Token, Result: group.NewState().Apply(1, 1, (&group.Leave{Group: "g"}).Encode())}})
		offset := &pb.CommittedOffset{Topic: "t", TopicId: make([]byte, 16), Offset: 5, LeaderEpoch: 7}
		got := d.asked(d.step(&Event{Message: &pb.JoinRequest{Message: &pb.JoinRequest_Commit{Commit: &pb.OffsetCommit{CorrelationId: 1, Generation: 1, Offsets: []*pb.CommittedOffset{offset}}}}}))
		want := group.Commit{RequestID: [16]byte{1}, Group: "g", Generation: 1, Offsets: []group.TopicOffset{{TP: group.TP{Topic: "t"}, Offset: 5, Epoch: c.epoch}}}
		if !slices.Equal(got, want.Encode()) {
			t.Errorf("known %d: command %x, want %x", c.known, got, want.Encode())
		}
	}
}
