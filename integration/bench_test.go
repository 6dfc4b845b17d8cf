package integration

import (
	"encoding/json"
	"strings"
	"testing"
)

// `broker bench --json` ends with one object on one line that has the fields scripts are written against, with figures that agree
// with each other and counters that came from the brokers.
func TestBench(t *testing.T) {
	ctx := testContext(t)
	c := startCluster(t, ctx, 3)
	for _, work := range [][]string{
		{"produce", "--create", "--records", "3000"},
		{"produce", "--data", "random", "--compression", "none", "--record-size", "100", "--rate", "2000", "--duration", "1s"},
		{"produce", "--sync", "--producers", "1", "--records", "20"},
		{"consume", "--replica", "2", "--records", "3000"},
		{"e2e", "--rate", "500", "--duration", "1s"},
	} {
		r, err := c.Run(ctx, nil, "broker", append(append([]string{"bench"}, work...), "--json")...)
		must(t, err)
		if strings.Count(r.Stdout, "\n") != 1 {
			t.Fatalf("%v: want one line, have %q", work, r.Stdout)
		}
		var fields map[string]any
		must(t, json.Unmarshal([]byte(r.Stdout), &fields))
		for _, name := range []string{"records_per_sec", "mb_per_sec", "p50_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms", "batch_bytes_avg", "batches_per_sync", "syncs_per_sec",
			"cpu_us_per_mb", "compression_ratio", "errors", "allocs_per_batch", "machine", "versions", "flags", "sync_mode"} {
			v, ok := fields[name]
			reads := work[0] == "consume" && (strings.HasPrefix(name, "batch") || name == "compression_ratio" || name == "allocs_per_batch")
			if !ok || v == nil && !reads {
				t.Errorf("%v: %s is %v", work, name, v)
			}
		}
		number := func(name string) float64 { v, _ := fields[name].(float64); return v }
		if number("errors") != 0 || number("records") == 0 || number("p50_ms") > number("p99_ms") || number("p99_ms") > number("max_ms") {
			t.Errorf("%v: %s", work, r.Stdout)
		}
		if number("cpu_us_per_mb") <= 0 && number("seconds") > 0.5 { // processes count their CPU in steps of 10 ms
			t.Errorf("%v: no CPU used: %s", work, r.Stdout)
		}
		switch work[0] {
		case "produce":
			if ratio := number("write_ratio"); ratio < 1 || ratio > 1.5 {
				t.Errorf("%v: %v bytes written per payload byte", work, ratio)
			}
		case "e2e":
			if n, s := number("records"), number("seconds"); n < 100 || n > 500*(s+0.5) { // the second may last longer on a busy machine
				t.Errorf("%v: %v records in %v s at a rate of 500 a second", work, n, s)
			}
		}
	}
}
