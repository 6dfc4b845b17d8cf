package rpc

import (
	"fmt"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/group"
	"lograft/broker/partition"
)

// Bounds of a member's stream.
const (
	memberPendingMax = 64 // requests without an answer
	memberCommandNs  = int64(5e9)
)

// GroupMember is a member's stream. What it does is proposed as commands; assignments come from a watch at the coordinator, which is
// in the replica that leads the group's state. The stream ends when that replica leads no more: the client finds the new one.
type GroupMember struct {
	call
	group   partition.GroupID
	name    string
	member  group.ID
	joining bool
	joined  bool
	pending map[uint64]memberAsk // by token
}

// memberAsk is what an answer of the replica is about.
type memberAsk struct {
	what   memberWhat
	number uint64 // of a heartbeat, or the correlation id of a commit
}

type memberWhat uint8

const (
	askJoin memberWhat = iota
	askWatch
	askBeat
	askCommit
	askAcknowledge
	askLeave
)

// NewGroupMember begins a stream; its messages are *pb.JoinRequest.
func NewGroupMember(env *Env) *GroupMember {
	return &GroupMember{call: call{env: env}, pending: map[uint64]memberAsk{}}
}

// Full implements Session.
func (s *GroupMember) Full() bool { return s.joining || len(s.pending) >= memberPendingMax }

// Step implements Session.
func (s *GroupMember) Step(now int64, ev *Event, eff *Effects) {
	switch {
	case ev.Message != nil:
		s.message(now, ev.Message.(*pb.JoinRequest), eff)
	case ev.Reply != nil:
		s.reply(ev.Reply, eff)
	case ev.Closed:
		eff.Done = true
	}
}

func (s *GroupMember) end(err *partition.Error, eff *Effects) {
	eff.Send = append(eff.Send, &pb.JoinResponse{Message: &pb.JoinResponse_Error{Error: toError(s.env.Dir, err)}})
	eff.Done = true
}

func (s *GroupMember) propose(now int64, command []byte, a memberAsk, eff *Effects) {
	s.pending[s.ask(eff, partition.Request{Group: s.group, Op: partition.OpPropose, Command: command, Deadline: now + memberCommandNs})] = a
}

func (s *GroupMember) query(q any, a memberAsk, eff *Effects) {
	s.pending[s.ask(eff, partition.Request{Group: s.group, Op: partition.OpAsk, Ask: q})] = a
}

func (s *GroupMember) message(now int64, m *pb.JoinRequest, eff *Effects) {
	if j := m.GetMember(); j != nil || !s.joined {
		if s.joined || j == nil {
			s.end(invalid("a stream begins with one membership, and has no other"), eff)
			return
		}
		s.join(now, j, eff)
		return
	}
	switch x := m.GetMessage().(type) {
	case *pb.JoinRequest_Heartbeat:
		s.query(group.Beat{Group: s.name, Member: s.member}, memberAsk{what: askBeat, number: x.Heartbeat.GetNumber()}, eff)
	case *pb.JoinRequest_Acknowledgement:
		c := group.Acknowledge{RequestID: s.env.Random(), Group: s.name, Member: s.member, Generation: x.Acknowledgement.GetGeneration()}
		for _, p := range x.Acknowledgement.GetOwned() {
			c.Owned = append(c.Owned, group.TP{Topic: p.GetTopic(), Partition: p.GetPartition()})
		}
		s.propose(now, c.Encode(), memberAsk{what: askAcknowledge}, eff)
	case *pb.JoinRequest_Commit:
		offsets, err := toOffsets(x.Commit.GetOffsets())
		if err != nil {
			s.committed(x.Commit.GetCorrelationId(), err, eff)
			return
		}
		if gate(s.env.Dir, cluster.FeatureCommitEpochs) != nil {
			for i := range offsets {
				offsets[i].Epoch = 0 // the offsets count without them
			}
		}
		c := group.Commit{RequestID: s.env.Random(), Group: s.name, Member: s.member, Generation: x.Commit.GetGeneration(), Offsets: offsets}
		s.propose(now, c.Encode(), memberAsk{what: askCommit, number: x.Commit.GetCorrelationId()}, eff)
	case *pb.JoinRequest_Departure:
		s.propose(now, (&group.Leave{RequestID: s.env.Random(), Group: s.name, Member: s.member}).Encode(), memberAsk{what: askLeave}, eff)
	default:
		s.end(invalid("an empty message"), eff)
	}
}

