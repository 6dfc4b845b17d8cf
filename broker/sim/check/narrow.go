package check

import (
	"cmp"
	"fmt"
	"slices"
)

// operation is one call of a history with its interval.
type operation struct {
	input
	from, to  int64 // as the client saw them, ns
	call, ret int64 // after narrow: finer, and no wider
}

func (o *operation) String() string {
	return fmt.Sprintf("%s [%.6f, %.6f]", describe(o.input, nil), float64(o.from)/1e9, float64(o.to)/1e9)
}

const forever = int64(1) << 42 // later than any run ends, ns

// operations are what clients did to a partition. An open append that anybody saw has its offset and no end.
func (h *History) operations(partition int32) []operation {
	offsets := map[string]int64{}
	taken := map[int64]bool{}
	for p, v := range h.seen {
		if p.partition == partition {
			offsets[v] = p.offset
			taken[p.offset] = true
		}
	}
	var ops []operation
	add := func(from, to int64, in input) { ops = append(ops, operation{input: in, from: from, to: to}) }
	for _, a := range h.appends {
		if a.Partition != partition {
			continue
		}
		switch a.Outcome {
		case Acked:
			taken[a.Offset] = true
			add(a.Call, a.Return, input{op: opAppend, value: a.Value, expected: a.Expected, offset: a.Offset})
		case Failed:
			if a.Next >= 0 {
				add(a.Call, a.Return, input{op: opRefused, expected: a.Expected, offset: a.Next})
			}
		case Open:
			if offset, seen := offsets[a.Value]; seen {
				add(a.Call, forever, input{op: opAppend, value: a.Value, expected: a.Expected, offset: offset})
			}
		}
	}
	for offset := range h.trimmed[partition] { // open appends that were trimmed before anybody saw them
		if !taken[offset] {
			add(0, forever, input{op: opAppend, expected: -1, offset: offset})
		}
	}
	for _, r := range h.reads {
		switch {
		case r.partition != partition:
		case r.offset >= 0:
			add(r.call, r.ret, input{op: opReadAt, value: r.value, offset: r.offset})
		default:
			add(r.call, r.ret, input{op: opReadEnd, offset: r.end})
		}
	}
	return ops
}

// slotBits is room below a time for the order of what may happen at that time.
const slotBits = 20

// narrow shrinks every interval to what all orders have in common, so that porcupine does not search through orders that can't be:
// appends happen in the order of their offsets, an answer about the end k happens after append k-1 and before append k, a record is
// read after its append. It sorts ops and returns the first operation that has no room left, nil if all have.
//
// A slot is one place in that order: 2k for answers that the end is k, 2k+1 for append k.
func narrow(ops []operation) *operation {
	slot := func(o *operation) int64 {
		if o.op == opAppend || o.op == opReadAt {
			return 2*o.offset + 1
		}
		return 2 * o.offset
	}
	slices.SortStableFunc(ops, func(a, b operation) int {
		return cmp.Or(cmp.Compare(slot(&a), slot(&b)), cmp.Compare(a.op, b.op), cmp.Compare(a.from, b.from))
	})
	pass := func(o *operation) bool { return o.op == opReadAt } // it orders nothing behind it
	earliest := int64(0)                                        // of everything in earlier slots
	for i := 0; i < len(ops); {
		in := earliest
		at := slot(&ops[i])
		for ; i < len(ops) && slot(&ops[i]) == at; i++ {
			o := &ops[i]
			o.call = max(o.from, in)
			if !pass(o) {
				earliest = max(earliest, o.call)
				if o.op == opAppend {
					in = o.call // for the reads of this record, which follow it
				}
			}
		}
	}
	latest := forever // of everything in later slots
	for i := len(ops) - 1; i >= 0; {
		in := latest
		at := slot(&ops[i])
		for ; i >= 0 && slot(&ops[i]) == at; i-- {
			o := &ops[i]
			if pass(o) {
				o.ret = o.to
				in = min(in, o.to) // the append of what is read is not later
				continue
			}
			o.ret = min(o.to, in)
			latest = min(latest, o.ret)
		}
	}
	var worst *operation
	for i := range ops {
		o := &ops[i]
		if o.call > o.ret && (worst == nil || o.to < worst.to) {
			worst = o
		}
		o.call = o.call<<slotBits | slot(o)&(1<<slotBits-1)
		o.ret = o.ret<<slotBits | (1<<slotBits - 1)
	}
	return worst
}
