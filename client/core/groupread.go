package core

import (
	"bytes"
	"fmt"
	"slices"

	pb "lograft/api/lograft/v1"
	"lograft/record"
)

// owned is a partition that the coordinator gave to this member.
type owned struct {
	TP
	topicID []byte
	since   int64

	position  int64 // next to give to the program; -1: the log start, once it is known
	resolving uint64
	// Invariant: committed <= marked. -1: none.
	committed int64 // as far as this member knows
	sent      int64 // in the commit under way
	marked    int64 // the program is done below it
	epochs    []epochFrom
	revoking  bool // withdrawn: it is committed and given up
	ended     bool // read up to its stop
}

// epochFrom says that the records from an offset on, up to the next one's, are of a leader epoch.
type epochFrom struct {
	offset int64
	epoch  int32
}

// epochAt is the leader epoch of the last record before an offset that was read, 0 if it is not known.
func (p *owned) epochAt(offset int64) (epoch int32) {
	for _, e := range p.epochs {
		if e.offset < offset {
			epoch = e.epoch
		}
	}
	return epoch
}

// given notes the epochs of records that the program is given, and forgets those of records that are committed.
func (p *owned) given(f *Fetched) {
	for _, raw := range f.Batches {
		if b, err := record.Parse(raw); err == nil && (len(p.epochs) == 0 || p.epochs[len(p.epochs)-1].epoch != b.LeaderEpoch()) {
			p.epochs = append(p.epochs, epochFrom{b.BaseOffset(), b.LeaderEpoch()})
		}
	}
	for len(p.epochs) > 1 && p.epochs[1].offset < p.committed {
		p.epochs = p.epochs[1:]
	}
}

// committing is the commit under way and who waits for one.
type committing struct {
	nextID   uint64
	inflight uint64 // correlation id; 0: none
	sentAt   int64
	dueAt    int64
	waiters  []uint64
}

func (g *GroupConsumer) part(tp TP) *owned {
	if i, ok := slices.BinarySearchFunc(g.parts, tp, func(p *owned, tp TP) int { return compareTP(p.TP, tp) }); ok {
		return g.parts[i]
	}
	return nil
}

// assigned makes what is read what the coordinator says. What is withdrawn stops at once and is acknowledged when what the program
// has of it is committed.
func (g *GroupConsumer) assigned(now int64, a *pb.Assignment, eff *GroupEffects) {
	m := &g.member
	m.generation, g.waiting = a.GetGeneration(), int(a.GetWaiting())
	named := map[TP]bool{}
	for _, x := range a.GetPartitions() {
		tp := TP{x.GetTopic(), x.GetPartition()}
		named[tp] = true
		p := g.part(tp)
		switch {
		case p == nil || p.since != x.GetSince() || !bytes.Equal(p.topicID, x.GetTopicId()):
			if p != nil { // it was another's, or another topic, meanwhile
				g.drop(p)
			}
			g.take(now, x)
		case p.revoking: // it stays after all
			p.revoking = false
			g.subscribe(now, p)
		}
	}
	for _, p := range g.parts {
		if !named[p.TP] && !p.revoking {
			p.revoking = true
			g.unread(p)
		}
	}
}

// take begins to read a partition that was given.
func (g *GroupConsumer) take(now int64, x *pb.AssignedPartition) {
	p := &owned{TP: TP{x.GetTopic(), x.GetPartition()}, topicID: x.GetTopicId(), since: x.GetSince(), position: x.GetCommitted(), committed: x.GetCommitted(), sent: -1, marked: x.GetCommitted()}
	if x.GetCommittedEpoch() > 0 {
		p.epochs = []epochFrom{{0, x.GetCommittedEpoch()}}
	}
	i, _ := slices.BinarySearchFunc(g.parts, p.TP, func(o *owned, tp TP) int { return compareTP(o.TP, tp) })
	g.parts = slices.Insert(g.parts, i, p)
	if p.committed >= 0 {
		g.subscribe(now, p)
		return
	}
	g.reset(now, p, &Error{Reason: ReasonNoCommittedOffset, Message: fmt.Sprintf("group %q has no committed offset for %s/%d: say where to begin (-o start or -o end), or set one: broker group seek %s",
		g.opts.Group, p.Topic, p.Partition, g.opts.Group)})
}

// reset begins a partition where the options say, because there is no offset to go on from.
func (g *GroupConsumer) reset(now int64, p *owned, why *Error) {
	p.position, p.epochs = -1, nil // where it begins then does not continue what was read
	switch g.opts.Reset {
	case ResetNone:
		g.fail(why)
	case ResetEnd:
		g.askEnd(now, p.TP)
		p.resolving = ownAsks | g.nextAsk
	default:
		g.subscribe(now, p)
	}
}

