package segment

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"testing"

	"lograft/segment/vfs"
)

var (
	crashWorkloads = flag.Int("workloads", 0, "random workloads of TestCrash (default 24, SEGMENT_WORKLOADS)")
	crashSeed      = flag.Uint64("seed", 0, "first seed of the random tests (SEGMENT_SEED)")
)

func flagOrEnv(set uint64, env string, otherwise uint64) uint64 {
	if set > 0 {
		return set
	}
	if n, err := strconv.ParseUint(os.Getenv(env), 10, 64); err == nil && n > 0 {
		return n
	}
	return otherwise
}

var errPower = errors.New("the power is gone")

// power counts the changes of a file system and fails the one numbered at, and every call after it.
type power struct {
	mu    sync.Mutex
	n, at int
	rng   *rand.Rand
	off   bool
}

func (p *power) Before(c vfs.Call) vfs.Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.Op.Changes() {
		p.n++
	}
	if p.off || p.at > 0 && p.n == p.at && c.Op.Changes() {
		short := 0
		if !p.off && c.Op == vfs.OpWrite && c.Bytes > 0 {
			short = p.rng.IntN(c.Bytes + 1)
		}
		p.off = true
		return vfs.Fault{Err: errPower, Short: short}
	}
	return vfs.Fault{}
}

// promises is the dumb twin of the journal: always consistent, latest wins.
type promises struct {
	mark   Mark
	commit uint64
}

// workload drives a log with random calls and keeps the twin: a slice of what was appended.
type workload struct {
	rng       *rand.Rand
	o         Options
	mem       *vfs.Mem
	power     *power
	l         *Log
	m         *maker
	start     Start
	want      []Frame   // entries after start, trimmed ones too
	histories [][]Frame // logs that a conflict replaced and a crash may bring back
	conflicts int
	journal   promises
	pending   Mark // to be journalled with the next round
	committed uint64
	applied   uint64
	running   *SyncTask
	runningAt int // conflicts when it was captured
	waiting   *SyncTask
	waitingAt int
	seals     []uint64
	seal      *SealTask
	trimmed   uint64
	saw       map[string]int
}

func newWorkload(rng *rand.Rand, crashAt int, saw map[string]int) *workload {
	w := &workload{rng: rng, mem: vfs.NewMem(), power: &power{at: crashAt, rng: rand.New(rand.NewPCG(uint64(crashAt), 9))}, m: newMaker(rng), saw: saw}
	w.o = testOptions(vfs.Inject(w.mem, w.power))
	w.start = w.o.Start
	w.committed, w.applied, w.trimmed = 1, 1, 1
	return w
}

func (w *workload) open() error {
	w.o.Mark, w.o.CommitFloor = w.journal.mark, w.journal.commit
	l, rec, err := Open(w.o)
	if err != nil {
		return err
	}
	w.l = l
	if len(rec.Faulty) > 0 || !rec.LastKnown || rec.StatesBad > 0 {
		return fmt.Errorf("a crash was taken for damage: %+v", rec)
	}
	if rec.TornFrom > 0 {
		w.saw["torn tails"]++
	}
	w.saw["leftovers"] += rec.Leftovers
	w.saw["footers cut"] += rec.FootersCut
	return nil
}

func (w *workload) step() error {
	switch k := w.rng.IntN(20); {
	case k < 7:
		return w.append()
	case k < 8:
		return w.conflict()
	case k < 11:
		return w.capture()
	case k < 14:
		return w.run()
	case k < 17:
		return w.end()
	case k < 19:
		return w.apply()
	default:
		return w.trim()
	}
}

func (w *workload) append() error {
	frames := w.m.frames(1 + w.rng.IntN(4))
	w.want = append(w.want, frames...)
	if err := w.l.Append(frames); err != nil {
		return err
	}
	w.closed()
	return nil
}

func (w *workload) closed() {
	if last, ok := w.l.SealNext(w.applied); ok && last == w.applied && (len(w.seals) == 0 || w.seals[len(w.seals)-1] < last) {
		w.seals = append(w.seals, last)
	}
}

