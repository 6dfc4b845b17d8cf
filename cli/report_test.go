package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"lograft/client"
)

func newTestReporter(o *produceOptions, format *kgo.RecordFormatter) (r *reporter, out, errs *bytes.Buffer) {
	out, errs = &bytes.Buffer{}, &bytes.Buffer{}
	return newReporter(&app{Streams: Streams{Out: out, Err: errs}}, o, format, nil), out, errs
}

// Results come in any order and are written in the order of the input, each once, with its fields.
func TestReporterOrder(t *testing.T) {
	rng := seed(t)
	const n = 2000
	r, out, _ := newTestReporter(&produceOptions{acksJSON: true}, nil)
	kind := make([]int, n)
	for i := range kind {
		kind[i] = rng.IntN(3)
		r.count(1)
	}
	for _, i := range rng.Perm(n) {
		res := client.Result{Topic: "t", Partition: 1, Offset: int64(i), Timestamp: 5, Session: []byte{0xfb}}
		switch kind[i] {
		case 1:
			res.Err = &client.Error{Reason: "R", Message: fmt.Sprint(i), Outcome: client.OutcomeFailed}
		case 2:
			res.Err = &client.Error{Reason: "R", Message: fmt.Sprint(i), Outcome: client.OutcomeUnknown}
		}
		r.result(i, &client.Record{}, res)
	}
	if err := r.finish(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != n {
		t.Fatalf("%d lines, want %d", len(lines), n)
	}
	count := [3]int{}
	for i, line := range lines {
		count[kind[i]]++
		want := fmt.Sprintf(`{"topic":"t","partition":1,"offset":%d,"timestamp":5,"session":"-w"}`, i)
		if kind[i] > 0 {
			want = fmt.Sprintf(`{"error":"%d","reason":"R","outcome":"%s"}`, i, []string{"", "failed", "unknown"}[kind[i]])
		}
		if line != want || !json.Valid([]byte(line)) {
			t.Fatalf("line %d: %s, want %s", i, line, want)
		}
	}
	if got := [3]int{r.acknowledged, r.failed, r.unknown}; got != count {
		t.Fatalf("counted %v, want %v", got, count)
	}
}

// -o writes acknowledged records only; the first failures are named on standard error by their number, and the run fails.
func TestReporterFormat(t *testing.T) {
	format, err := kgo.NewRecordFormatter("%p %o %k %v|")
	if err != nil {
		t.Fatal(err)
	}
	r, out, errs := newTestReporter(&produceOptions{}, format)
	for i := range 10 {
		r.count(1)
		res := client.Result{Topic: "t", Offset: int64(i)}
		if i > 1 {
			res = client.Result{Err: &client.Error{Reason: "R", Message: "no"}}
		}
		r.result(i, &client.Record{Key: []byte("k"), Value: []byte{'a' + byte(i)}}, res)
	}
	if err := r.finish(); err != nil {
		t.Fatal(err)
	}
	if out.String() != "0 0 k a|0 1 k b|" {
		t.Errorf("stdout %q", out)
	}
	if s := errs.String(); strings.Count(s, "error: record") != errorsShown || !strings.Contains(s, "error: record 3: no") {
		t.Errorf("stderr %q", s)
	}
	if err := r.err(); err == nil || !strings.Contains(err.Error(), "8 of 10 records") {
		t.Errorf("%v", err)
	}
	errs.Reset()
	r.summary(true)
	if !strings.HasPrefix(errs.String(), "interrupted: sent 10 records: 2 acknowledged, 0 unknown, 8 failed") {
		t.Errorf("%q", errs)
	}
}

// A reader of the results that left ends the writing, and the reporter takes further results without blocking.
func TestReporterBrokenPipe(t *testing.T) {
	r := newReporter(&app{Streams: Streams{Out: failingWriter{syscall.EPIPE}, Err: &bytes.Buffer{}}}, &produceOptions{acksJSON: true}, nil, nil)
	for i := range 1000 {
		r.result(i, nil, client.Result{})
	}
	if err := r.finish(); !errors.Is(err, syscall.EPIPE) || !r.isBroken() {
		t.Fatalf("%v", err)
	}
}

// Whoever waits for a cluster that gives no answer is told so once per stall, and never while results come or nothing is awaited.
func TestStallIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, errs := newTestReporter(&produceOptions{delivery: time.Minute}, nil)
		hints := func() int {
			synctest.Wait()
			return strings.Count(errs.String(), "no record was acknowledged")
		}
		time.Sleep(10 * stallHint)
		if n := hints(); n != 0 {
			t.Fatalf("%d hints with nothing sent", n)
		}
		r.count(2)
		time.Sleep(10 * stallHint)
		if n := hints(); n != 1 {
			t.Fatalf("%d hints in one stall", n)
		}
		r.result(0, nil, client.Result{})
		time.Sleep(3 * stallHint)
		if n := hints(); n != 2 {
			t.Fatalf("%d hints in two stalls", n)
		}
		r.result(1, nil, client.Result{})
		time.Sleep(10 * stallHint)
		if n := hints(); n != 2 {
			t.Fatalf("%d hints, the last with nothing awaited", n)
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
	})
}
