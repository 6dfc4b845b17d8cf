package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"lograft/broker/partition"
	"lograft/internal/buffers"
	"lograft/segment/journal"
)

// Outbox collects what one worker's replicas send in one step; Flush hands it to the mesh. It is used by that worker alone.
type Outbox interface {
	partition.Sender
	Flush()
}

// Sink takes the effects that leave the engine. Its methods are called by workers and by the syncer, several at a time, and must
// not block.
type Sink interface {
	Replies([]partition.Reply)
	Leads([]partition.LeaderChange)
	Births([]GroupID)
	Retired([]GroupID)
	Removed([]GroupID)
	Halted(error)
	// Notes takes what operators are told about logs; the slice is the worker's.
	Notes([]partition.Note)
	// Settled names groups led here whose wanted members are in effect, once per term and version; the slice is the worker's.
	Settled([]partition.Settled)
}

// Options builds an Engine.
type Options struct {
	Node    uint64
	Workers int // >= 1
	Readers int // goroutines for cold reads and sealing, >= 1
	// Wanted tells whether what is read from files for a session could be given to it now: nothing is read for who is gone or takes
	// nothing. nil: always. It is called by readers.
	Wanted    func(session uint64) bool
	TickEvery time.Duration
	Journal   journal.Journal
	NewOutbox func(worker int) Outbox
	Sink      Sink
	Now       func() (mono, wall int64) // ns, ms
	// ReadBytesIdle bounds the memory of reads that is kept for the next ones; 0: none is.
	ReadBytesIdle int
}

// Engine is the driver of workers and syncer with goroutines and real time. New starts nothing.
type Engine struct {
	opts    Options
	workers []*Worker
	inboxes []*Inbox[Event]
	outs    []Outbox
	sync    syncDriver
	jobs    *Inbox[job]
	ahead   chan struct{} // has a value for each read that is under way or not taken yet

	stats     []workerStats
	syncStats syncStats
}

// job is work off the workers: a cold read or a segment to seal.
type job struct {
	worker int
	cold   *partition.ColdRead
	seal   *SealJob
}

// New builds an engine without replicas.
func New(opts Options) *Engine {
	e := &Engine{opts: opts, jobs: NewInbox[job](), ahead: make(chan struct{}, readsAhead*max(opts.Readers, 1)), stats: make([]workerStats, opts.Workers)}
	e.sync.init(e)
	var lent *buffers.Pool
	if opts.ReadBytesIdle > 0 {
		lent = buffers.NewPool(opts.ReadBytesIdle)
	}
	for i := range opts.Workers {
		out := opts.NewOutbox(i)
		e.outs = append(e.outs, out)
		w := NewWorker(i, opts.Node, out)
		w.env.Buffers = lent
		w.env.Clock = func() int64 { mono, _ := opts.Now(); return mono }
		e.workers = append(e.workers, w)
		e.inboxes = append(e.inboxes, NewInbox[Event]())
	}
	return e
}

// WorkerOf is the worker that owns a group: a function of the id and the number of workers.
func WorkerOf(g GroupID, workers int) int {
	h := uint32(2166136261) // FNV-1a
	for _, b := range g {
		h = (h ^ uint32(b)) * 16777619
	}
	return int(h % uint32(workers))
}

// Workers is the number of workers.
func (e *Engine) Workers() int { return len(e.workers) }

// Post hands events to a worker; false says that the engine has stopped.
func (e *Engine) Post(worker int, events ...Event) bool { return e.inboxes[worker].Put(events...) }

// PostAll hands an event to every worker.
func (e *Engine) PostAll(ev Event) {
	for _, in := range e.inboxes {
		in.Put(ev)
	}
}

// Sync hands the syncer births and retirements of the controller; Sink.Births names the births that are stable.
func (e *Engine) Sync(q SyncRequest) { e.sync.add(&q) }

// Run drives everything until ctx is done or the disk fails. It returns after its goroutines have ended, every log is closed and
// the last hard states are stable; an error other than ctx's means that the data directory must not be used without recovery.
func (e *Engine) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range e.workers {
		g.Go(func() error { return e.runWorker(ctx, i) })
	}
	g.Go(func() error { e.runJobs(ctx); return nil })
	g.Go(func() error { return e.sync.run(ctx) })
	g.Go(func() error { e.runTicks(ctx); return nil })
	err := g.Wait()
	return errors.Join(err, e.close(err))
}

func (e *Engine) runTicks(ctx context.Context) {
	t := time.NewTicker(e.opts.TickEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			e.PostAll(Event{Tick: true})
		}
	}
}

