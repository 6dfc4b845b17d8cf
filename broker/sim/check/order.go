package check

// checkGaps is C4 about offsets: a copy has every offset from its log start to its last, once, in order.
func (h *History) checkGaps(c *Copy) {
	if len(c.Records) > 0 && c.Records[0].Offset != c.Start {
		h.errs.add("C4: node %d begins partition %d at %d and returns %d first", c.Node, c.Partition, c.Start, c.Records[0].Offset)
	}
	for i := 1; i < len(c.Records); i++ {
		if got, want := c.Records[i].Offset, c.Records[i-1].Offset+1; got != want {
			h.errs.add("C4: node %d returns %d:%d after %d:%d", c.Node, c.Partition, got, c.Partition, want-1)
		}
	}
}

// checkOrder is C4 about clients: what a client sent to a partition is there in the order in which it sent it.
func (h *History) checkOrder() {
	type stream struct {
		client    string
		partition int32
	}
	last := map[stream]*Append{}
	for _, a := range h.appends {
		if a.Seq == 0 || a.Outcome != Acked {
			continue
		}
		k := stream{a.Client, a.Partition}
		if b := last[k]; b != nil && b.Seq < a.Seq && b.Offset >= a.Offset {
			h.errs.add("C4: %s sent %q before %q; they are at %d:%d and %d:%d", a.Client, b.Value, a.Value, b.Partition, b.Offset, a.Partition, a.Offset)
		}
		last[k] = a
	}
}
