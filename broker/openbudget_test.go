package broker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"lograft/segment/vfs"
)

// Groups that are opened at the same time never hold more checkpoints than the budget has room for, and one that is larger than all of it
// is opened, alone.
func TestOpenBudget(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	const room = 1000
	b := newOpenBudget(room)
	sizes := make([]int64, 200)
	for i := range sizes {
		sizes[i] = rng.Int64N(700)
		if i%20 == 0 {
			sizes[i] = room + rng.Int64N(5000)
		}
	}
	var mu sync.Mutex
	held, most, opened := int64(0), int64(0), 0
	open := b.within(func(i int) int64 { return sizes[i] }, func(i int) {
		n := min(sizes[i], room)
		mu.Lock()
		held += n
		most = max(most, held)
		mu.Unlock()
		time.Sleep(100 * time.Microsecond)
		mu.Lock()
		held -= n
		opened++
		mu.Unlock()
	})
	var all sync.WaitGroup
	for i := range sizes {
		all.Go(func() { open(i) })
	}
	all.Wait()
	if most > room || most < room/2 || opened != len(sizes) {
		t.Errorf("%d were opened, at most %d bytes were held, the budget is %d", opened, most, room)
	}
}

// A group is weighed by its largest checkpoint.
func TestCheckpointBytes(t *testing.T) {
	fs := vfs.NewMem()
	if n := checkpointBytes(fs, "nowhere"); n != 0 {
		t.Errorf("%d bytes in no directory", n)
	}
	err := fs.MkdirAll("g")
	for i, size := range []int{10, 500, 20} {
		f, e := fs.Create(fmt.Sprintf("g/%d.state", i))
		err = errors.Join(err, e)
		_, e = f.WriteAt(make([]byte, size), 0)
		err = errors.Join(err, e, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if n := checkpointBytes(fs, "g"); n != 500 {
		t.Errorf("the largest checkpoint has %d bytes, want 500", n)
	}
}
