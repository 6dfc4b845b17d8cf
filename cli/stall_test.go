package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lograft/client"
)

// silentFeed gives nothing; it waits for brokers from its beginning on.
type silentFeed struct {
	began time.Time
	lasts func(time.Duration) time.Duration
}

func (f *silentFeed) Poll(ctx context.Context) (*client.Batch, []client.End, bool, error) {
	<-ctx.Done()
	return nil, nil, false, ctx.Err()
}

func (f *silentFeed) TryPoll() (*client.Batch, []client.End, bool, bool, error) {
	return nil, nil, false, false, nil
}

func (f *silentFeed) Stalled() client.Stall {
	return client.Stall{For: f.lasts(time.Since(f.began)), What: "topic \"t\": no answer from a:1"}
}

// Who reads from brokers that do not answer is told after about 2 s, once, what is waited for, from which address and for how long; not
// with -q, and not while brokers answer that there is nothing to read. --idle-timeout still ends it in time.
func TestConsumeSaysWhatItWaitsFor(t *testing.T) {
	stalls := func(d time.Duration) time.Duration { return d }
	for _, c := range []struct {
		name  string
		o     consumeOptions
		lasts func(time.Duration) time.Duration
		after time.Duration
		hints int
	}{
		{"stalled for less than the hint", consumeOptions{timeout: time.Minute}, stalls, stallHint - stallHint/8, 0},
		{"stalled", consumeOptions{timeout: time.Minute}, stalls, stallHint + stallHint/2, 1},
		{"stalled for long", consumeOptions{timeout: time.Minute}, stalls, 100 * stallHint, 1},
		{"quiet", consumeOptions{quiet: true}, stalls, 100 * stallHint, 0},
		{"nothing to read", consumeOptions{}, func(time.Duration) time.Duration { return 0 }, 100 * stallHint, 0},
		{"idle", consumeOptions{idle: 5 * stallHint, timeout: time.Minute}, stalls, 0, 1},
		{"idle before the hint", consumeOptions{idle: stallHint / 3}, stalls, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out, errs bytes.Buffer
			a := &app{Streams: Streams{Out: &out, Err: &errs}}
			w, err := a.recordWriter(&c.o)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.after > 0 {
				time.AfterFunc(c.after, cancel)
			}
			began := time.Now()
			err = a.pump(ctx, &silentFeed{began: began, lasts: c.lasts}, &c.o, w)
			if c.after > 0 && !errors.Is(err, context.Canceled) || c.after == 0 && (err != nil || time.Since(began) != c.o.idle) {
				t.Errorf("%s: %v after %v", c.name, err, time.Since(began))
			}
			if n := strings.Count(errs.String(), "waiting for topic \"t\": no answer from a:1; giving up after 1m0s (--timeout)\n"); n != c.hints || n == 0 && errs.Len() > 0 {
				t.Errorf("%s: %d hints, want %d: %q", c.name, n, c.hints, errs.String())
			}
		})
	}
}

// A single record that failed is named once; of several, the last line says how many. The exit code is the same as without the names.
func TestFailuresAreNamedOnce(t *testing.T) {
	for _, c := range []struct {
		name     string
		sent     int
		json     bool
		reason   string
		code     int
		says     int // how often the reason is said in all
		lastLine string
	}{
		{"one", 1, false, "R", exitItemFailed, 1, "error: record 1: no (failed)"},
		{"one, no broker", 1, false, client.ReasonUnreachable, exitUnavailable, 1, "error: record 1: no (failed)"},
		{"one as JSON", 1, true, "R", exitItemFailed, 1, "error: no"},
		{"three", 3, false, "R", exitItemFailed, 3, "error: 3 of 3 records were not acknowledged"},
		{"three, no broker", 3, false, client.ReasonUnreachable, exitUnavailable, 3, "error: 3 of 3 records were not acknowledged"},
		{"three as JSON", 3, true, "R", exitItemFailed, 1, "error: 3 of 3 records were not acknowledged; the first: no"},
	} {
		r, _, errs := newTestReporter(&produceOptions{acksJSON: c.json}, nil)
		for i := range c.sent {
			r.count(1)
			r.result(i, &client.Record{}, client.Result{Err: &client.Error{Reason: c.reason, Message: "no"}})
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
		code := r.a.exit(t.Context(), r.err())
		lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
		said := 0
		for _, l := range lines {
			said += strings.Count(l+" ", ": no ")
		}
		if code != c.code || said != c.says || lines[len(lines)-1] != c.lastLine {
			t.Errorf("%s: exit %d, said %d times: %q", c.name, code, said, lines)
		}
	}
}
