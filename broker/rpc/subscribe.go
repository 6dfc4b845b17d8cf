package rpc

import (
	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/partition"
	"lograft/record"
)

// Windows of a subscription: small by default, so that a slow reader holds little; bounded, so that a generous one does, too.
const (
	creditRecordsDefault = 1000
	creditBytesDefault   = 1 << 20
	creditRecordsMax     = 1_000_000
	creditBytesMax       = 64 << 20
	subscribeWaitNs      = int64(5e9)
	subscribePauseMaxNs  = int64(1e9) // before a partition is asked again that the broker had no room for
)

// Subscribe is the stream. Each partition has at most one fetch at its replica, and only while there is credit. What comes when the
// credit was used up by another partition is dropped, to be read again: the broker holds nothing for a reader that does not read.
type Subscribe struct {
	call
	parts          []*subscribed
	asked          map[uint64]*subscribed // by token
	plain          bool
	consistency    partition.Consistency
	records, bytes int64 // credit left
	started        bool
}

type subscribed struct {
	index      int32
	topic      string
	group      partition.GroupID
	offset     int64 // next to send
	session    uint64
	generation uint64
	token      uint64 // of the fetch under way; 0: none
	stopped    bool   // by an error, until a seek
	told       bool   // that the end is reached
	again      int64  // not to be asked before (monotonic ns)
	pause      int64  // the last one, while the broker has no room; ns
}

// NewSubscribe begins a stream; its messages are *pb.SubscribeRequest.
func NewSubscribe(env *Env) *Subscribe {
	return &Subscribe{call: call{env: env}, asked: map[uint64]*subscribed{}}
}

// Step implements Session.
func (s *Subscribe) Step(now int64, ev *Event, eff *Effects) {
	switch {
	case ev.Message != nil:
		if err := s.message(ev.Message.(*pb.SubscribeRequest)); err != nil {
			eff.fail(err)
			return
		}
	case ev.Reply != nil:
		s.take(now, ev.Reply, eff)
	case ev.Closed:
		eff.Done = true
		return
	}
	for _, p := range s.parts {
		if p.token != 0 || p.stopped || s.records <= 0 || s.bytes <= 0 {
			continue
		}
		if p.again > now {
			if eff.Timer == 0 || p.again < eff.Timer {
				eff.Timer = p.again
			}
			continue
		}
		if err := s.env.Caller.check(need{cluster.OpRead, cluster.ResourceTopic, p.topic}); err != nil { // it was taken away meanwhile
			s.stop(p, err, eff)
			continue
		}
		if err := s.env.Caller.spend(now, spendFetch, 0); err != nil { // slowed down, like a stream of fetches
			eff.Timer = now + err.RetryAfterMs*1e6
			return
		}
		s.fetch(now, p, eff)
	}
}

func (s *Subscribe) message(m *pb.SubscribeRequest) *partition.Error {
	start, credit, seek := m.GetStart(), m.GetCredit(), m.GetSeek()
	if (start != nil) == s.started {
		return invalid("a subscription begins with one start, and credit and seeks follow")
	}
	switch {
	case start != nil:
		return s.start(start)
	case credit != nil:
		return s.grant(credit.GetRecords(), credit.GetBytes())
	case seek != nil:
		return s.seek(seek)
	}
	return invalid("a message that says nothing: send a start, credit or a seek")
}

func (s *Subscribe) start(m *pb.SubscribeStart) *partition.Error {
	n := len(m.GetPartitions())
	if n == 0 || n > partitionsPerCallMax {
		return invalid("%d partitions in one subscription: 1 to %d are possible", n, partitionsPerCallMax)
	}
	for i, p := range m.GetPartitions() {
		t, part, err := locate(s.env.Dir, p.GetPartition())
		if err == nil {
			err = s.env.Caller.check(need{cluster.OpRead, cluster.ResourceTopic, t.Name})
		}
		if err != nil {
			return err
		}
		if p.GetOffset() < 0 {
			return invalid("offset %d: must be >= 0", p.GetOffset())
		}
		x := &subscribed{index: int32(i), topic: t.Name, group: part.Group, offset: p.GetOffset()}
		if len(p.GetSession()) > 0 {
			if x.session, err = parseSession(part.Group, p.GetSession()); err != nil {
				return err
			}
		}
		s.parts = append(s.parts, x)
	}
	s.started, s.plain, s.consistency = true, m.GetPlainRecords(), consistency(m.GetConsistency())
	if c := m.GetCredit(); c != nil {
		return s.grant(c.GetRecords(), c.GetBytes())
	}
	return s.grant(creditRecordsDefault, creditBytesDefault)
}

