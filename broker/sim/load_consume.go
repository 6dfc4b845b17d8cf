package sim

import (
	"errors"
	"fmt"
	"slices"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/client/core"
)

// consume is a program that follows one partition with the real client's core, from one replica or from any, in one read mode. When
// its consumer gives up it opens another one where it stands.
type consume struct {
	r       *Run
	part    int32
	replica uint64
	mode    pb.Consistency
	c       *Consumer
	next    int64
}

// consumers follow every partition on each of its replicas in both modes, and from any replica.
func consumers(r *Run) (all []Load) {
	for i := range r.Topic.Partitions {
		p := &r.Topic.Partitions[i]
		all = append(all, &consume{part: p.Number, mode: pb.Consistency_CONSISTENCY_LINEARIZABLE})
		for j := range p.Replicas {
			mode := pb.Consistency_CONSISTENCY_LINEARIZABLE
			if (i+j)%2 == 0 {
				mode = pb.Consistency_CONSISTENCY_COMMITTED
			}
			all = append(all, &consume{part: p.Number, replica: p.Replicas[j].NodeID, mode: mode})
		}
	}
	return all
}

func (l *consume) String() string {
	return fmt.Sprintf("consumer of partition %d on replica %d", l.part, l.replica)
}

// Start implements Load.
func (l *consume) Start(r *Run) {
	l.r = r
	l.open()
	l.look()
}

func (l *consume) open() {
	if p := l.r.current(l.part); l.replica != 0 && !slices.ContainsFunc(p.Replicas, func(m cluster.Replica) bool { return m.NodeID == l.replica }) {
		l.replica = l.r.replica(p).id // it moved away
	}
	l.c = l.r.newConsumer(core.ConsumerOptions{Replica: l.replica, Consistency: l.mode, FetchBytes: 4096, BufferBytes: 16 << 10, WaitNs: 2e9, TimeoutNs: 20e9},
		core.Subscription{Topic: l.r.Topic.Name, Partitions: []int32{l.part}, Start: core.Position{Offset: l.next}})
	l.c.took = l.take
}

// look opens a new consumer when the old one has given up.
func (l *consume) look() {
	if l.r.quit {
		return
	}
	if l.c.Err != nil {
		var lost *core.Error
		if errors.As(l.c.Err, &lost) && lost.Reason == core.ReasonOutOfRange && l.next < lost.LogStart {
			if asked := l.r.History.AskedMax(l.part); lost.LogStart > asked {
				l.r.Break("%v: the log begins at %d, nobody asked to give up more than what is before %d", l, lost.LogStart, asked)
			}
			l.next = lost.LogStart
		}
		l.c.Quit()
		l.open()
	}
	l.r.After(l.r.between(500e6, 2e9), l.look)
}

func (l *consume) take(got Read) {
	if got.Offset != l.next {
		l.r.Break("%v: %d follows %d", l, got.Offset, l.next-1)
	}
	l.next = got.Offset + 1
	l.r.History.Saw(l.replica, got.Partition, got.Offset, got.Value)
}

// Quit ends the program.
func (l *consume) Quit() { l.c.Quit() }

// Stop implements Load: it still has to read to the end.
func (l *consume) Stop() {}

// Waiting implements Load.
func (l *consume) Waiting() string {
	if end := l.r.ends[l.part]; l.next < end {
		return fmt.Sprintf("%v has read up to %d of %d", l, l.next, end)
	}
	return ""
}

// Check implements Load.
func (l *consume) Check(*Run) error { return nil }
