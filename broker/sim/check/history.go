// Package check judges what clients saw of brokers under faults. It stands apart from what it judges: it imports nothing of this
// module, knows partitions by number and records by their values, and every value is sent once.
//
// The names are those of the fault design: C1 nothing acknowledged is lost, C2 no phantom and no duplicate, C3 one offset holds one
// value everywhere and for ever, C4 order per client and offsets without gaps, C5 appends and reads are linearizable, C6 a definite
// failure is never visible, C7 replicas are byte-identical, C8 service comes back in bounded time.
//
// Times are ns of one clock. An append whose outcome is never known stays open to the end of the history: it may be there or not.
package check

import (
	"fmt"
	"slices"
)

// Outcome is what a client was told about an append.
type Outcome uint8

// Open: nothing, or that it is unknown. Acked: it is there, at Append.Offset. Failed: it certainly is not and never will be.
const (
	Open Outcome = iota
	Acked
	Failed
)

// Append is one record on its way.
type Append struct {
	Client    string
	Seq       int // place in the client's order of sending; 0: the client promised none
	Partition int32
	Value     string
	Expected  int64 // next offset that the log must have; -1: any
	Call      int64
	Return    int64 // of an outcome that is not Open
	Outcome   Outcome
	Offset    int64 // of Acked
	// Next is the next offset that refused the append because it was not Expected; -1: refused for another reason.
	Next int64
}

// Ack ends the append: it is at offset.
func (a *Append) Ack(at, offset int64) { a.Outcome, a.Return, a.Offset = Acked, at, offset }

// Fail ends the append: it is nowhere. next is the offset that a condition was compared with, -1 if it failed for another reason.
func (a *Append) Fail(at, next int64) { a.Outcome, a.Return, a.Next = Failed, at, next }

// place is where a record stands.
type place struct {
	partition int32
	offset    int64
}

func (p place) String() string { return fmt.Sprintf("%d:%d", p.partition, p.offset) }

// read is a linearizable answer: the value at an offset, or where the partition ends.
type read struct {
	node      uint64
	partition int32
	offset    int64 // -1: the end was asked
	value     string
	end       int64
	call, ret int64
}

// History is everything that clients sent and saw. It is used by one goroutine.
type History struct {
	appends []*Append
	byValue map[string]*Append
	reads   []read
	seen    map[place]string
	starts  map[startKey]int64
	trimmed map[int32]int64 // highest log start that anybody showed
	asked   map[int32]int64 // highest log start that anybody asked for
	errs    findings
}

type startKey struct {
	node      uint64
	partition int32
}

// NewHistory is an empty history.
func NewHistory() *History {
	return &History{byValue: map[string]*Append{}, seen: map[place]string{}, starts: map[startKey]int64{}, trimmed: map[int32]int64{}, asked: map[int32]int64{}}
}

// Begin notes that a client sends a record at a time; the values of a history differ.
func (h *History) Begin(a Append) *Append {
	a.Outcome, a.Next = Open, -1
	if _, twice := h.byValue[a.Value]; twice {
		h.errs.add("the test sent %q twice", a.Value)
	}
	p := &a
	h.appends = append(h.appends, p)
	h.byValue[a.Value] = p
	return p
}

// ReadAt notes that a node answered the record at an offset. A read that begins after an append was acknowledged must find it.
func (h *History) ReadAt(node uint64, partition int32, offset int64, value string, call, ret int64) {
	h.reads = append(h.reads, read{node: node, partition: partition, offset: offset, value: value, call: call, ret: ret})
	h.Saw(node, partition, offset, value)
}

// ReadEnd notes that a node answered linearizably where a partition ends: an offset answer, an empty fetch, or a refusal of an offset
// above.
func (h *History) ReadEnd(node uint64, partition int32, end, call, ret int64) {
	h.reads = append(h.reads, read{node: node, partition: partition, offset: -1, end: end, call: call, ret: ret})
}