// grant adds credit. More than a broker would ever hold for one reader is cut off.
func (s *Subscribe) grant(records, bytes int64) *partition.Error {
	if records < 0 || bytes < 0 {
		return invalid("credit of %d records and %d bytes: neither may be negative", records, bytes)
	}
	s.records = min(s.records+min(records, creditRecordsMax), creditRecordsMax)
	s.bytes = min(s.bytes+min(bytes, creditBytesMax), creditBytesMax)
	return nil
}

func (s *Subscribe) seek(m *pb.SubscribeSeek) *partition.Error {
	if i := m.GetIndex(); i < 0 || int(i) >= len(s.parts) || m.GetOffset() < 0 {
		return invalid("seek of partition %d to offset %d: the subscription has partitions 0 to %d and offsets from 0 on", i, m.GetOffset(), len(s.parts)-1)
	}
	p := s.parts[m.GetIndex()]
	delete(s.asked, p.token) // its answer is passed over
	p.token, p.stopped, p.told, p.again, p.pause = 0, false, false, 0, 0
	p.offset, p.generation = m.GetOffset(), m.GetGeneration()
	return nil
}

func (s *Subscribe) fetch(now int64, p *subscribed, eff *Effects) {
	q := partition.Request{Group: p.group, Op: partition.OpFetch, Offset: p.offset, MaxBytes: int(min(s.bytes, fetchBytesDefault)), MinBytes: 1,
		Deadline: now + subscribeWaitNs, Consistency: s.consistency, Borrow: true}
	if !p.told {
		q.MinBytes = 0 // the first empty answer comes at once: it says that the end is reached
	}
	if p.session > 0 {
		q.Consistency, q.Session = partition.Session, p.session
	}
	p.token = s.ask(eff, q)
	s.asked[p.token] = p
}

func (s *Subscribe) take(now int64, r *partition.Reply, eff *Effects) {
	p := s.asked[r.Token]
	if p == nil {
		return
	}
	delete(s.asked, r.Token)
	p.token = 0
	if r.Err != nil {
		s.refused(now, p, r.Err, eff)
		return
	}
	if len(r.Batches) == 0 {
		if !p.told {
			p.told = true
			s.send(now, p, r, eff)
		}
		return
	}
	if s.records <= 0 || s.bytes <= 0 {
		return
	}
	p.told = false
	s.env.Caller.charge(now, spendFetch, r.Bytes)
	s.send(now, p, r, eff)
}

// refused ends a partition, but not for want of room in the broker: then it is asked again from the same offset after a pause.
func (s *Subscribe) refused(now int64, p *subscribed, err *partition.Error, eff *Effects) {
	if err.Reason != partition.ReasonOverloaded {
		s.stop(p, err, eff)
		return
	}
	p.pause = min(max(2*p.pause, err.RetryAfterMs*1e6, 1e6), subscribePauseMaxNs)
	p.again = now + p.pause
}

func (s *Subscribe) stop(p *subscribed, err *partition.Error, eff *Effects) {
	p.stopped = true
	eff.Send = append(eff.Send, &pb.SubscribeResponse{Index: p.index, Generation: p.generation, Error: toError(s.env.Dir, err)})
}

// send sends as much of an answer as there is credit for, at least one batch or one plain record, and moves the position behind it.
func (s *Subscribe) send(now int64, p *subscribed, r *partition.Reply, eff *Effects) {
	cut := *r
	if !s.plain {
		cut.Batches = s.affordable(p, r.Batches)
	}
	f := fetching{group: p.group, offset: p.offset, plainRecords: s.plain}
	held := plainHeld{}
	out, err := f.response(s.env, &cut, &held)
	if err != nil {
		s.refused(now, p, err, eff)
		return
	}
	p.pause = 0
	if s.plain {
		s.payForRecords(out)
	}
	p.offset = out.GetNextOffset()
	held.send(eff, &pb.SubscribeResponse{Index: p.index, Generation: p.generation, Response: out}, r)
}

// affordable takes batches while there is credit: the last one may overdraw it.
func (s *Subscribe) affordable(p *subscribed, batches [][]byte) [][]byte {
	n := 0
	for n < len(batches) && s.records > 0 && s.bytes > 0 {
		b := record.Batch(batches[n])
		s.records -= b.NextOffset() - max(b.BaseOffset(), p.offset)
		s.bytes -= int64(len(b))
		n++
	}
	return batches[:n]
}

// payForRecords cuts an answer of plain records to the credit.
func (s *Subscribe) payForRecords(out *pb.FetchResponse) {
	n := 0
	for n < len(out.Records) && s.records > 0 && s.bytes > 0 {
		rec := out.Records[n]
		s.records--
		s.bytes -= int64(len(rec.GetKey()) + len(rec.GetValue()))
		n++
	}
	if n < len(out.Records) {
		out.NextOffset = out.Records[n].GetOffset()
		out.Records = out.Records[:n]
	}
}