// conflict replaces a random suffix that is not committed.
func (w *workload) conflict() error {
	last := w.l.LastIndex()
	if last <= w.committed {
		return nil
	}
	c := w.committed + 1 + w.rng.Uint64N(last-w.committed)
	keep := int(c - w.start.Index - 1)
	w.histories = append(w.histories, slices.Clone(w.want))
	w.conflicts++
	w.m.index, w.m.term, w.m.offset, w.m.time = c-1, w.m.term+1, w.start.Offset, w.start.AppendTime
	if keep > 0 {
		w.m.offset, w.m.time = w.want[keep-1].NextOffset(), w.want[keep-1].AppendTime
	}
	w.want = w.want[:keep:keep]
	w.saw["conflicts"]++
	if w.pending.Index >= c {
		w.pending = Mark{}
	}
	return w.append()
}

func (w *workload) capture() error {
	if t := w.l.BeginSync(); t != nil {
		w.waiting, w.waitingAt = t, w.conflicts
	}
	return nil
}

func (w *workload) run() error {
	if w.running != nil || w.waiting == nil {
		return nil
	}
	w.running, w.runningAt, w.waiting = w.waiting, w.waitingAt, nil
	for _, m := range w.running.Marks() {
		w.journal.mark = m
	}
	return w.running.Do()
}

func (w *workload) end() error {
	if w.running == nil {
		return nil
	}
	t := w.running
	w.running = nil
	if err := w.l.EndSync(t, nil); err != nil {
		return err
	}
	if w.runningAt == w.conflicts {
		w.histories = nil
	}
	if w.pending.Index > 0 {
		w.journal.mark = w.pending
	}
	w.pending = w.l.DurableMark()
	return nil
}

// apply commits and applies a random part of what is durable, one entry at a time, and seals what that closes.
func (w *workload) apply() error {
	w.committed += w.rng.Uint64N(w.l.Durable() - w.committed + 1)
	if w.rng.IntN(2) == 0 {
		w.journal.commit = w.committed
	}
	for w.applied < w.committed {
		w.applied++
		w.closed()
	}
	if w.seal == nil && len(w.seals) > 0 {
		if w.seal = w.l.BeginSeal(w.seals[0], stateOf(w.seals[0])); w.seal != nil {
			w.seals = w.seals[1:]
		}
	} else if w.seal != nil {
		t := w.seal
		w.seal = nil
		if err := t.Do(); err != nil {
			return err
		}
		w.saw["seals"]++
		return w.l.EndSeal(t, nil)
	}
	return nil
}

func stateOf(index uint64) []byte { return fmt.Appendf(nil, "state as of %d", index) }

func (w *workload) trim() error {
	if w.applied < 4 || w.rng.IntN(3) > 0 {
		return nil
	}
	index := w.applied - w.rng.Uint64N(w.applied/2+1)
	w.journal.commit = max(w.journal.commit, index)
	first := w.l.FirstIndex()
	w.trimmed = max(w.trimmed, index)
	err := w.l.TruncateFront(index)
	if w.l.FirstIndex() > first {
		w.saw["trims"]++
	}
	return err
}

// crash cuts the power and opens what is left.
func (w *workload) crash(rng *rand.Rand) (*workload, error) {
	acked := uint64(1)
	if w.l != nil {
		acked = w.l.Durable()
	}
	after := *w
	after.mem = w.mem.Crash(rng)
	after.power = &power{rng: rng}
	after.o.FS = vfs.Inject(after.mem, after.power)
	after.running, after.waiting, after.seal, after.seals, after.pending = nil, nil, nil, nil, Mark{}
	if rng.IntN(4) == 0 { // once more while recovering
		after.power.at = 1 + rng.IntN(6)
		if err := after.open(); err != nil && !errors.Is(err, errPower) {
			return nil, err
		}
		if after.power.off {
			w.saw["crashes in recovery"]++
		} else {
			after.power.off = true
		}
		after.mem = after.mem.Crash(rng)
		after.power = &power{rng: rng}
		after.o.FS = vfs.Inject(after.mem, after.power)
	}
	if err := after.open(); err != nil {
		return nil, err
	}
	l := after.l
	if l.LastIndex() < acked {
		return nil, fmt.Errorf("entry %d was durable, the log ends at %d", acked, l.LastIndex())
	}
	found := false
	var why error
	for _, h := range append([][]Frame{w.want}, w.histories...) {
		n := int(l.LastIndex() - w.start.Index)
		if n > len(h) {
			continue
		}
		if why = checkLog(l, w.start, h[:n]); why == nil {
			after.want, found = slices.Clone(h[:n]), true
			break
		}
	}
	if !found {
		return nil, fmt.Errorf("the log, up to %d, is no prefix of what was appended: %w", l.LastIndex(), why)
	}
	if first := l.FirstIndex(); first > w.trimmed+1 {
		return nil, fmt.Errorf("the log begins at %d, trimmed was %d", first, w.trimmed)
	}
	if err := l.Verify(); err != nil {
		return nil, err
	}
	index, data, ok := l.Checkpoint()
	if ok && string(data) != string(stateOf(index)) || !ok && l.FirstIndex() > 2 || ok && index > w.applied {
		return nil, fmt.Errorf("checkpoint %d %q %t, the log begins at %d", index, data, ok, l.FirstIndex())
	}
	after.histories = nil
	after.applied = max(1, index)
	after.m = &maker{rng: w.m.rng, index: l.LastIndex(), term: w.m.term + 1, offset: l.NextOffset(), time: l.LastAppendTime()}
	return &after, nil
}

