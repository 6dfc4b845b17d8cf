package rpc

import (
	"slices"
	"sync"
	"testing"
	"time"

	pb "lograft/api/lograft/v1"
	"lograft/broker/partition"
	"lograft/record"
)

// waiting is how many of an asker wait.
func (l *lane) waiting(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waits[name])
}

// empty reports whether all n places are free and nobody waits.
func (l *lane) empty(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.free == n && len(l.waits) == 0 && len(l.turns) == 0
}

func (l *lane) await(name string, n int) {
	for l.waiting(name) != n {
		time.Sleep(time.Millisecond)
	}
}

// All readers of a topic wake on the same append: each waits for its turn, and none is refused. Of batches that inflate far one is inflated
// at a time, small ones pass beside them, and who waits behind more of its own than may is told to come again.
func TestHerdOfPlainReaders(t *testing.T) {
	answers := NewBudget(0)
	env := &Env{Answers: answers, Plain: NewPlain(answers), asker: asker{name: "herd"}}
	read := func(batch []byte) *partition.Error {
		h, err := plainOf(env, 0, [][]byte{batch}, &pb.FetchResponse{})
		if err == nil {
			env.GiveHeld(h)
		}
		return err
	}
	large, small := sealed(t, record.CodecZstd, 0, 10, 28_500), sealed(t, record.CodecZstd, 0, 10, 100)
	if !env.Plain.large.enter(asker{name: "another"}) { // one is under way
		t.Fatal("nobody may inflate")
	}
	const herd = 200
	var done sync.WaitGroup
	refused := make(chan *partition.Error, herd)
	for range herd {
		done.Go(func() {
			if err := read(large); err != nil {
				refused <- err
			}
		})
	}
	for env.Plain.large.waiting("herd")+len(refused) < herd {
		time.Sleep(time.Millisecond)
	}
	if err := read(small); err != nil {
		t.Errorf("a small batch beside them: %v", err)
	}
	env.Plain.large.leave()
	done.Wait()
	if n := len(refused); n > 0 {
		t.Errorf("%d of %d readers of one batch are refused: %v", n, herd, <-refused)
	}

	for range laneWaitsMax {
		env.Plain.large.waits["herd"] = append(env.Plain.large.waits["herd"], make(chan struct{}))
	}
	env.Plain.large.free = 0
	if err := read(large); err == nil || err.Reason != partition.ReasonOverloaded {
		t.Errorf("one more than may wait: %v", err)
	}
	delete(env.Plain.large.waits, "herd")
	env.Plain.large.free = 1
	if answers.Used() != 0 || !env.Plain.large.empty(1) || !env.Plain.small.empty(inflateSmallMax) {
		t.Errorf("%d bytes are held, or lanes are not free, when all is over", answers.Used())
	}
}

// Whoever wants many places waits behind its own: each other asker's turn comes after one of them.
func TestLanesAreFair(t *testing.T) {
	l := newLane(1)
	if !l.enter(asker{name: "first"}) {
		t.Fatal("a lane that is free is shut")
	}
	var mu sync.Mutex
	var order []string
	var done sync.WaitGroup
	wait := func(name string, n int) {
		for range n {
			done.Go(func() {
				if !l.enter(asker{name: name}) {
					t.Errorf("%s is refused", name)
					return
				}
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				l.leave()
			})
		}
		l.await(name, n)
	}
	wait("bombs", 65)
	wait("good", 2)
	wait("late", 1)
	l.leave()
	done.Wait()
	if want := []string{"bombs", "good", "late", "bombs", "good", "bombs"}; len(order) != 68 || !slices.Equal(order[:6], want) {
		t.Errorf("the order is %v, want it to begin with %v", order, want)
	}
	if !l.empty(1) {
		t.Error("a place is lost")
	}
}

// Who waits goes when its call is over, and the place that it was given meanwhile is given to the next.
func TestLanesAreLeftByCallsThatAreOver(t *testing.T) {
	for range 200 { // that a place is given and a call is over at the same moment goes both ways
		l := newLane(1)
		l.enter(asker{name: "first"})
		over := make(chan struct{})
		var done sync.WaitGroup
		for _, name := range []string{"gone", "gone", "other"} {
			a := asker{name: name}
			if name == "gone" {
				a.over = over
			}
			n := l.waiting(name)
			done.Go(func() {
				if l.enter(a) {
					l.leave()
				} else if a.over == nil {
					t.Error("who waits is refused")
				}
			})
			l.await(name, n+1)
		}
		done.Go(func() { close(over) })
		l.leave()
		done.Wait()
		if !l.empty(1) {
			t.Fatal("a place is lost, or somebody waits for ever")
		}
	}
}
