package cli

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// heapFloorBytes are allocated and never touched: address space, no memory. The collector, which runs when the heap has doubled, then
// does not run every few MB over the small heap of a program that only passes bytes on.
const heapFloorBytes = 64 << 20

// What the floor costs is garbage: twice heapFloorBytes of it lie about before they are collected. A broker that is busy wants it so; one
// at rest, whose heartbeats make a few MB of garbage per second, gives the memory back and pays with a collection every few seconds.
const (
	heapPaceEvery   = time.Second
	heapBusyBytes   = 16 << 20 // allocated within heapPaceEvery
	heapCalmPeriods = 3        // in a row without so much, until the program is at rest
	heapBusyPercent = 100
	heapCalmPercent = 50 // of the floor and what is alive
)

// heapPace decides how much garbage may lie about.
type heapPace struct {
	allocated uint64 // bytes, as of the last step
	calm      int    // periods in a row
}

// step takes the bytes allocated since the start of the program, one heapPaceEvery after the step before, and gives the percentage by
// which the heap may grow between two collections.
func (p *heapPace) step(allocated uint64) int {
	if allocated-p.allocated >= heapBusyBytes {
		p.calm = 0
	} else {
		p.calm++
	}
	p.allocated = allocated
	if p.calm >= heapCalmPeriods {
		return heapCalmPercent
	}
	return heapBusyPercent
}

// PaceHeap lets the garbage of this process take less memory while it is at rest, until ctx is done. Whoever sets GOGC decides instead.
func PaceHeap(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	t := time.NewTicker(heapPaceEvery)
	defer t.Stop()
	var pace heapPace
	percent := heapBusyPercent
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if next := pace.step(allocatedBytes()); next != percent {
			debug.SetGCPercent(next)
			percent = next
		}
	}
}

// allocatedBytes counts every byte that this process has allocated.
func allocatedBytes() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s[0].Value.Uint64()
}
