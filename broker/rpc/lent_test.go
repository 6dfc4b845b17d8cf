package rpc

import (
	"context"
	"testing"

	"google.golang.org/protobuf/proto"

	"lograft/api/codec"
	pb "lograft/api/lograft/v1"
	"lograft/broker/partition"
	"lograft/internal/buffers"
)

// loan is memory that shows whether it was given back.
func loan(t *testing.T) (l *buffers.Loan, freed func() bool) {
	t.Helper()
	p := buffers.NewPool(1 << 20)
	l = p.Lend()
	b := l.Get(8 << 10)
	b[0] = 1
	return l, func() bool { return p.Idle() > 0 || buffers.Poisoned && b[0] != 1 }
}

// A fetch on a stream borrows; the memory goes with its answer.
func TestFetchStreamHandsOnWhatItBorrowed(t *testing.T) {
	d := newDesk(t, 1)
	d.s = NewFetchStream(d.env())
	eff := d.step(&Event{Message: &pb.FetchStreamRequest{CorrelationId: 5, Request: &pb.FetchRequest{Partition: ref(0)}}})
	if len(eff.Requests) != 1 || !eff.Requests[0].Borrow {
		t.Fatalf("%+v does not borrow", eff.Requests)
	}
	l, freed := loan(t)
	r := &partition.Reply{Token: eff.Requests[0].Token, Batches: [][]byte{batchAt(t, 0, 1, 10)}, Lent: l}
	eff = d.step(&Event{Reply: r})
	if len(eff.Send) != 1 || len(eff.Lent) != 1 || eff.Lent[0] != l || r.Lent != nil || freed() {
		t.Errorf("%d messages with %d loans, the reply has one: %t, freed: %t", len(eff.Send), len(eff.Lent), r.Lent != nil, freed())
	}
}

// A single fetch borrows, too: the memory goes with its answer to who sends it. Of plain records none of the reply's memory is left.
func TestUnaryFetchHandsOnWhatItBorrowed(t *testing.T) {
	for _, plain := range []bool{false, true} {
		d := newDesk(t, 1)
		d.s = NewFetch(d.env())
		eff := d.step(&Event{Message: &pb.FetchRequest{Partition: ref(0), PlainRecords: plain}})
		if len(eff.Requests) != 1 || !eff.Requests[0].Borrow {
			t.Fatalf("%+v does not borrow", eff.Requests)
		}
		l, freed := loan(t)
		r := &partition.Reply{Token: eff.Requests[0].Token, Batches: [][]byte{batchAt(t, 0, 1, 10)}, Lent: l}
		eff = d.step(&Event{Reply: r})
		if len(eff.Send) != 1 || len(eff.Lent) != 1 || eff.Lent[0] == nil || freed() {
			t.Fatalf("%d messages with the loans %v, freed: %t", len(eff.Send), eff.Lent, freed())
		}
		if (eff.Lent[0] == l) == plain || (r.Lent == nil) == plain {
			t.Errorf("plain %t: the answer has the reply's loan: %t, and the reply: %t", plain, eff.Lent[0] == l, r.Lent != nil)
		}
	}
}

// The memory of a unary answer is given back when gRPC has let go of it.
func TestUnaryAnswerIsFreed(t *testing.T) {
	l, freed := loan(t)
	_, answer := withAnswer(context.Background())
	answer.lent = l
	err := answer.send(&pb.FetchResponse{Batches: [][]byte{make([]byte, 8<<10)}}, func(m any) error {
		if freed() {
			t.Error("freed before it is sent")
		}
		out, err := codec.Codec{}.Marshal(m)
		if err == nil && freed() {
			t.Error("freed while gRPC has it")
		}
		out.Free()
		return err
	})
	if err != nil || !freed() {
		t.Errorf("freed: %t, %v", freed(), err)
	}
}

// quiet is a session that sends a message to each reply, with its memory or without, and is over when told.
type quiet struct{ take, over bool }

func (s *quiet) Full() bool { return false }

func (s *quiet) Step(_ int64, ev *Event, eff *Effects) {
	if ev.Reply != nil && s.take {
		eff.sendLent(&pb.FetchStreamResponse{}, ev.Reply)
	}
	eff.Done = s.over
}

// postbox is a Host that only knows one session.
type postbox struct{ deliver func(partition.Reply) }

func (p *postbox) Post([]partition.Request) {}
func (p *postbox) Register(deliver func(partition.Reply)) uint64 {
	p.deliver = deliver
	return 1
}
func (p *postbox) Unregister(uint64) {}
func (p *postbox) Now() int64        { return 1 }

// The driver frees what a session leaves, what comes for one that is over and what no budget has room for; what a session hands on is
// freed by who sends it, and only then.
func TestDriverFreesWhatNobodyTakes(t *testing.T) {
	run := func(s *quiet, answers *Budget, send func(*outgoing) error) (freed func() bool) {
		host := &postbox{}
		r := NewServer(&Env{Answers: answers}, host).newRunner(s)
		l, freed := loan(t)
		host.deliver(partition.Reply{Bytes: 100, Lent: l})
		s.over = true
		if err := r.run(context.Background(), send); err != nil {
			t.Fatal(err)
		}
		r.close()
		return freed
	}
	never := func(*outgoing) error {
		t.Error("something is sent")
		return nil
	}
	if !run(&quiet{}, nil, never)() {
		t.Error("what a session left is not freed")
	}
	full := NewBudget(10)
	full.take(10)
	if !run(&quiet{}, full, never)() {
		t.Error("what no budget has room for is not freed")
	}
	var sent *outgoing
	freed := run(&quiet{take: true}, nil, func(m *outgoing) error {
		copied := *m
		sent = &copied
		return nil
	})
	if freed() || sent == nil {
		t.Fatal("what was handed on is freed by its driver")
	}
	if _, plain := sent.wire().(proto.Message); plain {
		t.Error("it is sent as a message of nobody's memory")
	}
	if sent.lent.Free(); !freed() {
		t.Error("the memory is not the message's")
	}
}
