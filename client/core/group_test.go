package core

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	pb "lograft/api/lograft/v1"
	"lograft/record"
)

// desk is a group consumer whose brokers are the test.
type desk struct {
	t      *testing.T
	g      *GroupConsumer
	now    int64
	stream uint64
	said   []*pb.JoinRequest // to the coordinator, not looked at yet
	finds  int
	got    []Delivery
	left   bool
	fetch  map[TP]*pb.FetchStreamRequest // waiting
	offs   []OffsetsAsk
	epochs []EpochAsk
	epoch  int32 // of the records that are given, 0: 1
}

var deskTopic = &pb.Topic{Name: "t", Id: slices.Repeat([]byte{7}, 16), Partitions: []*pb.Partition{
	{Number: 0, Replicas: []*pb.Replica{{Id: 1, Node: 1}}}, {Number: 1, Replicas: []*pb.Replica{{Id: 2, Node: 1}}}, {Number: 2, Replicas: []*pb.Replica{{Id: 3, Node: 1}}}}}

func newDesk(t *testing.T, o GroupOptions) *desk {
	o.Group, o.Topics, o.Consumer.Rand = "g", []string{"t"}, rand.New(rand.NewPCG(1, 2))
	d := &desk{t: t, g: NewGroupConsumer(o), now: 1e9, fetch: map[TP]*pb.FetchStreamRequest{}}
	d.step(&GroupEvent{Begin: true})
	return d
}

// step steps once and answers what is the same for every test: metadata and who the coordinator is.
func (d *desk) step(ev *GroupEvent) {
	d.t.Helper()
	var eff GroupEffects
	d.now++
	d.g.Step(d.now, ev, &eff)
	for _, s := range eff.Send {
		r := s.Message.GetRequest().GetPartition()
		d.fetch[TP{r.GetTopic(), r.GetPartition()}] = s.Message
	}
	d.offs = append(d.offs, eff.Offsets...)
	d.epochs = append(d.epochs, eff.Epochs...)
	if eff.Open != nil {
		d.stream = eff.Open.Stream
	}
	for _, j := range eff.Join {
		if j.Stream == d.stream {
			d.said = append(d.said, j.Message)
		}
	}
	if eff.Deliver != nil {
		d.got = append(d.got, *eff.Deliver)
	}
	d.left = d.left || eff.Left
	if len(eff.Metadata) > 0 {
		d.step(&GroupEvent{Consumer: &ConsumerEvent{Metadata: &MetadataAnswer{Topics: eff.Metadata, Response: &pb.GetMetadataResponse{
			Brokers: []*pb.Broker{{Node: 1, ClientAddress: "one:1"}}, Topics: []*pb.Topic{deskTopic}}}}})
	}
	if eff.Find != nil {
		d.finds++
		d.step(&GroupEvent{Found: &FoundAnswer{Token: eff.Find.Token, Address: "one:1"}})
	}
}

// pass lets time pass in steps of 100 ms; heartbeats are answered if alive.
func (d *desk) pass(ms int64, alive bool) {
	for range ms / 100 {
		d.now += 100e6
		d.step(&GroupEvent{Timer: true})
		for _, m := range d.said {
			if h := m.GetHeartbeat(); h != nil && alive {
				d.hear(&pb.JoinResponse{Message: &pb.JoinResponse_Heartbeat{Heartbeat: h}})
			}
		}
	}
}

func (d *desk) hear(m *pb.JoinResponse) {
	d.step(&GroupEvent{Message: &StreamMessage{Stream: d.stream, Message: m}})
}

// assign tells the member a generation with partitions "number:since:committed".
func (d *desk) assign(generation int64, waiting int32, list ...string) {
	d.t.Helper()
	a := &pb.Assignment{Generation: generation, Waiting: waiting}
	for _, x := range list {
		p := &pb.AssignedPartition{Topic: "t", TopicId: deskTopic.Id}
		if _, err := fmt.Sscanf(x, "%d:%d:%d", &p.Partition, &p.Since, &p.Committed); err != nil {
			d.t.Fatal(err)
		}
		a.Partitions = append(a.Partitions, p)
	}
	d.hear(&pb.JoinResponse{Message: &pb.JoinResponse_Assignment{Assignment: a}})
}

