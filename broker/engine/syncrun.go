package engine

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"lograft/segment/journal"
)

// syncDriver is the Syncer with a goroutine for rounds and one for marks. Whoever asks for a sync starts the round itself, and the
// goroutine that ends one begins the next: between a worker and the disk there is one hand-over each way.
type syncDriver struct {
	e *Engine

	mu      sync.Mutex
	syncer  *Syncer
	stopped bool
	rounds  chan *Round        // one under way at a time, so never full
	marks   chan *journal.Task // likewise
	failed  chan struct{}      // closed when stable storage failed
}

func (d *syncDriver) init(e *Engine) {
	*d = syncDriver{e: e, syncer: NewSyncer(e.opts.Journal), rounds: make(chan *Round, 1), marks: make(chan *journal.Task, 1), failed: make(chan struct{})}
}

// add hands a request over and starts what can be started. The request is the caller's again.
func (d *syncDriver) add(q *SyncRequest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncer.Add(q)
	if r := d.next(); r != nil {
		d.rounds <- r
	}
}

// next gives the round to do now, if any, and starts the marks beside it. mu is held.
func (d *syncDriver) next() *Round {
	if d.stopped || d.syncer.Err() != nil {
		return nil
	}
	r := d.syncer.Next()
	if t := d.syncer.NextMarks(); t != nil {
		d.marks <- t
	}
	return r
}

// run does rounds and marks until ctx is done or the disk fails.
func (d *syncDriver) run(ctx context.Context) error {
	g := new(errgroup.Group)
	g.Go(func() error {
		for r := range d.rounds {
			for r != nil {
				r = d.round(r)
			}
		}
		return nil
	})
	g.Go(func() error {
		for t := range d.marks {
			err := t.Do()
			d.mu.Lock()
			d.syncer.DoneMarks(t, err)
			d.noteFailure()
			if r := d.next(); r != nil {
				d.rounds <- r
			}
			d.mu.Unlock()
		}
		return nil
	})
	select {
	case <-ctx.Done():
	case <-d.failed:
	}
	d.mu.Lock()
	d.stopped = true
	close(d.rounds)
	close(d.marks)
	d.mu.Unlock()
	_ = g.Wait()
	if err := d.syncer.Err(); err != nil {
		return fmt.Errorf("stable storage failed, the broker stops and recovery will decide from disk: %w", err)
	}
	return nil
}

// round does one round, says what it made stable, and gives the next.
func (d *syncDriver) round(r *Round) *Round {
	began, _ := d.e.opts.Now()
	d.e.syncStats.begin(began)
	err := r.Do()
	ended, _ := d.e.opts.Now()
	d.mu.Lock()
	done := d.syncer.Done(r, err)
	rounds, synced := d.syncer.Rounds()
	d.noteFailure()
	d.mu.Unlock()
	d.e.syncStats.put(r, ended-began, rounds, synced)
	for i := range done {
		c := &done[i]
		if len(c.Items) > 0 {
			d.e.Post(c.Worker, Event{Synced: c})
		}
		if len(c.Births) > 0 && c.Err == nil {
			d.e.opts.Sink.Births(c.Births)
		}
		if len(c.Retired) > 0 && c.Err == nil {
			d.e.opts.Sink.Retired(c.Retired)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.next()
}

// noteFailure ends run once the disk has failed. mu is held.
func (d *syncDriver) noteFailure() {
	if d.syncer.Err() == nil {
		return
	}
	select {
	case <-d.failed:
	default:
		close(d.failed)
	}
}

// close makes births, retirements and the last hard states stable after run has ended and every log is closed. What else waited for a
// round is dropped: nobody was promised anything.
func (d *syncDriver) close(last *SyncRequest) error {
	s := d.syncer
	if s.Err() != nil {
		return nil
	}
	s.logsClosed()
	s.Add(last)
	if r := s.Next(); r != nil {
		err := r.Do()
		s.Done(r, err)
		if err != nil {
			return err
		}
	}
	s.idle = true
	if t := s.NextMarks(); t != nil {
		err := t.Do()
		s.DoneMarks(t, err)
		return err
	}
	return nil
}
