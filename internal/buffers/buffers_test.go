package buffers

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
)

func refuses(t *testing.T, what string, do func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if recover() == nil {
			t.Errorf("%s goes unnoticed", what)
		}
	}()
	do()
}

// A size is at least what was asked for and at most a quarter more, and what came in a size goes back to it.
func TestClasses(t *testing.T) {
	for n := 1; n <= classMax+5; n = n + 1 + n/37 {
		size := classOf(n)
		if size < n || size > max(n+n/4+1, classMin) || classOf(size) != size {
			t.Errorf("%d bytes are of size %d, and that is of size %d", n, size, classOf(size))
		}
	}
}

// The last reference gives memory back, not one before it, and it is lent again.
func TestLastReferenceGivesBack(t *testing.T) {
	p := NewPool(1 << 20)
	a := p.Lend()
	first := &a.Get(10_000)[0]
	a.Hold()
	a.Free()
	if got := p.Idle(); got != 0 {
		t.Fatalf("%d bytes are kept while somebody holds them", got)
	}
	a.Free()
	if Poisoned {
		if *first != poisonForTest {
			t.Error("memory that was given back is as it was")
		}
		return
	}
	if got := p.Idle(); got != classOf(10_000) {
		t.Fatalf("%d bytes are kept, want %d", got, classOf(10_000))
	}
	b := p.Lend()
	if again := &b.Get(9_900)[0]; again != first || p.Idle() != 0 {
		t.Error("the memory is not used again")
	}
	if other := &b.Get(9_900)[0]; other == first {
		t.Error("the memory is lent twice")
	}
}

// What is beyond the bound is not kept, whatever is given back, nor what was made elsewhere in an odd size.
func TestIdleIsBounded(t *testing.T) {
	p := NewPool(100 << 10)
	var all []*Loan
	for range 200 {
		l := p.Lend()
		l.Get(30 << 10)
		l.Get(classMax + 1)
		l.Get(1)
		all = append(all, l)
	}
	for _, l := range all {
		l.Free()
	}
	if got := p.Idle(); got > 100<<10 || got < 60<<10 {
		t.Errorf("%d bytes are kept, the bound is %d", got, 100<<10)
	}
}

// Nothing and fresh memory need no care.
func TestNothing(t *testing.T) {
	var none *Loan
	none.Hold()
	none.Free()
	var fresh *Pool
	l := fresh.Lend()
	if got := len(l.Get(77)); got != 77 {
		t.Errorf("%d bytes, want 77", got)
	}
	l.Free()
}

func TestFreedTwice(t *testing.T) {
	p := NewPool(1 << 20)
	l := p.Lend()
	l.Get(5000)
	l.Free()
	refuses(t, "a second Free", l.Free)
	refuses(t, "a Hold after the last Free", l.Hold)
}

// Many borrow and give back at once: nobody ever sees another's bytes.
func TestNobodyShares(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	p := NewPool(1 << 20)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(g)))
			mine := byte(g + 1)
			for range 500 {
				l := p.Lend()
				b := l.Get(classMin + rng.IntN(20_000))
				for i := range b {
					b[i] = mine
				}
				l.Hold()
				l.Free()
				if bytes.Count(b, []byte{mine}) != len(b) {
					t.Errorf("seed %d: borrower %d sees bytes of another", seed, mine)
				}
				l.Free()
			}
		})
	}
	wg.Wait()
}
