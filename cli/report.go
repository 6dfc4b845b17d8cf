package cli

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/twmb/franz-go/pkg/kgo"

	"lograft/client"
)

// newBar is a progress bar on standard error if that is a terminal, else nil.
func newBar(a *app, quiet bool, total int64, what string) *progressbar.ProgressBar {
	if quiet || !terminal(a.Err) {
		return nil
	}
	return progressbar.NewOptions64(total, progressbar.OptionSetWriter(a.Err), progressbar.OptionSetDescription(what), progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionEnableColorCodes(os.Getenv("NO_COLOR") == ""))
}

// newCount is newBar for things that are counted.
func newCount(a *app, total int64, what string) *progressbar.ProgressBar {
	if !terminal(a.Err) {
		return nil
	}
	return progressbar.NewOptions64(total, progressbar.OptionSetWriter(a.Err), progressbar.OptionSetDescription(what), progressbar.OptionShowCount(),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionEnableColorCodes(os.Getenv("NO_COLOR") == ""))
}

// errorsShown is how many failed records are named on standard error.
const errorsShown = 5

// reporter puts results, which come in any order, back into the order of the input and writes them.
type reporter struct {
	a      *app
	o      *produceOptions
	format *kgo.RecordFormatter
	bar    *progressbar.ProgressBar
	began  time.Time
	out    *bufio.Writer
	wrote  chan error // the writer's end
	wake   chan struct{}
	named  int // failed records that were named on standard error; read when the writer has ended

	mu      sync.Mutex
	why     func() string   // what the producer waits for; nil: not known
	results map[int]outcome // that came before an earlier one
	ready   []outcome       // in order, to be written
	next    int             // number of the record whose result is awaited
	ended   bool

	sent, acknowledged, unknown, failed int
	seen                                int  // results at the last look for a stall
	told                                bool // of this stall
	first                               *client.Error
	unavailable                         bool // every failure was one of reaching brokers
	broken                              error
}

type outcome struct {
	number int
	record *client.Record
	result client.Result
}

func newReporter(a *app, o *produceOptions, format *kgo.RecordFormatter, bar *progressbar.ProgressBar) *reporter {
	r := &reporter{a: a, o: o, format: format, bar: bar, began: time.Now(), out: bufio.NewWriterSize(a.Out, 64<<10), wrote: make(chan error, 1), wake: make(chan struct{}, 1),
		results: map[int]outcome{}, unavailable: true}
	go func() { r.wrote <- r.write() }() // ends with finish
	return r
}

// feed sends what source gives until it ends, ctx ends, or nobody reads the results any more.
func (r *reporter) feed(ctx context.Context, p *client.Producer, next source, rate float64) error {
	type item struct {
		rec *client.Record
		n   int
		err error
	}
	// Reading may block for ever (a terminal); the goroutine ends with the process then.
	items := make(chan item, 256)
	go func() {
		defer close(items)
		for {
			rec, n, err := next()
			select {
			case items <- item{rec, n, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case it, ok := <-items:
			switch {
			case !ok || errors.Is(it.err, io.EOF):
				return nil
			case it.err != nil:
				return it.err
			}
			if rate > 0 {
				due := r.began.Add(time.Duration(float64(r.sent) / rate * float64(time.Second)))
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(time.Until(due)):
				}
			}
			number := r.count(+1) - 1
			if err := p.Produce(ctx, it.rec, func(res client.Result) { r.result(number, it.rec, res) }); err != nil {
				r.count(-1)
				return nil // interrupted
			}
			if r.bar != nil {
				_ = r.bar.Add(it.n)
			}
			if r.isBroken() {
				return nil
			}
		}
	}
}

// count changes how many records were sent and gives the number.
func (r *reporter) count(change int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent += change
	return r.sent
}

// stallHint is how long no result may come before a person is told what is awaited.
const stallHint = 2 * time.Second

// waitsFor sets who says what the producer waits for.
func (r *reporter) waitsFor(why func() string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.why = why
}

// stalled gives the line to say if records wait and none had a result since the look before: once per stall.
func (r *reporter) stalled() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	results := r.acknowledged + r.unknown + r.failed
	seen, told := r.seen, r.told
	r.seen, r.told = results, false
	if results == r.sent || results != seen {
		return ""
	}
	if r.told = true; told {
		return ""
	}
	why := "is a broker up (-b)?"
	if r.why != nil {
		if what := r.why(); what != "" {
			why = "waiting for " + what
		}
	}
	return fmt.Sprintf("no record was acknowledged for %v, %d wait: %s; giving up after %v (--delivery-timeout)", stallHint, r.sent-results, why, r.o.delivery)
}

func (r *reporter) isBroken() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broken != nil
}