// Session notes that a node answered a read that asked for at least next records to be visible.
func (h *History) Session(node uint64, partition int32, next, end int64) {
	if end < next {
		h.errs.add("session: node %d shows partition %d up to %d to a client that knows of %d", node, partition, end, next)
	}
}

// Asked notes that somebody asks to give up what is before an offset.
func (h *History) Asked(partition int32, before int64) {
	h.asked[partition] = max(h.asked[partition], before)
}

// AskedMax is the highest log start that anybody asked for.
func (h *History) AskedMax(partition int32) int64 { return h.asked[partition] }

// Begins is the highest log start that any node showed.
func (h *History) Begins(partition int32) int64 { return h.trimmed[partition] }

// Shown is the highest log start that a node is known to have shown: the floor of what it is asked from now on.
func (h *History) Shown(node uint64, partition int32) int64 {
	return h.starts[startKey{node, partition}]
}

// Start notes that a node says where a partition begins, to a question that was asked when it had Shown the floor: a trim never
// un-happens on one replica, and nothing is given up that nobody asked for.
func (h *History) Start(node uint64, partition int32, start, floor int64) {
	if start < floor {
		h.errs.add("trim: node %d shows partition %d from %d on after it had begun at %d", node, partition, start, floor)
	}
	if start > h.asked[partition] {
		h.errs.add("C1: node %d shows partition %d from %d on; nobody asked to give up more than what is before %d", node, partition, start, h.asked[partition])
	}
	k := startKey{node, partition}
	h.starts[k] = max(h.starts[k], start)
	h.trimmed[partition] = max(h.trimmed[partition], start)
}

// Rebuilt says that a node's copies begin anew: its disk was lost, so what it showed before binds it no more.
func (h *History) Rebuilt(node uint64) {
	for k := range h.starts {
		if k.node == node {
			delete(h.starts, k)
		}
	}
}

// Appends are all appends in the order in which they began; Reads counts the linearizable answers.
func (h *History) Appends() []*Append { return h.appends }

// Reads is the number of linearizable answers.
func (h *History) Reads() int { return len(h.reads) }

// Broken is the first contradiction that was found while the history was made, nil if none.
func (h *History) Broken() error { return h.errs.err() }

// Record is one record of a copy.
type Record struct {
	Offset int64
	Value  string
}

// Copy is what one node returns of one partition, from its log start to its end.
type Copy struct {
	Node      uint64
	Partition int32
	Start     int64 // the log start that the node shows
	Records   []Record
}

// Check judges the history against what the nodes hold at its end.
func (h *History) Check(copies []Copy) error {
	for i := range copies {
		c := &copies[i]
		for _, r := range c.Records {
			h.Saw(c.Node, c.Partition, r.Offset, r.Value)
		}
	}
	for i := range copies {
		h.checkGaps(&copies[i])
		h.checkLost(&copies[i])
	}
	h.checkSeen()
	h.checkOrder()
	if err := h.errs.err(); err != nil {
		return err // what is wrong already need not be linearizable
	}
	for _, p := range h.partitions() {
		if err := h.Linearizable(p); err != nil {
			return err
		}
	}
	return nil
}

func (h *History) partitions() (all []int32) {
	for _, a := range h.appends {
		if !slices.Contains(all, a.Partition) {
			all = append(all, a.Partition)
		}
	}
	return all
}

// findings collects contradictions; the first ones are spelt out.
type findings struct {
	lines []string
	more  int
}

const findingsMax = 8

func (f *findings) add(format string, args ...any) {
	if len(f.lines) == findingsMax {
		f.more++
		return
	}
	f.lines = append(f.lines, fmt.Sprintf(format, args...))
}

func (f *findings) err() error {
	if len(f.lines) == 0 {
		return nil
	}
	text := ""
	for i, l := range f.lines {
		if i > 0 {
			text += "\n"
		}
		text += l
	}
	if f.more > 0 {
		text += fmt.Sprintf("\nand %d more", f.more)
	}
	return fmt.Errorf("%s", text)
}
