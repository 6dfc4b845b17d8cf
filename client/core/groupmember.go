package core

import (
	"encoding/binary"
	"fmt"
	"slices"

	pb "lograft/api/lograft/v1"
)

// membership is the member's side of its stream to the coordinator.
//
//	finding -> opening -> joined;  a break, or silence, leads back to finding. The membership itself outlives streams.
type membership struct {
	id     [16]byte
	inside bool // the group knows id, as far as is known here: a new stream resumes

	finding uint64 // token; 0: nobody was asked
	findAt  int64  // not before
	lateAt  int64  // an answer that is not here by then does not come
	turn    int
	tries   int
	last    *Error

	address    string // of the coordinator
	stream     uint64 // 0: none
	nextToken  uint64
	joined     bool // this stream was answered
	generation int64
	acked      int64 // the last generation that was acknowledged on this stream

	heartbeat  uint64 // number of the last one sent
	unanswered int64  // when the oldest one without an answer was sent; 0: all are answered
	beatAt     int64  // when the next one is due
	heardAt    int64  // when the coordinator said something last
	idle       bool   // left because the program does not poll
	departing  uint64 // stream on which the departure was sent
	away       int64  // since when there is no coordinator; 0: there is
}

// heartbeatEvery is a fraction of the session: several may be lost.
func (g *GroupConsumer) heartbeatEvery() int64 { return min(g.opts.SessionNs/5, int64(3e9)) }

// silent is how long an unanswered heartbeat is waited for before another coordinator is looked for.
func (g *GroupConsumer) silent() int64 { return max(g.opts.SessionNs/4, int64(500e6)) }

func (g *GroupConsumer) driveMember(now int64, eff *GroupEffects) {
	m := &g.member
	timers := &eff.ConsumerEffects
	switch {
	case m.idle || m.joined:
		m.away = 0
	case m.away == 0:
		m.away = now
	case now-m.away >= g.read.opts.TimeoutNs && !g.leaving:
		g.fail(g.unreachable())
		return
	}
	switch {
	case m.idle:
		return
	case m.stream == 0 && m.finding == 0:
		if now < m.findAt {
			at(timers, m.findAt)
			return
		}
		m.nextToken++
		m.finding, m.lateAt = m.nextToken, now+findLate
		eff.Find = &Find{Token: m.finding, Address: g.anyAddress()}
		at(timers, m.lateAt)
	case m.stream == 0:
		if now >= m.lateAt {
			g.findAgain(now, &Error{Reason: ReasonTimeout, Message: "no broker named the group's coordinator in time"})
			at(timers, max(m.findAt, now+1))
			return
		}
		at(timers, m.lateAt)
	default:
		g.driveStream(now, eff)
	}
}

// unreachable is the error of a member that found no coordinator in time.
func (g *GroupConsumer) unreachable() *Error {
	e := &Error{Reason: ReasonUnavailable, Message: fmt.Sprintf("no coordinator of group %q could be reached for %d s: see broker cluster health", g.opts.Group, g.read.opts.TimeoutNs/1e9)}
	if g.member.last != nil {
		e.Message += ": " + g.member.last.Message
	}
	return e
}

// anyAddress is a broker to ask, another one each time.
func (g *GroupConsumer) anyAddress() string {
	nodes := make([]uint64, 0, len(g.meta.Addresses))
	for node := range g.meta.Addresses {
		nodes = append(nodes, node)
	}
	if len(nodes) == 0 {
		return ""
	}
	slices.Sort(nodes)
	g.member.turn++
	return g.meta.Addresses[nodes[g.member.turn%len(nodes)]]
}

func (g *GroupConsumer) findAgain(now int64, err *Error) {
	m := &g.member
	m.finding, m.last = 0, err
	m.tries++
	m.findAt = now + Backoff(g.rng, m.tries)
}

func (g *GroupConsumer) found(now int64, a *FoundAnswer) {
	m := &g.member
	if a.Token != m.finding {
		return
	}
	m.finding = 0
	switch {
	case a.Err != nil && !Retriable(a.Err.Reason):
		g.fail(a.Err)
	case a.Err != nil || a.Address == "":
		g.findAgain(now, a.Err)
	default:
		m.address = a.Address
		g.open(now)
	}
}

// open asks for a stream; driveStream sends what is due on it.
func (g *GroupConsumer) open(now int64) {
	m := &g.member
	m.nextToken++
	m.stream, m.joined, m.acked = m.nextToken, false, 0
	m.heartbeat, m.unanswered, m.beatAt = 0, 0, 0
	m.lateAt = 0 // not opened yet
}