// runWorkload returns the number of file system changes that steps calls took. The workload's random numbers do not depend on the crash.
func runWorkload(seed uint64, steps, crashAt int, saw map[string]int) (changes int, err error) {
	w := newWorkload(rand.New(rand.NewPCG(seed, 1)), crashAt, saw)
	err = w.open()
	for i := 0; i < steps && err == nil; i++ {
		err = w.step()
	}
	changes = w.power.n
	if err == nil && crashAt == 0 {
		if err = checkLog(w.l, w.start, w.want); err != nil {
			return changes, err
		}
		if len(w.l.queue) == 0 {
			err = w.l.Verify()
		}
	}
	if err != nil && !errors.Is(err, errPower) {
		return changes, err
	}
	rng := rand.New(rand.NewPCG(seed, uint64(crashAt)+2))
	for round := range 3 {
		if w, err = w.crash(rng); err != nil {
			return changes, fmt.Errorf("crash %d: %w", round+1, err)
		}
		saw["crashes"]++
		w.power.at = 1 + rng.IntN(40)
		for i := 0; i < 30 && err == nil; i++ {
			err = w.step()
		}
		if err != nil && !errors.Is(err, errPower) {
			return changes, fmt.Errorf("after crash %d: %w", round+1, err)
		}
	}
	return changes, nil
}

// crashEverywhere runs one workload once without a crash and once for every file change that it makes. Every sixteenth is a long one.
func crashEverywhere(seed uint64, saw map[string]int) error {
	steps := 32
	if seed%16 == 1 {
		steps = 100
	}
	changes, err := runWorkload(seed, steps, 0, saw)
	if err != nil {
		return err
	}
	for at := 1; at <= changes; at++ {
		if _, err := runWorkload(seed, steps, at, saw); err != nil {
			return fmt.Errorf("crash at change %d: %w", at, err)
		}
	}
	saw["crash points"] += changes
	return nil
}

// A power cut at every single file change of random workloads loses nothing durable, brings nothing up that was not appended, and is
// never taken for damage.
func TestCrash(t *testing.T) {
	seed := flagOrEnv(*crashSeed, "SEGMENT_SEED", 1)
	n := flagOrEnv(uint64(*crashWorkloads), "SEGMENT_WORKLOADS", 24)
	t.Logf("seed %d, %d workloads", seed, n)
	saw := map[string]int{}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // the garbage of one workload is nothing
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := seed
	for range runtime.GOMAXPROCS(0) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				mu.Lock()
				s := next
				next++
				mu.Unlock()
				if s >= seed+n || t.Failed() {
					return
				}
				mine := map[string]int{}
				if err := crashEverywhere(s, mine); err != nil {
					t.Errorf("seed %d, %v", s, err)
				}
				mu.Lock()
				for k, v := range mine {
					saw[k] += v
				}
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	t.Logf("saw %v", saw)
	for _, what := range []string{"crashes", "conflicts", "seals", "trims", "torn tails", "crashes in recovery"} {
		if saw[what] == 0 {
			t.Errorf("no workload saw %s", what)
		}
	}
}
