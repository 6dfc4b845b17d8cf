package rpc

import (
	"errors"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/partition"
	"lograft/record"
)

// Bounds of one produce stream: at one of them it reads no further (the stream's flow control reaches the client).
const (
	produceInflightMax   = 256
	produceInflightBytes = 32 << 20
	recordsPerRequestMax = 100_000
)

// produceRequest checks an append and makes the request to the replica.
func produceRequest(env *Env, now int64, q *pb.ProduceRequest) (partition.Request, *partition.Error) {
	t, p, perr := locate(env.Dir, q.GetPartition())
	if perr != nil {
		return partition.Request{}, perr
	}
	if err := env.Caller.check(need{cluster.OpWrite, cluster.ResourceTopic, t.Name}); err != nil {
		return partition.Request{}, err
	}
	raw := q.GetBatch()
	if len(q.GetRecords()) > 0 {
		if len(raw) > 0 {
			return partition.Request{}, invalid("batch and records are both set: send one of them")
		}
		if raw, perr = buildBatch(env, t, q.GetRecords()); perr != nil {
			return partition.Request{}, perr
		}
	}
	b, err := record.Validate(raw, t.MessageBytesMax())
	if err != nil {
		return partition.Request{}, batchError(t, err)
	}
	if err := env.Caller.spend(now, spendProduce, len(raw)); err != nil {
		return partition.Request{}, err
	}
	expected := partition.NoExpectedOffset
	if q.ExpectedOffset != nil {
		if expected = q.GetExpectedOffset(); expected < 0 {
			return partition.Request{}, invalid("expected offset %d: must be >= 0", expected)
		}
	}
	return partition.Request{Group: p.Group, Op: partition.OpProduce, Batch: b, ExpectedOffset: expected, Deadline: deadline(now, q.GetTimeoutMs(), timeoutDefaultNs)}, nil
}

func buildBatch(env *Env, t *cluster.Topic, records []*pb.Record) ([]byte, *partition.Error) {
	if len(records) > recordsPerRequestMax {
		return nil, invalid("%d records in one request: at most %d", len(records), recordsPerRequestMax)
	}
	b := record.NewBuilder(record.BuilderOptions{BytesMax: t.MessageBytesMax(), ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1})
	for _, r := range records {
		rec := record.Record{Timestamp: r.GetTimestamp(), Key: r.Key, Value: r.Value}
		if rec.Timestamp == 0 {
			rec.Timestamp = env.Wall()
		}
		for _, h := range r.GetHeaders() {
			rec.Headers = append(rec.Headers, record.Header{Key: h.GetKey(), Value: h.GetValue()})
		}
		if err := b.Append(rec); err != nil {
			return nil, &partition.Error{Reason: partition.ReasonTooLarge, Message: "the records of the request exceed max.message.bytes of the topic: send fewer at once, or raise it"}
		}
	}
	batch, err := b.Build()
	if err != nil {
		return nil, invalid("records: %v", err)
	}
	return batch, nil
}

func batchError(t *cluster.Topic, err error) *partition.Error {
	switch {
	case errors.Is(err, record.ErrTooLarge):
		return &partition.Error{Reason: partition.ReasonTooLarge, Message: err.Error() + ": max.message.bytes of topic " + t.Name + " bounds a batch: send smaller records, or create the topic with -c max.message.bytes=N"}
	case errors.Is(err, record.ErrCorrupt):
		return &partition.Error{Reason: partition.ReasonCorrupt, Message: err.Error() + ": the batch was damaged on its way or built wrongly: send it again"}
	}
	return invalid("%v", err)
}

func produceResponse(g partition.GroupID, r *partition.Reply) *pb.ProduceResponse {
	return &pb.ProduceResponse{BaseOffset: r.BaseOffset, AppendTime: r.AppendTime, Duplicate: r.Duplicate, LeaderEpoch: r.LeaderEpoch,
		LogStart: r.LogStart, Session: sessionToken(g, r.Applied)}
}

// Produce is the unary call.
type Produce struct {
	call
	group partition.GroupID
	bytes int // held of Env.Appends
}

func (s *Produce) release() {
	s.env.Appends.give(s.bytes)
	s.bytes = 0
}

