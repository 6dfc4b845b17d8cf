package sim

import "container/heap"

// event happens at a time; equal times go by rank, then in the order of birth.
type event struct {
	at   uint64
	rank uint8 // ticks first: whatever is due is delivered before a read is asked
	seq  uint64
	what string
	node uint64
	do   func()
}

const (
	rankTick uint8 = iota
	rankOther
)

type eventHeap []*event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	if a.at != b.at {
		return a.at < b.at
	}
	if a.rank != b.rank {
		return a.rank < b.rank
	}
	return a.seq < b.seq
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(*event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}

// after schedules do; node 0 means the cluster.
func (c *cluster) after(delay uint64, rank uint8, what string, node uint64, do func()) {
	c.seq++
	heap.Push(&c.queue, &event{at: c.now + delay, rank: rank, seq: c.seq, what: what, node: node, do: do})
}

// step runs the next event; false when the run has failed or nothing is left.
func (c *cluster) step() bool {
	if c.err != nil || c.queue.Len() == 0 {
		return false
	}
	e := heap.Pop(&c.queue).(*event)
	c.now = e.at
	c.stats.Events++
	c.trace.note(c.now, e.node, e.what, 0, 0)
	e.do()
	return c.err == nil
}
