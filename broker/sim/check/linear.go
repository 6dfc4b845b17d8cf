package check

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"
)

// The model of a partition: append puts a value at the end and answers its offset, a conditional append refuses if the end is
// elsewhere and names it, a read answers the value at an offset, or the end.

type logOp uint8

const (
	opAppend logOp = iota
	opRefused
	opReadAt
	opReadEnd
)

type input struct {
	op       logOp
	value    string
	expected int64
	offset   int64 // of a read, and of an append whose offset is known
}

// log is a state: an immutable list from the newest record to the oldest, with a hash over all of it.
type log struct {
	length int64
	hash   uint64
	value  string
	before *log
}

func (l *log) add(value string) *log {
	hash := l.hash
	for i := range len(value) {
		hash = (hash ^ uint64(value[i])) * 1099511628211
	}
	return &log{length: l.length + 1, hash: (hash ^ 0xff) * 1099511628211, value: value, before: l}
}

func (l *log) at(offset int64) string {
	for l.length > offset+1 {
		l = l.before
	}
	return l.value
}

func stepLog(state, in, _ any) (bool, any) {
	l, i := state.(*log), in.(input)
	switch i.op {
	case opAppend:
		if i.offset >= 0 && i.offset != l.length || i.expected >= 0 && i.expected != l.length {
			return false, l
		}
		return true, l.add(i.value)
	case opRefused:
		return l.length != i.expected && l.length == i.offset, l
	case opReadAt:
		return i.offset < l.length && l.at(i.offset) == i.value, l
	default:
		return l.length == i.offset, l
	}
}

func sameLog(a, b any) bool {
	x, y := a.(*log), b.(*log)
	return x.length == y.length && x.hash == y.hash
}

func describe(in, _ any) string {
	i := in.(input)
	switch i.op {
	case opAppend:
		return fmt.Sprintf("append %q -> %d (expected %d)", i.value, i.offset, i.expected)
	case opRefused:
		return fmt.Sprintf("append expecting %d -> refused, the end is %d", i.expected, i.offset)
	case opReadAt:
		return fmt.Sprintf("read %d -> %q", i.offset, i.value)
	}
	return fmt.Sprintf("end -> %d", i.offset)
}

// linearTime bounds the search; a history that can't be judged in it counts as a failure, not as a success.
const linearTime = 60 * time.Second

// Linearizable is C5 for one partition, whichever nodes served. An open append that was seen anywhere has its offset and no end; one
// that nobody ever saw, final copies included, has no effect that the history could show, and is left out.
func (h *History) Linearizable(partition int32) error {
	timed := h.operations(partition)
	if worst := narrow(timed); worst != nil {
		return fmt.Errorf("C5: partition %d: no order of %d operations has a place for: %s", partition, len(timed), worst)
	}
	ops := make([]porcupine.Operation, len(timed))
	for i, o := range timed {
		ops[i] = porcupine.Operation{ClientId: i, Input: o.input, Call: o.call, Return: o.ret}
	}
	model := porcupine.Model{Init: func() any { return &log{hash: 14695981039346656037} }, Step: stepLog, Equal: sameLog, DescribeOperation: describe}
	switch result, info := porcupine.CheckOperationsVerbose(model, ops, linearTime); result {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("C5: partition %d: %d operations could not be judged in %v", partition, len(ops), linearTime)
	default:
		return fmt.Errorf("C5: partition %d: %d operations are not linearizable; %s", partition, len(ops), stuck(info, ops))
	}
}

// stuck names the operation that no order can place after the longest one that works.
func stuck(info porcupine.LinearizationInfo, ops []porcupine.Operation) string {
	longest := 0
	var placed map[int]bool
	for _, order := range info.PartialLinearizationsOperations()[0] {
		if len(order) >= longest {
			longest = len(order)
			placed = map[int]bool{}
			for _, o := range order {
				placed[o.ClientId] = true
			}
		}
	}
	var first *porcupine.Operation
	for i := range ops {
		if o := &ops[i]; !placed[o.ClientId] && (first == nil || o.Return < first.Return) {
			first = o
		}
	}
	if first == nil {
		return "no operation can be named"
	}
	return fmt.Sprintf("%d fit, then this does not: %s", longest, describe(first.Input, nil))
}
