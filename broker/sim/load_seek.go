package sim

import (
	"google.golang.org/protobuf/proto"

	pb "lograft/api/lograft/v1"
	"lograft/broker/group"
	"lograft/broker/partition"
	"lograft/broker/rpc"
	"lograft/client/core"
)

// seek is somebody who moves the group back while it has no members. It is the only thing that may take a committed offset back, once,
// however often it is asked: what comes late changes nothing.
type seek struct {
	request *pb.SeekGroupRequest
	to      map[int32]int64
	done    bool // answered; nobody has joined since
}

// beginSeek ends every member, each in some way, and asks for the seek until it has happened.
func (l *groupLoad) beginSeek() {
	r := l.r
	for _, m := range append(l.members, l.zombies...) {
		if r.percent(30) {
			m.Resume()
			m.Mend()
			m.event(&core.GroupEvent{Leave: true})
		} else {
			m.Kill()
		}
		l.deaths++
	}
	l.members, l.zombies = nil, nil
	topic, ok := r.view().TopicByName(topicName)
	if !ok {
		topic = r.Topic
	}
	s := &seek{request: &pb.SeekGroupRequest{Group: groupName}, to: map[int32]int64{}}
	for i := range topic.Partitions {
		p := topic.Partitions[i].Number
		s.to[p] = r.between(0, l.floor[p]) // back, so that nothing is left out
		s.request.Offsets = append(s.request.Offsets, &pb.CommittedOffset{Topic: topicName, TopicId: topic.ID[:], Partition: p, Offset: s.to[p]})
	}
	l.seek = s
	l.seeks++
	r.Log("group: seek to %v", s.request.Offsets)
	l.askSeek(r.requestID())
}

func (l *groupLoad) askSeek(id [16]byte) {
	r, s := l.r, l.seek
	s.request.RequestId = id[:]
	r.call(r.anyAddress(), proto.Clone(s.request), func(e *rpc.Env) rpc.Session { return rpc.NewSeekGroup(e) }, func(_ proto.Message, err *core.Error) {
		switch {
		case err == nil:
			l.sought()
			r.After(r.between(0, 6e9), func() { l.repeat(proto.Clone(s.request)) })
			return
		case err.Reason == string(group.ReasonGroupNotEmpty): // that is the answer to this request for good
			id = r.requestID()
		case err.Reason == string(group.ReasonGroupNotFound): // there never was a group: this makes room for them
			r.call(r.anyAddress(), &pb.FindCoordinatorRequest{Group: groupName}, func(e *rpc.Env) rpc.Session { return rpc.NewFindCoordinator(e) }, func(proto.Message, *core.Error) {})
		case err.Reason == string(partition.ReasonInvalid):
			r.Break("group: seek: %v", err)
			return
		}
		r.Note("group: seek: %v", err)
		r.After(r.between(50e6, 1e9), func() { l.askSeek(id) })
	})
}

// repeat asks for a seek that is done, as a client does that heard nothing: the answer is the same although members are there by now.
func (l *groupLoad) repeat(request proto.Message) {
	r := l.r
	r.call(r.anyAddress(), request, func(e *rpc.Env) rpc.Session { return rpc.NewSeekGroup(e) }, func(_ proto.Message, err *core.Error) {
		switch {
		case err == nil:
			r.Counts.Faults["group seek repeated"]++
		case err.Reason == string(group.ReasonGroupNotEmpty), err.Reason == string(partition.ReasonInvalid):
			r.Break("group: a seek that was done is answered, when it is repeated, with %v", err)
		}
	})
}

// sought takes the seek's answer: everything from there on is to be read again. After a while members come.
func (l *groupLoad) sought() {
	r, s := l.r, l.seek
	r.Log("group: seek is done")
	r.Counts.Faults["group seek"]++
	s.done = true
	l.seeks++
	for p, to := range s.to {
		if to < l.floor[p] {
			r.Counts.Faults["committed offset sought back"]++
		}
		l.floor[p], l.prefix[p] = to, to
		for at := range l.done[p] {
			if at >= to {
				delete(l.done[p], at)
			}
		}
	}
	r.After(r.between(0, 3e9), func() {
		l.seek = nil
		for range 1 + r.rng.IntN(3) {
			l.join(l.instance())
		}
		l.churn()
	})
}

// allowed says whether an answer about the group may name a committed offset: no answer that was asked for after another one names less,
// unless a seek came between, and while nobody joins after a seek it is what was asked for.
func (l *groupLoad) allowed(p int32, at, before int64) bool {
	switch s := l.seek; {
	case s == nil:
		return at >= before
	case s.done:
		return at == s.to[p]
	default:
		return at >= min(before, s.to[p])
	}
}
