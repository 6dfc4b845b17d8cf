package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"lograft/client"
)

// load is the producers of a run.
type load struct {
	o         *Options
	id        []byte // run id that every record's key begins with; nil: records have no key
	producers []*producer
	zero      time.Time // that keys count from
	begin     time.Time
	sent      atomic.Int64
	done      atomic.Int64 // records with a result
}

// producer is one of them. What its results change is read after it is closed only.
type producer struct {
	load   *load
	number int
	c      *client.Client
	p      *client.Producer
	source *Source

	latency *hdr.Histogram
	acked   int64
	bytes   int64
	last    time.Time // of the last acknowledgement
	failed  int64
	first   *client.Error
}

func newRunID() []byte { return binary.BigEndian.AppendUint64(nil, rand.Uint64()) }

// newLoad opens the producers and has each append one record, so that the run begins with connections, identities and leaders known.
func (o *Options) newLoad(ctx context.Context, run []byte) (*load, error) {
	l := &load{o: o, id: run, zero: time.Now()}
	for i := range o.Producers {
		c, err := o.dial()
		if err != nil {
			l.close()
			return nil, err
		}
		p, err := c.NewProducer(client.ProducerOptions{Codec: o.Codec, Linger: o.Linger, BatchBytes: o.BatchBytes, BufferBytes: o.BufferBytes})
		if err != nil {
			_ = c.Close()
			l.close()
			return nil, err
		}
		l.producers = append(l.producers, &producer{load: l, number: i, c: c, p: p, source: o.Data.Source(o.RecordBytes, i, o.Producers), latency: newHistogram()})
	}
	for _, w := range l.producers {
		if err := w.warm(ctx); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

// close ends producers that run has not ended.
func (l *load) close() {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for _, w := range l.producers {
		_ = w.p.Close(over)
		_ = w.c.Close()
	}
	l.producers = nil
}

func (w *producer) warm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*drainTimeout)
	defer cancel()
	result := make(chan client.Result, 1)
	if err := w.p.Produce(ctx, &client.Record{Topic: w.load.o.Topic, Partition: client.AnyPartition, Value: w.source.Next()}, func(r client.Result) { result <- r }); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("the first record got no answer in time: is every partition of %q led (broker cluster health)? %w", w.load.o.Topic, ctx.Err())
	case r := <-result:
		if r.Err != nil {
			return r.Err
		}
		return nil
	}
}

// run sends until a bound is reached or ctx is done, and waits for the results.
func (l *load) run(ctx context.Context) {
	stop := l.progress()
	defer stop()
	sending := ctx
	if l.o.Duration > 0 {
		var cancel context.CancelFunc
		sending, cancel = context.WithTimeout(ctx, l.o.Duration)
		defer cancel()
	}
	l.begin = time.Now()
	var all sync.WaitGroup
	for _, w := range l.producers {
		all.Go(func() {
			w.send(sending)
			flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
			defer cancel()
			_ = w.p.Close(flush) // what has no result then is reported as unknown
		})
	}
	all.Wait()
}

// progress tells how far the run is until stop is called.
func (l *load) progress() (stop func()) {
	if l.o.Progress == nil {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(ended)
		t := time.NewTicker(100 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-done:
				l.o.Progress(l.done.Load())
				return
			case <-t.C:
				l.o.Progress(l.done.Load())
			}
		}
	}()
	return func() { close(done); <-ended }
}

// share is how many of total records producer w sends.
func (w *producer) share(total int64) int64 {
	n := int64(len(w.load.producers))
	s := total / n
	if int64(w.number) < total%n {
		s++
	}
	return s
}

func (w *producer) send(ctx context.Context) {
	o := w.load.o
	quota := w.share(o.Records)
	var wake chan struct{}
	if o.Sync {
		wake = make(chan struct{}, 1)
	}
	for i := int64(0); (o.Records == 0 || i < quota) && ctx.Err() == nil; i++ {
		due := time.Now()
		if o.Rate > 0 {
			nth := i*int64(len(w.load.producers)) + int64(w.number)
			due = w.load.begin.Add(time.Duration(float64(nth) / o.Rate * float64(time.Second)))
			if !sleepUntil(ctx, due) {
				return
			}
		}
		if w.produce(ctx, due, wake) != nil {
			return
		}
		if wake != nil {
			select {
			case <-wake:
			case <-ctx.Done():
				return
			}
		}
	}
}

// sleepUntil reports whether t came before ctx was done.
func sleepUntil(ctx context.Context, t time.Time) bool {
	d := time.Until(t)
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (w *producer) produce(ctx context.Context, due time.Time, wake chan struct{}) error {
	r := &client.Record{Topic: w.load.o.Topic, Partition: client.AnyPartition, Value: w.source.Next()}
	if w.load.id != nil {
		r.Key = binary.BigEndian.AppendUint64(append(make([]byte, 0, 16), w.load.id...), uint64(due.Sub(w.load.zero)))
	}
	bytes := int64(len(r.Key) + len(r.Value))
	err := w.p.Produce(ctx, r, func(res client.Result) {
		w.result(due, bytes, res.Err)
		if wake != nil {
			wake <- struct{}{}
		}
	})
	if err == nil {
		w.load.sent.Add(1)
	}
	return err
}

func (w *producer) result(due time.Time, bytes int64, err *client.Error) {
	w.load.done.Add(1)
	if err != nil {
		w.failed++
		if w.first == nil {
			w.first = err
		}
		return
	}
	w.last = time.Now()
	w.acked++
	w.bytes += bytes
	observe(w.latency, w.last.Sub(due))
}

// fill puts the results of a finished run into r. It takes as long as it took to the last acknowledgement.
func (l *load) fill(r *Report) {
	all := newHistogram()
	end := l.begin
	var records, bytes int64
	for _, w := range l.producers {
		all.Merge(w.latency)
		records += w.acked
		bytes += w.bytes
		r.Errors += w.failed
		if w.last.After(end) {
			end = w.last
		}
		if w.first != nil && r.FirstError == "" {
			r.FirstError = fmt.Sprintf("%s: %s (%s)", w.first.Reason, w.first.Message, w.first.Outcome)
		}
	}
	r.latencies(all)
	r.rates(records, bytes, end.Sub(l.begin))
}
