package rpc

import (
	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/partition"
	"lograft/record"
)

// Bounds of fetching.
const (
	// fetchInflightMax bounds the fetches of one stream. A consumer has one for each of its partitions here, and those that wait for
	// records fill the stream for as long as their long poll lasts: the ones beyond the bound would not even be asked.
	fetchInflightMax     = 4096
	fetchBytesDefault    = 1 << 20
	fetchBytesMax        = 8 << 20
	readTimeoutDefaultNs = int64(5e9)
)

func fetchRequest(env *Env, now int64, q *pb.FetchRequest) (partition.Request, *partition.Error) {
	t, p, perr := locate(env.Dir, q.GetPartition())
	if perr != nil {
		return partition.Request{}, perr
	}
	if err := env.Caller.check(need{cluster.OpRead, cluster.ResourceTopic, t.Name}); err != nil {
		return partition.Request{}, err
	}
	if err := env.Caller.spend(now, spendFetch, 0); err != nil {
		return partition.Request{}, err
	}
	if q.GetOffset() < 0 || q.GetMaxBytes() < 0 || q.GetMinBytes() < 0 {
		return partition.Request{}, invalid("offset %d, max bytes %d, min bytes %d: none may be negative", q.GetOffset(), q.GetMaxBytes(), q.GetMinBytes())
	}
	r := partition.Request{Group: p.Group, Op: partition.OpFetch, Offset: q.GetOffset(), MaxBytes: fetchBytesDefault, MinBytes: int(q.GetMinBytes()),
		Deadline: deadline(now, q.GetWaitMs(), readTimeoutDefaultNs), Consistency: consistency(q.GetConsistency())}
	if n := int(q.GetMaxBytes()); n > 0 {
		r.MaxBytes = min(n, fetchBytesMax)
	}
	if len(q.GetSession()) > 0 {
		applied, err := parseSession(p.Group, q.GetSession())
		if err != nil {
			return partition.Request{}, err
		}
		r.Consistency, r.Session = partition.Session, applied
	}
	return r, nil
}

func consistency(c pb.Consistency) partition.Consistency {
	if c == pb.Consistency_CONSISTENCY_COMMITTED {
		return partition.Committed
	}
	return partition.Linearizable
}

// fetching is what an answer needs of its question.
type fetching struct {
	correlation uint64
	group       partition.GroupID
	offset      int64
	// plainRecords: the client takes records instead of batches.
	plainRecords bool
}

// response makes the answer. Plain records are added to held, and nothing of the answer is the reply's then.
func (f *fetching) response(env *Env, r *partition.Reply, held *plainHeld) (out *pb.FetchResponse, refused *partition.Error) {
	out = &pb.FetchResponse{HighWatermark: r.HighWatermark, HighConfirmed: r.HighConfirmed, LogStart: r.LogStart, LeaderEpoch: r.LeaderEpoch,
		ServedBy: env.Dir.NodeID(), Session: sessionToken(f.group, r.Applied), NextOffset: f.offset}
	if n := len(r.Batches); n > 0 {
		last, err := record.Parse(r.Batches[n-1])
		if err != nil {
			return nil, &partition.Error{Reason: partition.ReasonInternal, Message: err.Error()}
		}
		out.NextOffset = last.NextOffset()
	}
	if !f.plainRecords {
		out.Batches = r.Batches
		return out, nil
	}
	return out, f.plain(env, r.Batches, out, held)
}

// Fetch is the unary call.
type Fetch struct {
	call
	fetching
}

// NewFetch begins a call; its one message is a *pb.FetchRequest.
func NewFetch(env *Env) *Fetch { return &Fetch{call: call{env: env}} }

// Step implements Session.
func (s *Fetch) Step(now int64, ev *Event, eff *Effects) {
	switch {
	case ev.Message != nil:
		m := ev.Message.(*pb.FetchRequest)
		q, err := fetchRequest(s.env, now, m)
		if err != nil {
			eff.fail(err)
			return
		}
		q.Borrow = true
		s.fetching = fetching{group: q.Group, offset: q.Offset, plainRecords: m.GetPlainRecords()}
		s.ask(eff, q)
	case ev.Reply != nil && ev.Reply.Err != nil:
		eff.fail(ev.Reply.Err)
	case ev.Reply != nil:
		s.env.Caller.charge(now, spendFetch, ev.Reply.Bytes)
		held := plainHeld{}
		out, err := s.response(s.env, ev.Reply, &held)
		if err != nil {
			eff.fail(err)
			return
		}
		held.send(eff, out, ev.Reply)
		eff.Done = true
	}
}

// FetchStream is the stream: many fetches in flight, answered as they end.
type FetchStream struct {
	call
	inflight map[uint64]fetching // by token
	closed   bool
}

// NewFetchStream begins a stream; its messages are *pb.FetchStreamRequest.
func NewFetchStream(env *Env) *FetchStream {
	return &FetchStream{call: call{env: env}, inflight: map[uint64]fetching{}}
}

// Full implements Session.
func (s *FetchStream) Full() bool { return len(s.inflight) >= fetchInflightMax }

// Step implements Session.
func (s *FetchStream) Step(now int64, ev *Event, eff *Effects) {
	switch {
	case ev.Message != nil:
		m := ev.Message.(*pb.FetchStreamRequest)
		q, err := fetchRequest(s.env, now, m.GetRequest())
		if err != nil {
			eff.Send = append(eff.Send, &pb.FetchStreamResponse{CorrelationId: m.GetCorrelationId(), Error: toError(s.env.Dir, err)})
			return
		}
		q.Borrow = true
		s.inflight[s.ask(eff, q)] = fetching{m.GetCorrelationId(), q.Group, q.Offset, m.GetRequest().GetPlainRecords()}
	case ev.Reply != nil:
		s.answer(now, ev.Reply, eff)
	case ev.Closed:
		s.closed = true
	}
	eff.Done = s.closed && len(s.inflight) == 0
}

func (s *FetchStream) answer(now int64, r *partition.Reply, eff *Effects) {
	f, ok := s.inflight[r.Token]
	if !ok {
		return
	}
	delete(s.inflight, r.Token)
	out, held := &pb.FetchStreamResponse{CorrelationId: f.correlation}, plainHeld{}
	err := r.Err
	if err == nil {
		s.env.Caller.charge(now, spendFetch, r.Bytes)
		out.Response, err = f.response(s.env, r, &held)
	}
	if err != nil {
		out.Response, out.Error = nil, toError(s.env.Dir, err)
	}
	held.send(eff, out, r)
}