// subscribe reads a partition from its position on, up to its stop if there is one.
func (g *GroupConsumer) subscribe(now int64, p *owned) {
	s := Subscription{Topic: p.Topic, TopicID: p.topicID, Partitions: []int32{p.Partition}, Start: Position{From: Absolute, Offset: p.position}, Epoch: p.epochAt(p.position)}
	if p.position < 0 {
		s.Start = Position{From: FromStart}
	}
	p.ended = false
	if g.opts.StopAtEnd {
		stop := g.ends[p.TP] // 0 for a partition that was not there at the beginning
		if p.position >= stop || stop == 0 {
			p.ended = true
			g.ended = append(g.ended, PartitionEnd{Topic: p.Topic, Partition: p.Partition, Offset: max(p.position, 0)})
			return
		}
		s.Stop = &Position{From: Absolute, Offset: stop}
	}
	var none ConsumerEffects // what it asks for comes with the next step of the reader
	g.read.Step(now, &ConsumerEvent{Subscribe: []Subscription{s}, Hold: true}, &none)
}

// unread stops reading a partition and forgets what was fetched of it and not given to the program.
func (g *GroupConsumer) unread(p *owned) {
	var none ConsumerEffects
	bytes := 0
	g.queue = slices.DeleteFunc(g.queue, func(f Fetched) bool {
		gone := f.Topic == p.Topic && f.Partition == p.Partition
		if gone {
			bytes += f.Bytes
		}
		return gone
	})
	g.read.Step(0, &ConsumerEvent{Drop: []TP{p.TP}, Consumed: bytes, Hold: true}, &none)
	if p.resolving != 0 {
		delete(g.asks, p.resolving)
		p.resolving = 0
	}
}

func (g *GroupConsumer) drop(p *owned) {
	g.unread(p)
	g.parts = slices.DeleteFunc(g.parts, func(o *owned) bool { return o == p })
	if g.delivered == p {
		g.delivered = nil
	}
}

// busy reports whether a withdrawn partition can't be given up yet: the program works on its records, or what it did is not
// committed.
func (g *GroupConsumer) busy(p *owned) bool {
	return !g.opts.NoCommit && (p.position > p.marked || p.marked > p.committed)
}

// acknowledge tells the coordinator what this member works on, once everything withdrawn is clean.
func (g *GroupConsumer) acknowledge(eff *GroupEffects) {
	m := &g.member
	if !m.joined || m.acked == m.generation || slices.ContainsFunc(g.parts, func(p *owned) bool { return p.revoking && g.busy(p) }) {
		return
	}
	for _, p := range slices.Clone(g.parts) {
		if p.revoking {
			g.drop(p)
		}
	}
	a := &pb.Acknowledgement{Generation: m.generation}
	for _, p := range g.parts {
		a.Owned = append(a.Owned, &pb.GroupPartition{Topic: p.Topic, TopicId: p.topicID, Partition: p.Partition})
	}
	m.acked = m.generation
	g.say(eff, &pb.JoinRequest{Message: &pb.JoinRequest_Acknowledgement{Acknowledgement: a}})
}

// partitionEnded takes the end of a partition's reading.
func (g *GroupConsumer) partitionEnded(now int64, e *PartitionEnd, eff *GroupEffects) {
	if e.Err != nil && e.Err.Reason == ReasonTopicNotFound {
		return // deleted: the coordinator withdraws it
	}
	p := g.part(TP{e.Topic, e.Partition})
	switch {
	case p == nil || p.revoking:
		if e.Err != nil && e.Partition < 0 {
			g.fail(e.Err)
		}
	case e.Err == nil:
		p.ended = true
		g.ended = append(g.ended, *e)
	case e.Err.Reason == ReasonOutOfRange:
		// What was committed is not there any more: retention or a trim removed it.
		g.unread(p)
		g.reset(now, p, e.Err)
		at(&eff.ConsumerEffects, now+1)
	case e.Err.Reason == ReasonLogTruncated && g.opts.Reset != ResetNone:
		// As in Kafka any reset policy allows to go on where the log became another one.
		g.unread(p)
		from := min(e.Err.Divergence, p.position) // what was fetched and not given to the program is read again
		p.position, p.marked, p.committed, p.sent = from, min(p.marked, from), min(p.committed, from), -1
		p.epochs = nil // what was read there may be of another log
		g.ended = append(g.ended, PartitionEnd{Topic: p.Topic, Partition: p.Partition, Offset: from, Err: e.Err, GoesOn: true})
		g.subscribe(now, p)
		at(&eff.ConsumerEffects, now+1)
	default:
		g.fail(e.Err)
	}
}

// poll notes that the program wants the next.
func (g *GroupConsumer) poll(now int64) {
	g.wanted, g.polledAt = true, now
	if p := g.delivered; p != nil && g.opts.AutoMark {
		g.markTo(p, p.position)
	}
	g.delivered = nil
	g.member.idle = false
}