// NewProduce begins a call; its one message is a *pb.ProduceRequest.
func NewProduce(env *Env) *Produce { return &Produce{call: call{env: env}} }

// Step implements Session.
func (s *Produce) Step(now int64, ev *Event, eff *Effects) {
	switch {
	case ev.Message != nil:
		q, err := produceRequest(s.env, now, ev.Message.(*pb.ProduceRequest))
		if err != nil {
			eff.fail(err)
			return
		}
		if !s.env.Appends.take(len(q.Batch)) {
			eff.fail(overloaded(s.env.Appends, "appends"))
			return
		}
		s.group, s.bytes = q.Group, len(q.Batch)
		s.ask(eff, q)
	case ev.Reply != nil && ev.Reply.Err != nil:
		eff.fail(ev.Reply.Err)
	case ev.Reply != nil:
		eff.Send = append(eff.Send, produceResponse(s.group, ev.Reply))
		eff.Done = true
	}
}

// ProduceStream is the stream: many appends in flight, answered as they end.
type ProduceStream struct {
	call
	inflight map[uint64]inflight // by token
	bytes    int                 // of inflight; held of Env.Appends
	closed   bool
	// refused: until then batches of these groups are refused because one before them was, so that order as sent holds.
	refused map[partition.GroupID]int64
}

type inflight struct {
	correlation uint64
	group       partition.GroupID
	bytes       int
}

// NewProduceStream begins a stream; its messages are *pb.ProduceStreamRequest.
func NewProduceStream(env *Env) *ProduceStream {
	return &ProduceStream{call: call{env: env}, inflight: map[uint64]inflight{}}
}

// Full implements Session.
func (s *ProduceStream) Full() bool {
	return len(s.inflight) >= produceInflightMax || s.bytes >= produceInflightBytes
}

// Step implements Session.
func (s *ProduceStream) Step(now int64, ev *Event, eff *Effects) {
	switch {
	case ev.Message != nil:
		m := ev.Message.(*pb.ProduceStreamRequest)
		q, err := produceRequest(s.env, now, m.GetRequest())
		if err != nil {
			eff.Send = append(eff.Send, &pb.ProduceStreamResponse{CorrelationId: m.GetCorrelationId(), Error: toError(s.env.Dir, err)})
			return
		}
		if !s.admit(now, &q) {
			eff.Send = append(eff.Send, &pb.ProduceStreamResponse{CorrelationId: m.GetCorrelationId(), Error: toError(s.env.Dir, overloaded(s.env.Appends, "appends"))})
			return
		}
		s.inflight[s.ask(eff, q)] = inflight{m.GetCorrelationId(), q.Group, len(q.Batch)}
		s.bytes += len(q.Batch)
	case ev.Reply != nil:
		s.answer(ev.Reply, eff)
	case ev.Closed:
		s.closed = true
	}
	eff.Done = s.closed && len(s.inflight) == 0
}

// admit takes a batch into the broker's budget. What follows a refused batch of the same partition is refused too, until its sender
// can have read the answer: a producer without an id has nothing else that keeps its order.
func (s *ProduceStream) admit(now int64, q *partition.Request) bool {
	if until, ok := s.refused[q.Group]; ok && now >= until {
		delete(s.refused, q.Group)
	} else if ok {
		return false
	}
	if s.env.Appends.take(len(q.Batch)) {
		return true
	}
	if s.refused == nil {
		s.refused = map[partition.GroupID]int64{}
	}
	s.refused[q.Group] = now + overloadedRetryMs*1e6/2
	return false
}

func (s *ProduceStream) release() {
	s.env.Appends.give(s.bytes)
	s.bytes = 0
}

func (s *ProduceStream) answer(r *partition.Reply, eff *Effects) {
	f, ok := s.inflight[r.Token]
	if !ok {
		return
	}
	delete(s.inflight, r.Token)
	s.bytes -= f.bytes
	s.env.Appends.give(f.bytes)
	out := &pb.ProduceStreamResponse{CorrelationId: f.correlation}
	if r.Err != nil {
		out.Error = toError(s.env.Dir, r.Err)
	} else {
		out.Response = produceResponse(f.group, r)
	}
	eff.Send = append(eff.Send, out)
}
