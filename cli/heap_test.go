package cli

import "testing"

// A program is at rest after three calm periods in a row, and busy with the first that is not.
func TestHeapPace(t *testing.T) {
	const busy, calm = heapBusyBytes, heapBusyBytes - 1
	var p heapPace
	total := uint64(0)
	for i, s := range []struct {
		bytes uint64
		want  int
	}{
		{busy, heapBusyPercent},
		{calm, heapBusyPercent}, {calm, heapBusyPercent}, {calm, heapCalmPercent}, {0, heapCalmPercent},
		{busy, heapBusyPercent},
		{calm, heapBusyPercent}, {0, heapBusyPercent}, {busy + 1, heapBusyPercent},
		{calm, heapBusyPercent}, {calm, heapBusyPercent}, {calm, heapCalmPercent},
	} {
		total += s.bytes
		if got := p.step(total); got != s.want {
			t.Fatalf("period %d, %d bytes allocated: %d %%, want %d %%", i, s.bytes, got, s.want)
		}
	}
}

// The counter that the pace rests on exists in this Go and counts.
func TestAllocatedBytesCounts(t *testing.T) {
	before := allocatedBytes()
	kept := make([][]byte, 0, 64)
	for range 64 {
		kept = append(kept, make([]byte, 1<<20))
	}
	if grown := allocatedBytes() - before; before == 0 || grown < uint64(len(kept))<<20 {
		t.Fatalf("%d bytes before, %d more after allocating %d MiB", before, grown, len(kept))
	}
}
