package sim

import (
	"fmt"
	"strings"

	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// retention is a topic that keeps its records for a short while, under clocks that jump and run wild. While the clocks of most of the
// brokers that hold it are right, no record goes early.
type retention struct {
	r       *Run
	part    *cluster.Partition
	stopped bool
	acked   []int64          // when the append at an offset began, ns; -1: nobody knows
	wrong   int64            // when most of the clocks were last not right, ns
	starts  map[uint64]int64 // log start that a broker showed, by Node.copyKey
	gone    int64
}

// Times of the topic. Clocks of brokers are up to half a second off when all is well; who is more than clockWrongMs off is wrong. A clock
// that was wrong is remembered by the others for clockMemory.
const (
	retentionTopic   = "short"
	retentionMs      = int64(8_000)
	clockWrongMs     = int64(1_500)
	clockMemory      = int64(8e9)
	retentionSlackMs = 2 * clockWrongMs
)

func newRetention() *retention { return &retention{starts: map[uint64]int64{}} }

// Start implements Load.
func (l *retention) Start(r *Run) {
	l.r = r
	topic, ok := r.nodes[0].parts.View().TopicByName(retentionTopic)
	if !ok {
		r.Break("topic %s is not there", retentionTopic)
		return
	}
	l.part = &topic.Partitions[0]
	l.append()
	l.watch()
}

func (l *retention) append() {
	r := l.r
	if l.stopped {
		return
	}
	began := r.now
	r.appendNow(l.part, strings.Repeat("x", 400), func(reply partition.Reply) {
		if reply.Err != nil {
			return
		}
		for int64(len(l.acked)) <= reply.BaseOffset {
			l.acked = append(l.acked, -1)
		}
		l.acked[reply.BaseOffset] = began
	})
	r.After(r.between(50e6, 500e6), l.append)
}

// watch looks at the clocks, and asks a broker where the partition begins.
func (l *retention) watch() {
	r := l.r
	if r.quit {
		return
	}
	if t, ok := r.view().TopicByName(retentionTopic); ok {
		l.part = &t.Partitions[0]
	}
	right := 0
	for _, m := range l.part.Replicas {
		if n := r.Node(m.NodeID); abs(n.wall()-simEpoch-r.now/1e6) <= clockWrongMs {
			right++
		}
	}
	if 2*right <= len(l.part.Replicas) || l.part.Moving() { // who votes while it is on the move, only its leader knows
		l.wrong = r.now
	}
	n, g := r.replica(l.part), l.part.Group
	asked := n.copyKey(g)
	q := partition.Request{Op: partition.OpListOffset, Group: l.part.Group, Which: partition.EarliestOffset, Consistency: partition.Committed, Deadline: r.now + 1e9}
	floor := l.starts[asked]
	n.Request(q, func(reply partition.Reply) {
		if reply.Err == nil && n.copyKey(g) == asked {
			l.shown(n, asked, reply.LogStart, floor)
		}
	})
	r.After(r.between(20e6, 200e6), l.watch)
}

func abs(v int64) int64 { return max(v, -v) }

func (l *retention) shown(n *Node, asked uint64, start, floor int64) {
	r := l.r
	if start < floor {
		r.Break("retention: node %d shows log start %d after %d", n.id, start, floor)
	}
	l.starts[asked] = max(l.starts[asked], start)
	if start <= l.gone {
		return
	}
	r.Counts.Faults["record aged out"] += int(start - l.gone)
	l.gone = start
	if start > int64(len(l.acked)) || l.acked[start-1] < 0 {
		return
	}
	began := l.acked[start-1]
	if age := (r.now - began) / 1e6; began > l.wrong+clockMemory && age < retentionMs-retentionSlackMs {
		r.Break("retention: record %d is gone after %d ms, the topic keeps records for %d ms and most clocks were right", start-1, age, retentionMs)
	}
}

// Stop implements Load.
func (l *retention) Stop() { l.stopped = true }

// Waiting implements Load.
func (l *retention) Waiting() string { return "" }

// Check implements Load.
func (l *retention) Check(*Run) error { return nil }

// createRetained makes the topic of the load before anything goes wrong.
func (r *Run) createRetained() error {
	_, err := r.CreateTopic(retentionTopic, 1, 3, cluster.ConfigEntry{Key: "retention.ms", Value: fmt.Sprint(retentionMs)})
	return err
}