// records answers the waiting fetch of a partition with count records from where it asked.
func (d *desk) records(partition int32, count int) {
	d.t.Helper()
	q := d.fetch[TP{"t", partition}]
	if q == nil {
		d.t.Fatalf("nobody fetches partition %d", partition)
	}
	delete(d.fetch, TP{"t", partition})
	b := record.NewBuilder(record.BuilderOptions{BytesMax: 1 << 20, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1})
	for i := range count {
		if err := b.Append(record.Record{Value: []byte(fmt.Sprint(i))}); err != nil {
			d.t.Fatal(err)
		}
	}
	raw, err := b.Build()
	if err != nil {
		d.t.Fatal(err)
	}
	batch := record.Batch(raw)
	batch.Stamp(q.GetRequest().GetOffset(), max(d.epoch, 1))
	d.step(&GroupEvent{Consumer: &ConsumerEvent{Answer: &pb.FetchStreamResponse{CorrelationId: q.GetCorrelationId(),
		Response: &pb.FetchResponse{Batches: [][]byte{batch}, NextOffset: batch.NextOffset(), HighWatermark: batch.NextOffset()}}}})
}

// take is what was said to the coordinator since the last look, heartbeats left out, in words.
func (d *desk) take() string {
	out := ""
	for _, m := range d.said {
		switch x := m.GetMessage().(type) {
		case *pb.JoinRequest_Member:
			out += fmt.Sprintf("join resume=%t; ", x.Member.GetResume())
			if i := x.Member.GetInstanceId(); i != "" {
				out = strings.TrimSuffix(out, "; ") + " as " + i + "; "
			}
		case *pb.JoinRequest_Acknowledgement:
			out += fmt.Sprintf("ack %d:", x.Acknowledgement.GetGeneration())
			for _, p := range x.Acknowledgement.GetOwned() {
				out += fmt.Sprintf(" %d", p.GetPartition())
			}
			out += "; "
		case *pb.JoinRequest_Commit:
			out += fmt.Sprintf("commit %d:", x.Commit.GetGeneration())
			for _, o := range x.Commit.GetOffsets() {
				out += fmt.Sprintf(" %d=%d", o.GetPartition(), o.GetOffset())
				if e := o.GetLeaderEpoch(); e > 1 { // that of most tests says nothing
					out += fmt.Sprintf("@%d", e)
				}
			}
			out += "; "
			d.said = nil
			d.hear(&pb.JoinResponse{Message: &pb.JoinResponse_Committed{Committed: &pb.OffsetCommitted{CorrelationId: x.Commit.GetCorrelationId()}}})
			return out + d.take()
		case *pb.JoinRequest_Departure:
			out += "leave; "
		}
	}
	d.said = nil
	return out
}

func (d *desk) want(what, want string) {
	d.t.Helper()
	if got := d.take(); got != want {
		d.t.Errorf("%s: said %q, want %q", what, got, want)
	}
}

func (d *desk) poll() { d.step(&GroupEvent{Poll: true}) }

// What a member has in hand of a withdrawn partition is finished and committed before the partition is acknowledged; what it has not
// been given yet is not read any more.
func TestGroupGivesBackAfterCommit(t *testing.T) {
	d := newDesk(t, GroupOptions{AutoMark: true})
	d.want("begin", "join resume=false; ")
	d.assign(1, 0, "0:1:10", "1:1:-1")
	d.want("assigned", "ack 1: 0 1; ")
	d.poll()
	d.records(0, 5)
	if len(d.got) != 1 || d.got[0].Fetched.From != 10 {
		t.Fatalf("delivered %+v", d.got)
	}
	d.records(0, 5) // fetched ahead
	d.assign(2, 0, "1:1:-1")
	d.want("withdrawn while the program works", "")
	d.poll() // it is done with [10, 15)
	d.want("and when it is done", "commit 2: 0=15; ack 2: 1; ")
	if len(d.got) != 1 {
		t.Errorf("a withdrawn partition was delivered: %+v", d.got[1:])
	}
}

