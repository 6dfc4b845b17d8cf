// Package sim runs whole brokers in one process under one loop: fake time, fake network, crashable disks (segment/vfs.Mem) and
// drifting clocks. One seed decides everything that happens; the same seed gives the same trace hash.
//
// What runs is the real code: segment logs, Raft, partitions, workers, syncer, controller, sessions and the client's cores. What
// stands in for it: gRPC streams and the peer mesh are queues with delays (the frames are encoded and decoded by the real codec),
// and the journal is the twin of segment/journal, because walstore works on real files only.
package sim

import (
	"container/heap"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"math/rand/v2"

	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// Options says how rough the world is. Times are ns.
type Options struct {
	Seed    uint64
	Brokers int
	Workers int // per broker

	NetDelayMin, NetDelayMax   int64
	DiskDelayMin, DiskDelayMax int64
	LossPercent, DupPercent    int
	AnswerLossPercent          int // of answers to single requests
	StreamBreakPermille        int // of messages of clients
	TickEvery                  int64
	ClockOffsetMaxMs           int64
	SegmentBytes               int64
	TailCacheBytes             int
	CatchUpBytes               int64  // 0: the broker's default
	MessageBytes               uint64 // likewise
	FillBytesPerTick           int    // likewise
	PreferWindows              int    // 0: leadership stays where it is
	DiskReserve                int64  // bytes that a broker keeps free on a disk with a bound
	AppendBytesMax             int64  // of a broker's clients together; 0: the default
}

// DefaultOptions is a small cluster with a mildly bad network; segments are so small that they roll and are sealed, 4 to 32 KiB.
func DefaultOptions(seed uint64) Options {
	return Options{Seed: seed, Brokers: 3, Workers: 2, NetDelayMin: 50e3, NetDelayMax: 3e6, DiskDelayMin: 100e3, DiskDelayMax: 2e6,
		LossPercent: 1, DupPercent: 1, TickEvery: 100e6, ClockOffsetMaxMs: 500, SegmentBytes: 4 << 10 << (seed % 4), TailCacheBytes: 64 << 10, PreferWindows: 3, DiskReserve: 256 << 10}
}

// World is the one loop. Nothing in it runs beside anything else.
type World struct {
	opts  Options
	rng   *rand.Rand
	now   int64
	queue eventQueue
	seq   uint64
	nodes []*Node
	cuts  map[link]bool
	slow  map[link]int64 // extra delay of a link, at most, ns
	// leaders are who led each term of each group.
	leaders map[groupTerm]uint64
	// newest is the newest metadata that any broker has applied; retired are the replicas that are gone for good.
	newest  *cluster.View
	retired map[replicaKey]bool
	victim  *Node    // whose files rotted, nil: nobody's
	rot     []rotten // what was turned in them
	cutFill bool     // the next fill loses one of its ends
	calm    bool     // no fault begins any more
	// onSettled is called when a leader reports a membership; nil: nobody asked.
	onSettled func(*Node, partition.Settled)
	broken    error // the first contradiction that a broker itself showed
	trace     hash.Hash64
	lines     []string  // last steps, for a failing seed
	steps     io.Writer // takes every step; nil: none does
	Counts    Counts
}

// Counts is what a run went through: a gentle simulation proves nothing.
type Counts struct {
	Events, Frames, FramesLost, FramesDup, Rounds, Crashes, PowerCuts, Restarts, Partitions, LeaderChanges, Seals, Damages, Repairs, Fills, Installs, Losts, Wholes int

	// Faults that were done, by name.
	Faults map[string]int
}

type event struct {
	at  int64
	seq uint64 // ties are broken by the order of scheduling
	do  func()
}

type eventQueue []*event

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	if q[i].at != q[j].at {
		return q[i].at < q[j].at
	}
	return q[i].seq < q[j].seq
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(*event)) }
func (q *eventQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return e
}

// NewWorld makes a world without brokers.
func NewWorld(o Options) *World {
	return &World{opts: o, rng: rand.New(rand.NewPCG(o.Seed, 0x10617af7)), cuts: map[link]bool{}, slow: map[link]int64{}, leaders: map[groupTerm]uint64{}, retired: map[replicaKey]bool{}, Counts: Counts{Faults: map[string]int{}}, trace: fnv.New64a()}
}

// Now is the simulated monotonic time, ns.
func (w *World) Now() int64 { return w.now }

// Rand is the world's only source of chance.
func (w *World) Rand() *rand.Rand { return w.rng }

// After schedules do at now + delay.
func (w *World) After(delay int64, do func()) {
	w.seq++
	heap.Push(&w.queue, &event{at: w.now + delay, seq: w.seq, do: do})
}

// RunFor runs everything that happens in the next d ns.
func (w *World) RunFor(d int64) {
	end := w.now + d
	for len(w.queue) > 0 && w.queue[0].at <= end {
		w.step()
	}
	w.now = end
}

// RunUntil runs until done, at most d ns, and reports whether it was done.
func (w *World) RunUntil(d int64, done func() bool) bool {
	end := w.now + d
	for !done() {
		if len(w.queue) == 0 || w.queue[0].at > end {
			w.now = end
			return done()
		}
		w.step()
	}
	return true
}

func (w *World) step() {
	e := heap.Pop(&w.queue).(*event)
	w.now = e.at
	w.Counts.Events++
	defer w.lightsOut()
	e.do()
}

// lightsOut ends the broker whose power went in the middle of the event.
func (w *World) lightsOut() {
	switch p := recover().(type) {
	case nil:
	case powerCut:
		p.node.cutOff(p.during)
	default:
		panic(p)
	}
}

// Break notes a contradiction that a broker itself showed; Broken gives the first.
func (w *World) Break(format string, args ...any) {
	w.Log("BROKEN: "+format, args...)
	if w.broken == nil {
		w.broken = fmt.Errorf(format, args...)
	}
}

// Broken is the first contradiction that a broker itself showed, nil if none.
func (w *World) Broken() error { return w.broken }

// linesMax is how many steps of the log a failing run shows.
const linesMax = 400

// Log notes a step in the trace and in the log that a person can read.
func (w *World) Log(format string, args ...any) {
	line := w.Note(format, args...)
	if len(w.lines) == linesMax {
		copy(w.lines, w.lines[1:])
		w.lines = w.lines[:linesMax-1]
	}
	w.lines = append(w.lines, line)
}

// Note notes a step in the trace and in the file of -steps only: there are too many of its kind to show with a failure.
func (w *World) Note(format string, args ...any) string {
	line := fmt.Sprintf("%12.6f "+format, append([]any{float64(w.now) / 1e9}, args...)...)
	w.trace.Write([]byte(line))
	if w.steps != nil {
		fmt.Fprintln(w.steps, line)
	}
	return line
}

// Trace is the hash over every step so far: equal for equal seeds.
func (w *World) Trace() uint64 { return w.trace.Sum64() }

// Lines is the end of the log.
func (w *World) Lines() []string { return w.lines }

// between draws a duration in [lo, hi].
func (w *World) between(lo, hi int64) int64 {
	if hi <= lo {
		return lo
	}
	return lo + w.rng.Int64N(hi-lo+1)
}

func (w *World) percent(p int) bool { return p > 0 && w.rng.IntN(100) < p }

// Node gives broker id, 1 to Options.Brokers.
func (w *World) Node(id uint64) *Node { return w.nodes[id-1] }
