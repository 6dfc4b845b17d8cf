package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"lograft/client"
)

// subscriptions are those of consumer number i: every Consumers-th partition.
func (o *Options) subscriptions(i int, ends []int64, sub func(partition int32, end int64) client.Subscription) (subs []client.Subscription) {
	for p := i; p < len(ends); p += o.Consumers {
		subs = append(subs, sub(int32(p), ends[p]))
	}
	return subs
}

func (o *Options) consumer(c *client.Client, subs []client.Subscription) (*client.Consumer, error) {
	return c.NewConsumer(client.ConsumerOptions{Subscriptions: subs, Consistency: o.Consistency, Replica: o.Replica})
}

// read reads from the start up to ends, or to the bounds.
func (o *Options) read(ctx context.Context, ends []int64, r *Report) error {
	if o.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.Duration)
		defer cancel()
	}
	var mu sync.Mutex
	var total atomic.Int64
	all := newHistogram()
	var records, size int64
	begin := time.Now()
	end := begin
	g, ctx := errgroup.WithContext(ctx)
	for i := range o.Consumers {
		g.Go(func() error {
			h := newHistogram()
			n, b, last, err := o.readOne(ctx, i, ends, h, &total)
			mu.Lock()
			defer mu.Unlock()
			all.Merge(h)
			records, size = records+n, size+b
			if last.After(end) {
				end = last
			}
			return err
		})
	}
	err := g.Wait()
	r.latencies(all)
	r.rates(records, size, end.Sub(begin))
	return err
}

func (o *Options) readOne(ctx context.Context, i int, ends []int64, h *hdr.Histogram, total *atomic.Int64) (records, size int64, last time.Time, err error) {
	subs := o.subscriptions(i, ends, func(p int32, end int64) client.Subscription {
		stop := client.AtOffset(end)
		return client.Subscription{Topic: o.Topic, Partitions: []int32{p}, Start: client.AtStart(0), Stop: &stop}
	})
	if len(subs) == 0 {
		return 0, 0, last, nil
	}
	c, err := o.dial()
	if err != nil {
		return 0, 0, last, err
	}
	defer c.Close()
	k, err := o.consumer(c, subs)
	if err != nil {
		return 0, 0, last, err
	}
	defer k.Close()
	asked := time.Now()
	for {
		b, ended, over, err := k.Poll(ctx)
		if ctx.Err() != nil {
			return records, size, last, nil // a bound of time, or interrupted
		}
		if err != nil {
			return records, size, last, err
		}
		for _, e := range ended {
			if e.Err != nil {
				return records, size, last, e.Err
			}
		}
		if b != nil && len(b.Records) > 0 {
			last = time.Now()
			observe(h, last.Sub(asked))
			records += int64(len(b.Records))
			for j := range b.Records {
				size += int64(len(b.Records[j].Key) + len(b.Records[j].Value))
			}
			n := total.Add(int64(len(b.Records)))
			b.Release()
			if o.Progress != nil && i == 0 {
				o.Progress(n)
			}
			if o.Records > 0 && n >= o.Records {
				return records, size, last, nil
			}
			asked = time.Now()
		}
		if over {
			return records, size, last, nil
		}
	}
}

// watch is the reading side of an end-to-end run.
type watch struct {
	run  []byte
	load *load
	got  atomic.Int64

	mu      sync.Mutex
	latency *hdr.Histogram
	bytes   int64
	last    time.Time
}

func newWatch(run []byte, l *load) *watch { return &watch{run: run, load: l, latency: newHistogram()} }

// follow reads the run's records behind ends until ctx is done.
func (w *watch) follow(ctx context.Context, o *Options, i int, ends []int64) error {
	subs := o.subscriptions(i, ends, func(p int32, end int64) client.Subscription {
		return client.Subscription{Topic: o.Topic, Partitions: []int32{p}, Start: client.AtOffset(end)}
	})
	if len(subs) == 0 {
		return nil
	}
	c, err := o.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	k, err := o.consumer(c, subs)
	if err != nil {
		return err
	}
	defer k.Close()
	for {
		b, ended, over, err := k.Poll(ctx)
		if err != nil {
			return err
		}
		for _, e := range ended {
			if e.Err != nil {
				return e.Err
			}
		}
		if b != nil {
			w.take(b.Records)
			b.Release()
		}
		if over {
			return fmt.Errorf("topic %q ended", o.Topic)
		}
	}
}

func (w *watch) take(records []client.Fetched) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range records {
		r := &records[i]
		if len(r.Key) != 16 || !bytes.Equal(r.Key[:8], w.run) {
			continue
		}
		due := w.load.zero.Add(time.Duration(binary.BigEndian.Uint64(r.Key[8:])))
		observe(w.latency, now.Sub(due))
		w.bytes += int64(len(r.Key) + len(r.Value))
		w.last = now
		w.got.Add(1)
	}
}

// await returns when everything acknowledged was read, or it takes too long.
func (w *watch) await(ctx context.Context, acked int64) {
	end := time.Now().Add(drainTimeout)
	for w.got.Load() < acked && time.Now().Before(end) && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
}

func (w *watch) fill(r *Report, sent *Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.latencies(w.latency)
	r.rates(w.got.Load(), w.bytes, w.last.Sub(w.load.begin))
	r.Errors, r.FirstError = sent.Errors, sent.FirstError
	if missing := sent.Records - w.got.Load(); missing > 0 {
		r.Errors += missing
		if r.FirstError == "" {
			r.FirstError = fmt.Sprintf("%d acknowledged records were not read within %v", missing, drainTimeout)
		}
	}
}