// A partition that is withdrawn and given back before it was acknowledged goes on where the program was.
func TestGroupKeepsWhatComesBack(t *testing.T) {
	d := newDesk(t, GroupOptions{AutoMark: true})
	d.assign(1, 0, "0:1:10")
	d.poll()
	d.records(0, 5)
	d.assign(2, 0)
	d.assign(3, 0, "0:1:10")
	if q := d.fetch[TP{"t", 0}]; q == nil || q.GetRequest().GetOffset() != 15 {
		t.Fatalf("goes on at %v, want 15", q.GetRequest())
	}
	d.assign(4, 0, "0:4:12") // it was another's meanwhile
	if q := d.fetch[TP{"t", 0}]; q.GetRequest().GetOffset() != 12 {
		t.Errorf("goes on at %v, want 12", q.GetRequest())
	}
}

// A member that the group does not know any more forgets everything and joins again as another one.
func TestGroupUnknownMember(t *testing.T) {
	d := newDesk(t, GroupOptions{AutoMark: true})
	first := d.said[0].GetMember().GetMemberId()
	d.assign(1, 0, "0:1:10")
	d.poll()
	d.records(0, 5)
	d.take()
	d.hear(&pb.JoinResponse{Message: &pb.JoinResponse_Error{Error: &pb.Error{Reason: ReasonUnknownMember}}})
	d.poll()
	if m := d.said[0].GetMember(); m.GetResume() || slices.Equal(m.GetMemberId(), first) {
		t.Errorf("joined again as %v", m)
	}
	d.want("after the loss", "join resume=false; ")
	if len(d.g.Owned()) != 0 {
		t.Errorf("owns %v", d.g.Owned())
	}
}

// A coordinator that falls silent is left for another one within half a session; the membership is resumed. A member that hears nothing
// for a whole session gives its program nothing any more.
func TestGroupSilentCoordinator(t *testing.T) {
	d := newDesk(t, GroupOptions{AutoMark: true})
	d.assign(1, 0, "0:1:10")
	d.pass(20_000, true)
	if d.finds != 1 {
		t.Fatalf("%d coordinators were looked for while one answered", d.finds)
	}
	d.take()
	d.pass(5_000, false)
	if d.finds != 2 {
		t.Fatalf("%d coordinators were looked for", d.finds)
	}
	d.want("to the next one", "join resume=true; ")
	d.pass(6_000, false)
	d.records(0, 5)
	d.poll()
	if len(d.got) != 0 {
		t.Errorf("delivered after a session of silence: %+v", d.got)
	}
	d.assign(2, 0, "0:1:10")
	if len(d.got) != 1 {
		t.Errorf("nothing is delivered after the coordinator was heard again")
	}
}

// A member that finds no coordinator for the timeout says so instead of waiting in silence.
func TestGroupNoCoordinator(t *testing.T) {
	d := newDesk(t, GroupOptions{AutoMark: true, Consumer: ConsumerOptions{TimeoutNs: 15e9}})
	d.poll()
	d.assign(1, 0, "0:1:10")
	d.pass(10_000, true)
	d.pass(15_000, false)
	if len(d.got) != 0 {
		t.Fatalf("gave up too early: %+v", d.got)
	}
	d.pass(5_000, false)
	if len(d.got) != 1 || d.got[0].Err == nil || d.got[0].Err.Reason != ReasonUnavailable {
		t.Errorf("it says %+v", d.got)
	}
}