func (g *GroupConsumer) driveStream(now int64, eff *GroupEffects) {
	m := &g.member
	timers := &eff.ConsumerEffects
	if m.lateAt == 0 {
		m.lateAt = now + max(g.silent(), findLate)
		if m.id == [16]byte{} {
			binary.LittleEndian.PutUint64(m.id[:], g.rng.Uint64())
			binary.LittleEndian.PutUint64(m.id[8:], g.rng.Uint64()|1)
		}
		eff.Open = &StreamOpen{Stream: m.stream, Address: m.address}
		g.say(eff, &pb.JoinRequest{Message: &pb.JoinRequest_Member{Member: &pb.Membership{Group: g.opts.Group, MemberId: slices.Clone(m.id[:]), ClientId: g.opts.ClientID, Topics: g.opts.Topics,
			SessionTimeoutMs: uint32(g.opts.SessionNs / 1e6), PollTimeoutMs: uint32(g.opts.PollNs / 1e6), Resume: m.inside, InstanceId: g.opts.InstanceID}}})
	}
	switch {
	case !m.joined && now >= m.lateAt, m.unanswered > 0 && now-m.unanswered >= g.silent():
		g.broke(now, &Error{Reason: ReasonTimeout, Message: fmt.Sprintf("the coordinator at %s does not answer", m.address)}, eff)
		at(timers, max(m.findAt, now+1))
		return
	case !m.joined:
		at(timers, m.lateAt)
		return
	}
	if !g.wanted && !g.leaving && now-g.polledAt >= g.opts.PollNs {
		g.rest(eff)
		return
	}
	if now >= m.beatAt {
		m.heartbeat++
		if m.unanswered == 0 {
			m.unanswered = now
		}
		m.beatAt = now + g.heartbeatEvery()
		g.say(eff, &pb.JoinRequest{Message: &pb.JoinRequest_Heartbeat{Heartbeat: &pb.Heartbeat{Number: m.heartbeat}}})
	}
	at(timers, m.beatAt)
	if m.unanswered > 0 {
		at(timers, m.unanswered+g.silent())
	}
	if !g.wanted {
		at(timers, g.polledAt+g.opts.PollNs)
	}
}

func (g *GroupConsumer) say(eff *GroupEffects, m *pb.JoinRequest) {
	eff.Join = append(eff.Join, StreamSend{Stream: g.member.stream, Message: m})
}

// rest leaves the group because the program does not poll: others take its partitions. It joins again at the next poll.
func (g *GroupConsumer) rest(eff *GroupEffects) {
	g.say(eff, &pb.JoinRequest{Message: &pb.JoinRequest_Departure{Departure: &pb.Departure{}}})
	g.lost()
	g.member.idle, g.member.stream = true, 0
}

// broke ends the stream; the membership goes on until the coordinator says otherwise.
func (g *GroupConsumer) broke(now int64, err *Error, eff *GroupEffects) {
	m := &g.member
	eff.Close = m.stream
	m.stream, m.joined = 0, false
	g.commit.inflight = 0
	g.findAgain(now, err)
}

// message takes what the coordinator says.
func (g *GroupConsumer) message(now int64, x *StreamMessage, eff *GroupEffects) {
	m := &g.member
	if x.Stream != m.stream || m.stream == 0 {
		return
	}
	m.heardAt = now
	switch msg := x.Message.GetMessage().(type) {
	case *pb.JoinResponse_Assignment:
		m.joined, m.inside, m.tries = true, true, 0
		g.assigned(now, msg.Assignment, eff)
	case *pb.JoinResponse_Heartbeat:
		if m.unanswered = 0; msg.Heartbeat.GetNumber() != m.heartbeat {
			m.unanswered = now // a later one is on its way
		}
	case *pb.JoinResponse_Committed:
		g.committed(msg.Committed)
	case *pb.JoinResponse_Departed:
		g.lost()
		eff.Close = m.stream
		m.stream = 0
		if g.leaving {
			g.left, eff.Left = true, true
		}
	case *pb.JoinResponse_Error:
		g.refused(now, msg.Error, eff)
	}
}

// refused takes the error that ends a stream.
func (g *GroupConsumer) refused(now int64, e *pb.Error, eff *GroupEffects) {
	m := &g.member
	err := fromError(e)
	switch {
	case err.Reason == ReasonUnknownMember:
		g.broke(now, err, eff)
		g.lost()
		m.findAt, m.tries = now, 0 // joins again at once, as another member
	case err.Reason == reasonNotLeader && e.GetLeaderAddress() != "" && m.tries < 3:
		g.broke(now, err, eff)
		m.address = e.GetLeaderAddress()
		g.open(now)
	case Retriable(err.Reason), err.Reason == reasonNotUpgraded: // a static member joins when the last broker was upgraded
		g.broke(now, err, eff)
	default:
		g.broke(now, err, eff)
		g.fail(err)
	}
}

// lost forgets everything that the group had given: it is another's now.
func (g *GroupConsumer) lost() {
	m := &g.member
	m.id, m.inside, m.generation, m.acked = [16]byte{}, false, 0, 0
	for _, p := range g.parts {
		g.unread(p)
	}
	g.parts, g.waiting, g.delivered = nil, 0, nil
	g.commit.inflight = 0
}

// driveLeave ends the membership: what is marked is committed first, in the time that there is.
func (g *GroupConsumer) driveLeave(now int64, eff *GroupEffects) {
	m := &g.member
	gone := !m.inside && m.stream == 0 || g.fatal != nil && m.stream == 0
	switch {
	case gone || now >= g.leaveAt:
		g.left, eff.Left, eff.Close = true, true, m.stream
		for _, n := range g.commit.waiters {
			eff.Commits = append(eff.Commits, CommitDone{Number: n, Err: &Error{Reason: ReasonUnavailable, Message: "the group's coordinator did not answer in time: what was committed last counts"}})
		}
		g.commit.waiters = nil
		return
	case g.opts.InstanceID != "" && !g.dirty(): // it stays a member until its session is over, or it is here again
		if len(g.commit.waiters) > 0 {
			at(&eff.ConsumerEffects, now+1) // they are answered first
			break
		}
		g.left, eff.Left, eff.Close = true, true, m.stream
		return
	case m.joined && !g.dirty() && m.departing != m.stream:
		m.departing = m.stream
		g.say(eff, &pb.JoinRequest{Message: &pb.JoinRequest_Departure{Departure: &pb.Departure{}}})
	}
	at(&eff.ConsumerEffects, g.leaveAt)
}
