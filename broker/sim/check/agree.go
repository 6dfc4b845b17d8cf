package check

// Saw is C3: notes that a node returned a value at an offset, whatever was promised about the read. Every node returns the same, and
// the same as ever before.
func (h *History) Saw(node uint64, partition int32, offset int64, value string) {
	p := place{partition, offset}
	old, known := h.seen[p]
	if known && old != value {
		h.errs.add("C3: node %d returns %q at %v, where %q was seen before", node, value, p, old)
		return
	}
	h.seen[p] = value
}