// A program that does not poll leaves the group after the poll timeout, and joins again when it polls.
func TestGroupPollTimeout(t *testing.T) {
	d := newDesk(t, GroupOptions{AutoMark: true, PollNs: 20e9})
	d.poll()
	d.assign(1, 0, "0:1:10")
	d.records(0, 1)
	d.take()
	d.pass(19_000, true)
	d.want("in time", "")
	d.pass(2_000, true)
	d.want("too late", "leave; ")
	d.pass(60_000, true)
	d.want("while it does not poll", "")
	d.poll()
	d.want("when it polls again", "join resume=false; ")
}

// With StopAtEnd a member is over when all that it is to get has come and is read up to where it ended when the member began.
func TestGroupStopAtEnd(t *testing.T) {
	d := newDesk(t, GroupOptions{AutoMark: true, StopAtEnd: true})
	for _, a := range slices.Clone(d.offs) {
		end := map[int32]int64{0: 12, 1: 0, 2: 5}[a.Request.GetPartition().GetPartition()]
		d.step(&GroupEvent{Consumer: &ConsumerEvent{Offsets: &OffsetsAnswer{Token: a.Token, Response: &pb.ListOffsetsResponse{HighWatermark: end}}}})
	}
	d.want("after the ends are known", "join resume=false; ")
	d.assign(1, 1, "0:1:10", "1:1:-1")
	d.poll()
	d.poll() // told that 1 has ended
	d.records(0, 5)
	d.poll()
	for _, x := range d.got {
		if x.Over {
			t.Fatalf("over although a partition is to come: %+v", d.got)
		}
		if x.Fetched != nil && x.Fetched.NextOffset() != 12 {
			t.Errorf("read up to %d, want 12", x.Fetched.NextOffset())
		}
	}
	d.poll()
	d.assign(2, 0, "0:1:10", "1:1:-1", "2:2:5")
	d.poll()
	if last := d.got[len(d.got)-1]; !last.Over {
		t.Errorf("not over: %+v", last)
	}
	d.take()
	d.step(&GroupEvent{Leave: true})
	d.want("at the end", "leave; ")
	d.hear(&pb.JoinResponse{Message: &pb.JoinResponse_Departed{Departed: &pb.Departure{}}})
	if !d.left {
		t.Error("it has not left")
	}
}

// Without a committed offset: from the log start, from the end (which is committed at once), or not at all.
func TestGroupReset(t *testing.T) {
	d := newDesk(t, GroupOptions{AutoMark: true, Reset: ResetNone})
	d.assign(1, 0, "0:1:-1")
	d.poll()
	if len(d.got) != 1 || d.got[0].Err == nil || d.got[0].Err.Reason != ReasonNoCommittedOffset {
		t.Errorf("none: %+v", d.got)
	}
	d = newDesk(t, GroupOptions{AutoMark: true, Reset: ResetEnd})
	d.assign(1, 0, "0:1:-1")
	d.take()
	a := d.offs[0]
	d.step(&GroupEvent{Consumer: &ConsumerEvent{Offsets: &OffsetsAnswer{Token: a.Token, Response: &pb.ListOffsetsResponse{HighWatermark: 40}}}})
	d.want("end", "commit 1: 0=40; ")
	if q := d.fetch[TP{"t", 0}]; q == nil || q.GetRequest().GetOffset() != 40 {
		t.Errorf("end: begins at %v", q.GetRequest())
	}
	d = newDesk(t, GroupOptions{AutoMark: true})
	d.assign(1, 0, "0:1:-1")
	if len(d.offs) != 1 {
		t.Fatalf("start: asked %v", d.offs)
	}
	d.step(&GroupEvent{Consumer: &ConsumerEvent{Offsets: &OffsetsAnswer{Token: d.offs[0].Token, Response: &pb.ListOffsetsResponse{LogStart: 7, HighWatermark: 40}}}})
	if q := d.fetch[TP{"t", 0}]; q == nil || q.GetRequest().GetOffset() != 7 {
		t.Errorf("start: begins at %v", q.GetRequest())
	}
	// Retention removed what was committed.
	d.step(&GroupEvent{Consumer: &ConsumerEvent{Answer: &pb.FetchStreamResponse{CorrelationId: d.fetch[TP{"t", 0}].GetCorrelationId(), Error: &pb.Error{Reason: ReasonOutOfRange, LogStart: 30, HighWatermark: 40}}}})
	d.step(&GroupEvent{Timer: true})
	if len(d.offs) != 2 {
		t.Errorf("after the log start passed it: asked %v", d.offs)
	}
}

