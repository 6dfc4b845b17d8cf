package check

import "slices"

// checkLost is C1: every acknowledged record is in the copy, at its offset, unless it lies below a log start that was shown. Losses at
// the front, in the middle and at the end have different causes and are told apart.
func (h *History) checkLost(c *Copy) {
	at := make(map[int64]string, len(c.Records))
	first, last := int64(-1), int64(-1)
	for i, r := range c.Records {
		at[r.Offset] = r.Value
		if i == 0 {
			first = r.Offset
		}
		last = max(last, r.Offset)
	}
	for _, a := range h.appends {
		if a.Partition != c.Partition || a.Outcome != Acked || a.Offset < h.trimmed[a.Partition] {
			continue
		}
		value, ok := at[a.Offset]
		switch {
		case ok && value == a.Value:
		case ok:
			h.errs.add("C1: %q was acknowledged at %d:%d; node %d holds %q there", a.Value, a.Partition, a.Offset, c.Node, value)
		case a.Offset > last:
			h.errs.add("C1: %q, acknowledged at %d:%d, is lost at the end of node %d, which ends at %d", a.Value, a.Partition, a.Offset, c.Node, last+1)
		case a.Offset < first:
			h.errs.add("C1: %q, acknowledged at %d:%d, is lost at the front of node %d, which begins at %d", a.Value, a.Partition, a.Offset, c.Node, first)
		default:
			h.errs.add("C1: %q, acknowledged at %d:%d, is lost in the middle of node %d", a.Value, a.Partition, a.Offset, c.Node)
		}
	}
}

// checkSeen is C2 and C6 over everything that anybody saw at any time: what was never sent, what is at two offsets, and what was said
// to have failed must not be seen.
func (h *History) checkSeen() {
	where := map[string]place{}
	for _, p := range h.places() {
		value := h.seen[p]
		a := h.byValue[value]
		switch {
		case a == nil:
			h.errs.add("C2: %q is at %v and was never sent", value, p)
		case a.Partition != p.partition:
			h.errs.add("C2: %q was sent to partition %d and is at %v", value, a.Partition, p)
		case a.Outcome == Failed:
			h.errs.add("C6: %q was said to have failed and is at %v", value, p)
		}
		if other, twice := where[value]; twice {
			h.errs.add("C2: %q is at %v and at %v", value, other, p)
		}
		where[value] = p
	}
}

func (h *History) places() []place {
	all := make([]place, 0, len(h.seen))
	for p := range h.seen {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b place) int {
		if a.partition != b.partition {
			return int(a.partition) - int(b.partition)
		}
		return int(min(max(a.offset-b.offset, -1), 1))
	})
	return all
}
