package sim

import (
	"bufio"
	"io"
	"maps"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Whole brokers under every fault, with every kind of client, keep every promise of package check.
func TestSimSeeds(t *testing.T) {
	all := freshSeeds(t, *seedsFlag)
	total := map[string]int{}
	events, simulated := 0, int64(0)
	begin, cpu := time.Now(), cpuTime(t)
	for _, seed := range all {
		r := Simulate(seed, steps(t))
		for name, n := range r.Counts.Faults {
			total[name] += n
		}
		events, simulated = events+r.Counts.Events, simulated+r.Now
		if r.Err != nil {
			t.Fatalf("seed %d: %v\nreplay: make sim SEED=%d\nlast steps:\n%s", seed, r.Err, seed, strings.Join(r.Lines, "\n"))
		}
	}
	took, used := time.Since(begin), cpuTime(t)-cpu
	t.Logf("%d seeds, %d events; simulated %.0f s in %.1f s, %.1f s of one processor: %.0f times as fast as real time\n%s",
		len(all), events, float64(simulated)/1e9, took.Seconds(), used.Seconds(), float64(simulated)/float64(used.Nanoseconds()), Tally(total))
	for _, m := range Gentle(total, len(all)) {
		t.Errorf("too gentle: %s", m)
	}
}

// cpuTime is what this process has used so far: the machine may be busy with other things.
func cpuTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// steps is where every step of a single seed goes, nil if nobody asked.
func steps(t *testing.T) io.Writer {
	if *seedFlag == 0 || *stepsFlag == "" {
		return nil
	}
	f, err := os.Create(*stepsFlag)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(f)
	t.Cleanup(func() { w.Flush(); f.Close() })
	return w
}

// One seed makes one run, step by step.
func TestSimSeedsSameTrace(t *testing.T) {
	seed := seeds(t)[0]
	t.Logf("seed %d", seed)
	a, b := Simulate(seed, nil), Simulate(seed, nil)
	if a.Hash != b.Hash || !maps.Equal(a.Counts.Faults, b.Counts.Faults) {
		t.Fatalf("seed %d: traces %x and %x", seed, a.Hash, b.Hash)
	}
	if a.Err != nil {
		t.Fatalf("seed %d: %v\nreplay: make sim SEED=%d", seed, a.Err, seed)
	}
}