// A commit that gets no answer is sent again; one that is refused as stale is given up with a withdrawn partition.
func TestGroupCommitAgain(t *testing.T) {
	d := newDesk(t, GroupOptions{AutoMark: true})
	d.assign(1, 0, "0:1:10")
	d.poll()
	d.records(0, 5)
	d.said = nil
	d.poll()
	commits := func() (n int) {
		for _, m := range d.said {
			if m.GetCommit() != nil {
				n++
			}
		}
		return n
	}
	d.pass(7_000, true)
	if commits() != 1 {
		t.Fatalf("%d commits before the first is late", commits())
	}
	d.pass(2_000, true)
	if commits() != 2 {
		t.Errorf("%d commits after the first is late", commits())
	}
	last := d.said[slices.IndexFunc(d.said, func(m *pb.JoinRequest) bool { return m.GetCommit().GetCorrelationId() == 2 })].GetCommit()
	d.assign(2, 0)
	d.said = nil
	d.hear(&pb.JoinResponse{Message: &pb.JoinResponse_Committed{Committed: &pb.OffsetCommitted{CorrelationId: last.GetCorrelationId(), Error: &pb.Error{Reason: ReasonStaleGeneration}}}})
	d.want("a stale commit of a withdrawn partition", "ack 2:; ")
}

// A static member that is closed commits and does not leave; one whose place was taken fails and does not come back.
func TestGroupStaticMember(t *testing.T) {
	d := newDesk(t, GroupOptions{InstanceID: "left", AutoMark: true})
	d.want("joining", "join resume=false as left; ")
	d.assign(1, 0, "0:1:0")
	d.want("acknowledges", "ack 1: 0; ")
	d.step(&GroupEvent{Poll: true})
	d.records(0, 3)
	d.step(&GroupEvent{Poll: true}) // done with those
	d.step(&GroupEvent{Leave: true})
	d.pass(100, true)
	d.want("closing", "commit 1: 0=3; ")
	d.pass(100, true)
	if d.want("closed", ""); !d.left {
		t.Error("what was done is committed, and it is not over")
	}

	d = newDesk(t, GroupOptions{InstanceID: "left"})
	d.assign(1, 0, "0:1:0")
	d.take()
	d.step(&GroupEvent{Poll: true})
	d.hear(&pb.JoinResponse{Message: &pb.JoinResponse_Error{Error: &pb.Error{Reason: ReasonFencedInstance, Message: "another"}}})
	if len(d.got) != 1 || d.got[0].Err == nil || d.got[0].Err.Reason != ReasonFencedInstance {
		t.Fatalf("the program was given %+v", d.got)
	}
	d.pass(20_000, true)
	d.want("fenced", "")
}

// A member whom the brokers refuse says so at its first poll instead of asking until its timeout.
func TestGroupIsRefused(t *testing.T) {
	g := NewGroupConsumer(GroupOptions{Group: "g", Topics: []string{"t"}, Consumer: ConsumerOptions{Rand: rand.New(rand.NewPCG(1, 2))}})
	var eff GroupEffects
	g.Step(1, &GroupEvent{Begin: true}, &eff)
	g.Step(2, &GroupEvent{Poll: true}, &eff)
	g.Step(3, &GroupEvent{Consumer: &ConsumerEvent{Metadata: &MetadataAnswer{Topics: []string{"t"}, Err: &Error{Reason: reasonUnauthenticated}}}}, &eff)
	if eff.Deliver == nil || eff.Deliver.Err == nil || eff.Deliver.Err.Reason != reasonUnauthenticated {
		t.Errorf("delivered %+v", eff.Deliver)
	}
}
