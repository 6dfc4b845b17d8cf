package segment

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path"
	"sync"
	"testing"

	"lograft/segment/vfs"
)

func readAll(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	b, err := readWhole(fs, name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// feed appends frames in random portions, with detours over entries that a conflict replaces, syncs and seals at random moments.
func feed(t testing.TB, rng *rand.Rand, o Options, frames []Frame) *Log {
	t.Helper()
	l, _ := mustOpen(t, o)
	applied := uint64(1)
	for len(frames) > 0 {
		n := min(1+rng.IntN(5), len(frames))
		if rng.IntN(4) == 0 && frames[0].Term > l.LastTerm() {
			m := &maker{rng: rng, index: l.LastIndex(), term: l.LastTerm(), offset: l.NextOffset(), time: l.LastAppendTime()}
			mustAppend(t, l, m.frames(1+rng.IntN(6))...)
		}
		if rng.IntN(2) == 0 {
			mustSync(t, l)
		}
		mustAppend(t, l, frames[:n]...)
		if rng.IntN(8) == 0 {
			mustSync(t, l)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l, _ = mustOpen(t, o)
		}
		committed := frames[n-1].Index
		frames = frames[n:]
		if rng.IntN(3) == 0 {
			mustSync(t, l)
			applied = max(applied, committed)
			sealAll(t, l, applied)
		}
	}
	mustSync(t, l)
	sealAll(t, l, l.LastIndex())
	return l
}

func sealAll(t testing.TB, l *Log, applied uint64) {
	t.Helper()
	l.SealNext(applied)
	for {
		lasts := l.ClosedLasts()
		if len(lasts) == 0 {
			return
		}
		task := l.BeginSeal(lasts[0], stateOf(lasts[0]))
		if task == nil {
			return
		}
		if err := l.EndSeal(task, task.Do()); err != nil {
			t.Fatal(err)
		}
	}
}

// Two replicas that were fed the same log in different portions, over conflicts and restarts, hold identical files.
func TestReplicasIdentical(t *testing.T) {
	seed := flagOrEnv(*crashSeed, "SEGMENT_SEED", 1)
	for s := seed; s < seed+20; s++ {
		rng := newRand(t, s)
		m := newMaker(rng)
		var frames []Frame
		for range 20 {
			frames = append(frames, m.frames(1+rng.IntN(20))...)
			m.term++
		}
		var logs [2]*vfs.Mem
		for i := range logs {
			logs[i] = vfs.NewMem()
			l := feed(t, rng, testOptions(logs[i]), frames)
			mustCheck(t, l, Start{Index: 1, Term: 1}, frames)
			if err := l.Verify(); err != nil {
				t.Fatal(err)
			}
		}
		names, err := logs[0].List("data/g")
		if err != nil {
			t.Fatal(err)
		}
		other, err := logs[1].List("data/g")
		if err != nil || fmt.Sprint(names) != fmt.Sprint(other) || len(names) < 5 {
			t.Fatalf("files %v and %v, %v", names, other, err)
		}
		for _, name := range names {
			name = path.Join("data/g", name)
			if !bytes.Equal(readAll(t, logs[0], name), readAll(t, logs[1], name)) {
				t.Fatalf("%s differs", name)
			}
		}
	}
}

// Readers on other goroutines see every batch intact while the owner appends, replaces, syncs, seals and trims.
func TestConcurrentReaders(t *testing.T) {
	rng := newRand(t, 5)
	o := testOptions(vfs.OS())
	o.Dir = t.TempDir() + "/groups/g"
	l, _ := mustOpen(t, o)
	tasks := make(chan *ReadTask, 64)
	var wg sync.WaitGroup
	var mu sync.Mutex
	reads, bad := 0, error(nil)
	for range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for task := range tasks {
				task.Do()
				mu.Lock()
				reads += len(task.Frames)
				if task.Err != nil && task.Err != ErrStale && bad == nil {
					bad = task.Err
				}
				for _, f := range task.Frames {
					if f.Kind == KindData && checkBatch(f.Payload) != nil {
						bad = fmt.Errorf("entry %d is torn", f.Index)
					}
				}
				mu.Unlock()
			}
		}()
	}
	w := &workload{rng: rng, m: newMaker(rng), l: l, o: o, start: o.Start, committed: 1, applied: 1, trimmed: 1, saw: map[string]int{}}
	for range 2000 {
		if err := w.step(); err != nil {
			t.Fatal(err)
		}
		if last, first := l.LastIndex(), l.FirstIndex(); last >= first {
			lo := first + rng.Uint64N(last-first+1)
			if _, err := l.Entries(nil, lo, last+1, 500); err == ErrCold {
				tasks <- l.ColdEntries(lo, last+1, uint64(rng.IntN(5000)))
			}
			if from := l.StartOffset() + rng.Int64N(l.NextOffset()-l.StartOffset()+1); rng.IntN(2) == 0 {
				tasks <- l.ColdRead(from, l.NextOffset(), rng.IntN(5000))
			} else {
				tasks <- l.SeekTime(990 + rng.Int64N(max(l.LastAppendTime()-980, 1)))
			}
		}
	}
	close(tasks)
	wg.Wait()
	if bad != nil || reads == 0 {
		t.Fatalf("%d reads: %v", reads, bad)
	}
	t.Logf("%d frames read, %v", reads, w.saw)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