// result takes the end of record number.
func (r *reporter) result(number int, rec *client.Record, res client.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case res.Err == nil:
		r.acknowledged++
	case res.Err.Outcome == client.OutcomeUnknown:
		r.unknown++
	default:
		r.failed++
	}
	if res.Err != nil {
		if r.first == nil {
			r.first = res.Err
		}
		r.unavailable = r.unavailable && client.Unavailable(res.Err)
	}
	if !r.o.acksJSON && r.format == nil {
		rec = nil // not needed to report it
	}
	r.results[number] = outcome{number, rec, res}
	for {
		o, ok := r.results[r.next]
		if !ok {
			break
		}
		delete(r.results, r.next)
		r.next++
		r.ready = append(r.ready, o)
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// write writes results as they get ready and flushes when there are no more for the moment.
func (r *reporter) write() error {
	look := time.NewTicker(stallHint)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			if hint := r.stalled(); hint != "" && !r.o.quiet {
				fmt.Fprintln(r.a.Err, hint)
			}
			continue
		case <-r.wake:
		}
		r.mu.Lock()
		ready, ended := r.ready, r.ended
		r.ready = nil
		r.mu.Unlock()
		for i := range ready {
			if ready[i].result.Err != nil && !r.o.acksJSON {
				if r.named++; r.named <= errorsShown {
					fmt.Fprintf(r.a.Err, "error: record %d: %v (%s)\n", ready[i].number+1, ready[i].result.Err, ready[i].result.Err.Outcome)
				}
			}
			if err := r.writeOne(&ready[i]); err != nil {
				return r.fail(err)
			}
		}
		if err := r.out.Flush(); err != nil {
			return r.fail(err)
		}
		if ended {
			return nil
		}
	}
}

func (r *reporter) fail(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = err
	return err
}

// ackJSON is a line of --acks-json.
type ackJSON struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Timestamp int64  `json:"timestamp"`
	Session   string `json:"session"`
}

type nackJSON struct {
	Error   string `json:"error"`
	Reason  string `json:"reason"`
	Outcome string `json:"outcome"`
}

func (r *reporter) writeOne(o *outcome) error {
	res := &o.result
	switch {
	case r.o.acksJSON && res.Err != nil:
		return r.line(nackJSON{res.Err.Message, res.Err.Reason, res.Err.Outcome.String()})
	case r.o.acksJSON:
		return r.line(ackJSON{res.Topic, res.Partition, res.Offset, res.Timestamp, base64.RawURLEncoding.EncodeToString(res.Session)})
	case r.format != nil && res.Err == nil:
		k := &kgo.Record{Topic: res.Topic, Partition: res.Partition, Offset: res.Offset, Timestamp: time.UnixMilli(res.Timestamp), Key: o.record.Key, Value: o.record.Value}
		_, err := r.out.Write(r.format.AppendRecord(nil, k))
		return err
	}
	return nil
}

func (r *reporter) line(v any) error {
	b, err := marshal(v)
	if err == nil {
		_, err = r.out.Write(append(b, '\n'))
	}
	return err
}

// finish waits until everything is written.
func (r *reporter) finish() error {
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
	err := <-r.wrote
	if r.bar != nil {
		_ = r.bar.Finish()
	}
	return err
}

func (r *reporter) summary(interrupted bool) {
	word := ""
	if interrupted {
		word = "interrupted: "
	}
	fmt.Fprintf(r.a.Err, "%ssent %s: %d acknowledged, %d unknown, %d failed (%.2f s)\n", word, counted(r.sent, "record"), r.acknowledged, r.unknown, r.failed, time.Since(r.began).Seconds())
}

// counted is a number with its noun.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// recordsFailed is the end of a run in which records were not acknowledged. Its first error decides the exit code.
type recordsFailed struct {
	message string
	first   *client.Error
}

func (e *recordsFailed) Error() string { return e.message }

// Unwrap implements errors.
func (e *recordsFailed) Unwrap() error {
	if e.first == nil {
		return nil
	}
	return e.first
}

// err is nil if every record was acknowledged. What finish has named is not said again.
func (r *reporter) err() error {
	if r.first == nil {
		return nil
	}
	n := r.failed + r.unknown
	e := &recordsFailed{message: r.first.Message}
	if r.unavailable {
		e.first = r.first
	}
	switch {
	case n == 1 && r.named == 1:
		if r.unavailable {
			return codeError(exitUnavailable)
		}
		return codeError(exitItemFailed)
	case r.named > 0:
		e.message = fmt.Sprintf("%d of %d records were not acknowledged", n, r.sent)
	case n > 1:
		e.message = fmt.Sprintf("%d of %d records were not acknowledged; the first: %s", n, r.sent, r.first.Message)
	}
	return e
}