func (g *GroupConsumer) mark(x *Mark) {
	if p := g.part(x.TP); p != nil {
		g.markTo(p, min(x.Offset, p.position))
	}
}

func (g *GroupConsumer) markTo(p *owned, offset int64) {
	if !g.opts.NoCommit && offset > p.marked {
		p.marked = offset
	}
}

// deliver answers a poll if there is something to say.
func (g *GroupConsumer) deliver(now int64, eff *GroupEffects) {
	if !g.wanted {
		return
	}
	d := &Delivery{Generation: g.member.generation}
	switch {
	case g.fatal != nil:
		d.Err = g.fatal
	case g.leaving:
		d.Over = true
	case len(g.queue) > 0 && !g.silenced(now):
		f := g.queue[0]
		g.queue[0] = Fetched{}
		g.queue = g.queue[1:]
		p := g.part(TP{f.Topic, f.Partition})
		p.position = f.NextOffset()
		p.given(&f)
		d.Fetched, g.delivered = &f, p
		g.stepReader(now, &ConsumerEvent{Consumed: f.Bytes}, eff) // room for more
	case len(g.queue) > 0:
		return
	case len(g.ended) > 0:
		d.Ended, g.ended = g.ended, nil
		d.Over = g.over()
	case g.over():
		d.Over = true
	default:
		return
	}
	g.wanted, g.polledAt = false, now
	eff.Deliver = d
}

// silenced reports whether the coordinator was not heard for a whole session: what is here may be another's by now.
func (g *GroupConsumer) silenced(now int64) bool { return now-g.member.heardAt >= g.opts.SessionNs }

// over reports whether StopAtEnd is reached: everything that is to be this member's is, and is read up to where it ended.
func (g *GroupConsumer) over() bool {
	m := &g.member
	return g.opts.StopAtEnd && m.joined && m.acked == m.generation && g.waiting == 0 && !slices.ContainsFunc(g.parts, func(p *owned) bool { return !p.ended })
}

// dirty reports whether something marked is not committed.
func (g *GroupConsumer) dirty() bool {
	return slices.ContainsFunc(g.parts, func(p *owned) bool { return p.marked > p.committed })
}

// giveUpCommits forgets what can't be committed of partitions that are withdrawn: their next owner reads it again.
func (g *GroupConsumer) giveUpCommits() {
	for _, p := range g.parts {
		if p.revoking && p.sent >= 0 {
			p.marked, p.position, p.sent = p.committed, p.committed, -1
		}
	}
}

// driveCommit sends a commit when one is due: now and then, and at once when something waits for it.
func (g *GroupConsumer) driveCommit(now int64, eff *GroupEffects) {
	c, m := &g.commit, &g.member
	if !g.dirty() {
		for _, n := range c.waiters {
			eff.Commits = append(eff.Commits, CommitDone{Number: n})
		}
		c.waiters = nil
		return
	}
	if c.inflight != 0 && now-c.sentAt >= commitLate {
		c.inflight = 0
	}
	if !m.joined || c.inflight != 0 {
		return
	}
	urgent := len(c.waiters) > 0 || g.leaving || slices.ContainsFunc(g.parts, func(p *owned) bool { return p.revoking })
	due := c.sentAt + retryMin
	if !urgent {
		due = max(due, c.dueAt)
	}
	if now < due {
		at(&eff.ConsumerEffects, due)
		return
	}
	c.nextID++
	c.inflight, c.sentAt, c.dueAt = c.nextID, now, now+g.opts.CommitNs
	out := &pb.OffsetCommit{CorrelationId: c.inflight, Generation: m.generation}
	for _, p := range g.parts {
		if p.sent = -1; p.marked > p.committed {
			p.sent = p.marked
			out.Offsets = append(out.Offsets, &pb.CommittedOffset{Topic: p.Topic, TopicId: p.topicID, Partition: p.Partition, Offset: p.marked, LeaderEpoch: p.epochAt(p.marked)})
		}
	}
	g.say(eff, &pb.JoinRequest{Message: &pb.JoinRequest_Commit{Commit: out}})
}

// committed takes the answer to a commit. A refused one is sent again; what became another's is withdrawn by the next assignment.
func (g *GroupConsumer) committed(a *pb.OffsetCommitted) {
	c := &g.commit
	if a.GetCorrelationId() != c.inflight || c.inflight == 0 {
		return
	}
	c.inflight = 0
	if e := a.GetError(); e != nil {
		if e.GetReason() == ReasonStaleGeneration {
			g.giveUpCommits()
		}
		return
	}
	for _, p := range g.parts {
		p.committed = max(p.committed, p.sent)
		p.sent = -1
	}
}