// join proposes the membership, at the coordinator only: elsewhere nobody would hear the member.
func (s *GroupMember) join(now int64, m *pb.Membership, eff *Effects) {
	p, err := groupPartition(s.env.Dir, m.GetGroup())
	if err == nil && p == nil {
		err = &partition.Error{Reason: partition.ReasonUnknownGroup, Message: "groups are not known here yet: find the coordinator", RetryAfterMs: 20}
	}
	if err == nil && !hosts(s.env.Dir, p, s.env.Dir.NodeID()) {
		err = elsewhere(p)
	}
	if err == nil {
		if node, _, epoch := s.env.Dir.Leader(p.Group); node != s.env.Dir.NodeID() {
			err = &partition.Error{Reason: partition.ReasonNotLeader, LeaderNode: node, LeaderEpoch: epoch, Message: fmt.Sprintf("node %d coordinates group %q (0: none does now)", node, m.GetGroup())}
		}
	}
	if err == nil && len(m.GetMemberId()) != 16 {
		err = invalid("member id of %d bytes: want 16", len(m.GetMemberId()))
	}
	if err == nil && len(m.GetTopics()) > group.TopicsMax {
		err = invalid("%d topics: at most %d", len(m.GetTopics()), group.TopicsMax)
	}
	if err == nil && m.GetInstanceId() != "" {
		err = gate(s.env.Dir, cluster.FeatureStaticMembers)
	}
	if err != nil {
		s.end(err, eff)
		return
	}
	s.group, s.name, s.member, s.joining = p.Group, m.GetGroup(), group.ID(m.GetMemberId()), true
	c := group.Join{RequestID: s.env.Random(), Group: s.name, Member: s.member, ClientID: m.GetClientId(), SessionMs: m.GetSessionTimeoutMs(), PollMs: m.GetPollTimeoutMs(), Resume: m.GetResume(), InstanceID: m.GetInstanceId()}
	v := s.env.Dir.View()
	for _, name := range m.GetTopics() {
		t := group.Topic{Name: name} // without partitions if it is not known here yet: the coordinator looks again
		if x, ok := v.TopicByName(name); ok {
			t.ID, t.Partitions = x.ID, int32(len(x.Partitions))
		}
		c.Topics = append(c.Topics, t)
	}
	s.propose(now, c.Encode(), memberAsk{what: askJoin}, eff)
}

func (s *GroupMember) committed(correlation uint64, err *partition.Error, eff *Effects) {
	out := &pb.OffsetCommitted{CorrelationId: correlation}
	if err != nil {
		out.Error = toError(s.env.Dir, err)
	}
	eff.Send = append(eff.Send, &pb.JoinResponse{Message: &pb.JoinResponse_Committed{Committed: out}})
}

func (s *GroupMember) reply(r *partition.Reply, eff *Effects) {
	a, ok := s.pending[r.Token]
	if !ok {
		return
	}
	delete(s.pending, r.Token)
	if a.what == askWatch || a.what == askBeat {
		s.told(r, a, eff)
		return
	}
	err := r.Err
	if err == nil {
		x, derr := group.DecodeResult(r.Result)
		if err = groupError(&x); derr != nil {
			err = &partition.Error{Reason: partition.ReasonInternal, Message: derr.Error()}
		}
	}
	switch {
	case a.what == askCommit:
		s.committed(a.number, err, eff)
	case err != nil:
		s.end(err, eff)
	case a.what == askLeave:
		eff.Send = append(eff.Send, &pb.JoinResponse{Message: &pb.JoinResponse_Departed{Departed: &pb.Departure{}}})
		eff.Done = true
	case a.what == askJoin:
		s.joining, s.joined = false, true
		s.query(group.Watch{Group: s.name, Member: s.member}, memberAsk{what: askWatch}, eff)
	}
}

// told takes what the coordinator says of the member's assignment.
func (s *GroupMember) told(r *partition.Reply, a memberAsk, eff *Effects) {
	if r.Err != nil {
		s.end(r.Err, eff)
		return
	}
	x, _ := r.Answer.(*group.Assignment)
	switch {
	case x != nil && x.FencedBy != "":
		s.end(&partition.Error{Reason: partition.Reason(group.ReasonFencedInstance), Message: group.FencedMessage(s.name, x.FencedBy)}, eff)
	case x == nil || !x.Known:
		s.end(&partition.Error{Reason: partition.Reason(group.ReasonUnknownMember),
			Message: fmt.Sprintf("this member is not in group %q any more: it was not heard for its session timeout, or held a withdrawn partition back; join again", s.name)}, eff)
	case a.what == askBeat:
		eff.Send = append(eff.Send, &pb.JoinResponse{Message: &pb.JoinResponse_Heartbeat{Heartbeat: &pb.Heartbeat{Number: a.number}}})
	default:
		eff.Send = append(eff.Send, &pb.JoinResponse{Message: &pb.JoinResponse_Assignment{Assignment: toAssignment(x)}})
		s.query(group.Watch{Group: s.name, Member: s.member, Generation: x.Generation}, memberAsk{what: askWatch}, eff)
	}
}

func toAssignment(x *group.Assignment) *pb.Assignment {
	out := &pb.Assignment{Generation: x.Generation, Waiting: int32(x.Waiting)}
	for i := range x.Partitions {
		p := &x.Partitions[i]
		out.Partitions = append(out.Partitions, &pb.AssignedPartition{Topic: p.Topic, TopicId: p.TopicID[:], Partition: p.Partition, Since: p.Since, Committed: p.Committed, CommittedEpoch: p.Epoch})
	}
	return out
}
