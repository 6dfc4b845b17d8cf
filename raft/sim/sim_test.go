package sim

import (
	"bytes"
	"flag"
	"os"
	"strconv"
	"testing"
	"time"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run this seed only (or env SIM_SEED)")
	seedsFlag = flag.Int("seeds", 120, "how many seeds to run")
	baseFlag  = flag.Uint64("base", 0, "first seed; 0: from the clock")
	traceFlag = flag.String("history", "", "write every event of -seed to this file")
)

func oneSeed(t *testing.T) (uint64, bool) {
	if *seedFlag != 0 {
		return *seedFlag, true
	}
	if env := os.Getenv("SIM_SEED"); env != "" {
		seed, err := strconv.ParseUint(env, 10, 64)
		if err != nil {
			t.Fatalf("SIM_SEED=%q: %v", env, err)
		}
		return seed, true
	}
	return 0, false
}

// Whole clusters under faults keep every promise of the checkers.
func TestSim(t *testing.T) {
	if seed, ok := oneSeed(t); ok {
		t.Logf("seed %d", seed)
		opts := Options{Seed: seed}
		if *traceFlag != "" {
			f, err := os.Create(*traceFlag)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			opts.Trace = f
		}
		r := Run(opts)
		t.Logf("hash %x\n%s", r.Hash, r.Stats.String())
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		return
	}
	base := *baseFlag
	if base == 0 {
		base = uint64(time.Now().UnixNano()) >> 10
	}
	n := *seedsFlag
	if testing.Short() {
		n = min(n, 30)
	}
	t.Logf("seeds %d to %d", base, base+uint64(n)-1)
	var total Stats
	failed := 0
	for i := range n {
		r := Run(Options{Seed: base + uint64(i)})
		total.Add(&r.Stats)
		if r.Err != nil {
			t.Errorf("seed %d: %v\nreplay: go test ./raft/sim -run TestSim -seed %d", r.Seed, r.Err, r.Seed)
			if failed++; failed >= 10 {
				t.Fatal("enough")
			}
		}
	}
	t.Logf("\n%s", total.String())
	for _, m := range total.Gentle() {
		t.Errorf("too gentle: %s", m)
	}
}

// The same seed makes the same run, event by event.
func TestReplay(t *testing.T) {
	base := uint64(time.Now().UnixNano()) >> 10
	if seed, ok := oneSeed(t); ok {
		base = seed
	}
	t.Logf("seed %d", base)
	for seed := base; seed < base+3; seed++ {
		var a, b bytes.Buffer
		one, two := Run(Options{Seed: seed, Trace: &a}), Run(Options{Seed: seed, Trace: &b})
		if one.Hash != two.Hash || one.Stats != two.Stats || !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Fatalf("seed %d: hash %x, then %x", seed, one.Hash, two.Hash)
		}
		if other := Run(Options{Seed: seed + 1000}); other.Hash == one.Hash {
			t.Fatalf("seeds %d and %d have one hash", seed, seed+1000)
		}
	}
}