func (e *Engine) runWorker(ctx context.Context, i int) error {
	var events []Event
	var eff Effects
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.inboxes[i].Wake():
		}
		events = e.inboxes[i].Take(events)
		if len(events) == 0 {
			continue
		}
		mono, wall := e.opts.Now()
		e.workers[i].Step(mono, wall, events, &eff)
		for k := range events {
			if events[k].Cold != nil {
				<-e.ahead
			}
		}
		e.stats[i].put(e.workers[i], mono)
		e.carryOut(i, &eff)
		if err := diskFailure(eff.Halted); err != nil {
			return err
		}
	}
}

// diskFailure is why the data directory stops: a replica halted because a call on its files failed. Nothing is tried again there;
// recovery decides from disk (storage.md "Writing 4"). A replica that halts for another reason stops alone.
func diskFailure(halted []error) error {
	for _, err := range halted {
		if errors.As(err, new(*fs.PathError)) || errors.As(err, new(*os.LinkError)) || errors.As(err, new(*os.SyscallError)) { // a rename is a LinkError
			return fmt.Errorf("stable storage failed, the broker stops and recovery will decide from disk: %w", err)
		}
	}
	return nil
}

// carryOut does what a worker's step left: messages first, because followers sync while we do.
func (e *Engine) carryOut(i int, eff *Effects) {
	e.outs[i].Flush()
	if !eff.Sync.Empty() {
		e.sync.add(&eff.Sync)
	}
	if len(eff.Replies) > 0 {
		e.opts.Sink.Replies(eff.Replies)
	}
	if len(eff.Leads) > 0 {
		e.opts.Sink.Leads(eff.Leads)
	}
	for _, c := range eff.Cold {
		e.jobs.Put(job{worker: i, cold: c})
	}
	for _, s := range eff.Seals {
		e.jobs.Put(job{worker: i, seal: s})
	}
	for _, err := range eff.Halted {
		e.opts.Sink.Halted(err)
	}
	if len(eff.Removed) > 0 {
		e.opts.Sink.Removed(eff.Removed)
	}
	if len(eff.Notes) > 0 {
		e.opts.Sink.Notes(eff.Notes)
	}
	if len(eff.Settled) > 0 {
		e.opts.Sink.Settled(eff.Settled)
	}
}

// runJobs does cold reads and sealing, several at a time.
func (e *Engine) runJobs(ctx context.Context) {
	g := new(errgroup.Group)
	g.SetLimit(e.opts.Readers)
	defer func() { _ = g.Wait() }()
	var jobs []job
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.jobs.Wake():
		}
		jobs = e.jobs.Take(jobs)
		for i, j := range jobs {
			jobs[i] = job{}                                 // what a job has read is held by whoever takes it, not by this list until its end
			g.Go(func() error { e.do(ctx, j); return nil }) // waits while Readers jobs run
		}
	}
}

// readsAhead is how many reads per reader may be done and not taken by their workers: each holds its bytes.
const readsAhead = 2

func (e *Engine) do(ctx context.Context, j job) {
	switch {
	case j.cold != nil:
		select {
		case e.ahead <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if e.opts.Wanted == nil || j.cold.Session() == 0 || e.opts.Wanted(j.cold.Session()) {
			j.cold.Do()
		} else {
			j.cold.Skip()
		}
		if !e.Post(j.worker, Event{Cold: j.cold}) {
			<-e.ahead
		}
	case j.seal != nil:
		j.seal.Err = j.seal.Task.Do()
		e.Post(j.worker, Event{Seal: j.seal})
	}
}

// close refuses what still waits, closes every replica and makes the last commit indexes stable. Completions that nobody took are dropped:
// what they would have answered stays unknown. Nothing runs beside it.
func (e *Engine) close(failed error) error {
	var eff Effects
	var last SyncRequest
	for i, w := range e.workers {
		e.opts.Sink.Replies(refuse(e.inboxes[i].Close()))
		w.Close(&eff)
		last.Lazy = append(last.Lazy, eff.Sync.Lazy...)
		if len(eff.Replies) > 0 {
			e.opts.Sink.Replies(eff.Replies)
		}
		for _, err := range eff.Halted {
			e.opts.Sink.Halted(err)
		}
	}
	if failed != nil {
		return nil
	}
	last.Idle = true
	return e.sync.close(&last)
}

// refuse answers the requests that were still in an inbox when the engine stopped.
func refuse(events []Event) (replies []partition.Reply) {
	for i := range events {
		for j := range events[i].Requests {
			q := &events[i].Requests[j]
			replies = append(replies, partition.Reply{From: q.From, Token: q.Token, Err: &partition.Error{Reason: partition.ReasonShutdown, Message: "the broker stops: ask another"}})
		}
	}
	return replies
}
