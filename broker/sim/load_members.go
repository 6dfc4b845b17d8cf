package sim

import (
	"slices"

	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// memberLoad is an admin that moves replicas about: it replaces one of a partition, moves a whole partition to other brokers, sends one
// back that is on the move, empties brokers and fills them again, and evens everything out. Each command is repeated with its request id
// until its outcome is known.
type memberLoad struct {
	r       *Run
	stopped bool
	busy    string
	moves   partition.GroupID // what the command that it is busy with moves; zero: anything
	leaving uint64            // the broker that is decommissioned, 0: none
}

// Start implements Load.
func (l *memberLoad) Start(r *Run) {
	l.r = r
	r.After(r.between(500e6, 4e9), l.more)
}

func (l *memberLoad) more() {
	r := l.r
	if l.stopped || r.calm {
		return
	}
	l.moves = partition.GroupID{}
	switch x := r.rng.IntN(10); {
	case l.leaving != 0 && x < 4:
		node := l.leaving
		l.leaving = 0
		l.command("decommission taken back", cluster.EncodeDecommission(cluster.Decommission{RequestID: r.requestID(), NodeID: node, Cancel: true}))
	case x < 1:
		l.command("rebalance", cluster.EncodeRebalance(r.requestID()))
	case x < 3 && l.leaving == 0:
		l.leaving = r.some().id
		l.command("decommission", cluster.EncodeDecommission(cluster.Decommission{RequestID: r.requestID(), NodeID: l.leaving}))
	default:
		l.reassign()
	}
}

// reassign moves a random partition of the loads' topic or of the consumer groups.
func (l *memberLoad) reassign() {
	r := l.r
	topics := slices.DeleteFunc(slices.Clone(r.view().Topics()), func(t *cluster.Topic) bool { return t.Name != topicName && t.Name != cluster.GroupsTopic })
	t := topics[r.rng.IntN(len(topics))]
	p := &t.Partitions[r.rng.IntN(len(t.Partitions))]
	nodes := l.where(p)
	l.moves = p.Group
	what := "replica replaced"
	switch {
	case p.Moving():
		what = "sent back"
		nodes = nil
		for _, id := range p.Current {
			m, _ := p.Replica(id)
			nodes = append(nodes, m.NodeID)
		}
	case r.percent(40):
		what = "partition moved"
		nodes = nil
		for _, n := range r.shuffled()[:len(p.Voters)] {
			nodes = append(nodes, n.id)
		}
	}
	l.command(what, cluster.EncodeReassign(cluster.Reassign{RequestID: r.requestID(), Name: t.Name, Partition: p.Number, Nodes: nodes}))
}

// where is where a partition is wanted, with one broker in the place of another.
func (l *memberLoad) where(p *cluster.Partition) (nodes []uint64) {
	for _, id := range p.Voters {
		m, _ := p.Replica(id)
		nodes = append(nodes, m.NodeID)
	}
	for _, n := range l.r.shuffled() {
		if !slices.Contains(nodes, n.id) {
			nodes[l.r.rng.IntN(len(nodes))] = n.id
			break
		}
	}
	return nodes
}

// command asks again until it knows.
func (l *memberLoad) command(what string, command []byte) {
	l.busy = what
	r := l.r
	answered := false
	r.After(3e9, func() {
		if !answered {
			answered = true // a late answer is one to an earlier try
			l.command(what, command)
		}
	})
	n := r.some()
	if !n.up {
		return
	}
	n.Request(partition.Request{Op: partition.OpPropose, Group: n.parts.MetaGroup, Command: command, Deadline: r.now + 2e9}, func(reply partition.Reply) {
		if answered || reply.Err != nil {
			return
		}
		answered = true
		x, err := cluster.DecodeResult(reply.Result)
		switch {
		case err != nil:
			r.Break("members: %s: %v", what, err)
		case x.Reason == cluster.ReasonNone:
			r.Counts.Faults["members: "+what]++
			r.Log("members: %s", what)
		default:
			r.Counts.Faults["members: refused"]++
			r.Log("members: %s: %s %s", what, x.Reason, x.Message)
			if what == "decommission" {
				l.leaving = 0
			}
		}
		l.busy = ""
		r.After(r.between(200e6, 5e9), l.more)
	})
}

// Stop implements Load.
func (l *memberLoad) Stop() { l.stopped = true }

// Waiting implements Load.
func (l *memberLoad) Waiting() string {
	if l.busy == "" {
		return ""
	}
	return "the admin of members waits for: " + l.busy
}

// Check implements Load: Run.agree has held every group against what is wanted.
func (l *memberLoad) Check(*Run) error { return nil }
