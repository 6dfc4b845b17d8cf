package rpc

import (
	pb "lograft/api/lograft/v1"
	"lograft/broker/partition"
)

// partitionsPerCallMax bounds the partitions of one FetchPartitions or Subscribe; fetchManyBytes is what all answers of one call may
// take together beside the first batch of each.
const (
	partitionsPerCallMax = 1000
	fetchManyBytes       = 16 << 20
)

// FetchPartitions is the unary call: each partition is read as by Fetch. What is empty is asked again and waited for, until enough is
// there in all of them together or the time is over.
type FetchPartitions struct {
	call
	requests []partition.Request
	fetches  []fetching
	results  []*pb.FetchPartitionsResult
	asked    map[uint64]int // index by token
	looking  int            // first answers that have not come yet
	bytes    int
	wanted   int
	held     plainHeld // by results
}

// release implements releaser.
func (s *FetchPartitions) release() {
	s.env.GiveHeld(s.held.bytes)
	s.held = plainHeld{}
}

// NewFetchPartitions begins a call; its one message is a *pb.FetchPartitionsRequest.
func NewFetchPartitions(env *Env) *FetchPartitions {
	return &FetchPartitions{call: call{env: env}, asked: map[uint64]int{}}
}

// Step implements Session.
func (s *FetchPartitions) Step(now int64, ev *Event, eff *Effects) {
	switch {
	case ev.Message != nil:
		if err := s.begin(now, ev.Message.(*pb.FetchPartitionsRequest), eff); err != nil {
			eff.fail(err)
			return
		}
	case ev.Reply != nil:
		s.take(now, ev.Reply, eff)
	default:
		return
	}
	if s.looking == 0 && (s.bytes >= s.wanted || len(s.asked) == 0) {
		eff.lend(&pb.FetchPartitionsResponse{Results: s.results}, s.held.lent)
		eff.Held, eff.Done = s.held.bytes, true
		s.held = plainHeld{}
	}
}

func (s *FetchPartitions) begin(now int64, m *pb.FetchPartitionsRequest, eff *Effects) *partition.Error {
	n := len(m.GetRequests())
	if n == 0 || n > partitionsPerCallMax {
		return invalid("%d partitions in one request: 1 to %d are possible", n, partitionsPerCallMax)
	}
	if m.GetMinBytes() < 0 {
		return invalid("min bytes %d: must not be negative", m.GetMinBytes())
	}
	s.wanted = int(m.GetMinBytes())
	until := deadline(now, m.GetWaitMs(), readTimeoutDefaultNs)
	s.requests, s.fetches = make([]partition.Request, n), make([]fetching, n)
	s.results = make([]*pb.FetchPartitionsResult, n)
	for i, f := range m.GetRequests() {
		s.results[i] = &pb.FetchPartitionsResult{}
		q, err := fetchRequest(s.env, now, f)
		if err != nil {
			s.results[i].Error = toError(s.env.Dir, err)
			continue
		}
		q.MinBytes, q.Deadline = 0, until
		q.MaxBytes = min(q.MaxBytes, max(1, fetchManyBytes/n))
		s.requests[i], s.fetches[i] = q, fetching{group: q.Group, offset: q.Offset, plainRecords: f.GetPlainRecords()}
		s.asked[s.ask(eff, q)] = i
		s.looking++
	}
	return nil
}

func (s *FetchPartitions) take(now int64, r *partition.Reply, eff *Effects) {
	i, ok := s.asked[r.Token]
	if !ok {
		return
	}
	delete(s.asked, r.Token)
	q := &s.requests[i]
	if q.MinBytes == 0 {
		s.looking--
	}
	out, err := (*pb.FetchResponse)(nil), r.Err
	if err == nil {
		s.env.Caller.charge(now, spendFetch, r.Bytes)
		out, err = s.fetches[i].response(s.env, r, &s.held)
	}
	if err != nil {
		s.results[i] = &pb.FetchPartitionsResult{Error: toError(s.env.Dir, err)}
		return
	}
	s.results[i] = &pb.FetchPartitionsResult{Response: out}
	s.bytes += r.Bytes
	if r.Bytes == 0 && q.MinBytes == 0 && s.wanted > 0 && now < q.Deadline {
		q.MinBytes = 1
		s.asked[s.ask(eff, *q)] = i
	}
}
