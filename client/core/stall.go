package core

import "fmt"

// Stall is what a machine has waited for in vain: an answer about a topic, a partition or a group, not records that nobody wrote yet.
// The zero value says that it waits for nothing.
type Stall struct {
	Since   int64  // ns, as the times of steps
	What    string // "topic \"t\"", "group g", or with a Number the topic of a partition
	Number  int32  // of the partition of topic What; -1: What is the whole
	Address string // that was asked; empty: any broker that the driver knows
	Last    *Error // why the last try failed; nil: no answer came at all
}

// older keeps the one that has waited longest.
func (s *Stall) older(o Stall) {
	if o.Since != 0 && (s.Since == 0 || o.Since < s.Since) {
		*s = o
	}
}

// String names what is waited for.
func (s *Stall) String() string {
	if s.Number >= 0 {
		return fmt.Sprintf("%s/%d", s.What, s.Number)
	}
	return s.What
}

// Stalled is what the consumer has waited for longest.
func (c *Consumer) Stalled() (s Stall) {
	for _, t := range c.topics {
		if !t.known {
			s.older(Stall{Since: t.deadline - c.opts.TimeoutNs, What: fmt.Sprintf("topic %q", t.Topic), Number: -1, Last: t.last})
		}
	}
	for _, r := range c.parts {
		switch {
		case r.ended:
		case r.failing > 0:
			s.older(Stall{Since: r.failing, What: r.topic.Topic, Number: r.number, Address: r.address, Last: r.last})
		case !r.resolved && r.waiting != 0:
			s.older(Stall{Since: r.lateAt - offsetsTimeout - fetchSlack, What: r.topic.Topic, Number: r.number, Address: r.address})
		}
	}
	return s
}

// Stalled is what the member has waited for longest: its topics, their ends, its coordinator, or a partition.
func (g *GroupConsumer) Stalled() (s Stall) {
	timeout := g.read.opts.TimeoutNs
	switch t := &g.lookup; {
	case !g.begun || g.left || g.fatal != nil:
		return s
	case !t.known:
		return Stall{Since: t.deadline - timeout, What: fmt.Sprintf("topic %q", g.opts.Topics[0]), Number: -1, Last: t.last}
	case g.member.away > 0:
		s.older(Stall{Since: g.member.away, What: "group " + g.opts.Group, Number: -1, Address: g.member.address, Last: g.member.last})
	}
	for _, token := range g.askTokens() {
		a := g.asks[token]
		s.older(Stall{Since: a.deadline - timeout, What: a.Topic, Number: a.Partition, Last: a.last})
	}
	s.older(g.read.Stalled())
	return s
}

// Stalled is what the producer has waited for longest: a topic, or an acknowledgement.
func (p *Producer) Stalled() (s Stall) {
	for _, t := range p.order {
		if len(t.pending) > 0 {
			s.older(Stall{Since: t.deadline - p.opts.TimeoutNs, What: fmt.Sprintf("topic %q", t.name), Number: -1, Last: t.last})
		}
		for _, q := range t.partitions {
			if len(q.batches) > 0 {
				s.older(Stall{Since: q.batches[0].deadline - p.opts.TimeoutNs, What: t.name, Number: q.number, Address: q.target, Last: t.last})
			}
		}
	}
	return s
}
