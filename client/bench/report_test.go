package bench

import (
	"math"
	"strings"
	"testing"
	"time"
)

func metricsOf(node, pid, batches, rounds, cpu string) string {
	return `# TYPE lograft_info gauge
lograft_info{node="` + node + `",pid="` + pid + `",sync="always"} 1
# TYPE lograft_produce_batches_total counter
lograft_produce_batches_total ` + batches + `
# TYPE lograft_produce_bytes_total counter
lograft_produce_bytes_total{topic="a"} ` + batches + `000
lograft_produce_bytes_total{topic="b"} ` + batches + `000
# TYPE lograft_log_batches_total counter
lograft_log_batches_total ` + batches + `
# TYPE lograft_sync_data_rounds_total counter
lograft_sync_data_rounds_total ` + rounds + `
# TYPE lograft_sync_rounds_total counter
lograft_sync_rounds_total ` + rounds + `
# TYPE lograft_sync_round_seconds histogram
lograft_sync_round_seconds_bucket{le="+Inf"} ` + rounds + `
lograft_sync_round_seconds_sum ` + cpu + `
lograft_sync_round_seconds_count ` + rounds + `
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total ` + cpu + "\n"
}

func lookAt(t *testing.T, at time.Time, texts ...string) seen {
	t.Helper()
	s := seen{at: at, sum: counters{}}
	processes := map[string]bool{}
	for _, text := range texts {
		if err := s.read(strings.NewReader(text), "127.0.0.1:1", processes); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// Counters are summed over brokers and labels, a process that several brokers share counts once, and a report tells the difference.
func TestReportFromCounters(t *testing.T) {
	at := time.Unix(1000, 0)
	before := lookAt(t, at, metricsOf("1", "7", "10", "5", "1"), metricsOf("2", "7", "0", "5", "1"), metricsOf("3", "8", "0", "0", "2"))
	after := lookAt(t, at.Add(2*time.Second), metricsOf("1", "7", "30", "15", "2"), metricsOf("2", "7", "0", "15", "2"), metricsOf("3", "8", "0", "0", "2.5"))
	r := Report{Bytes: 3e6}
	r.fill(before, after, 120_000, 3*time.Second)
	for _, c := range []struct {
		name string
		got  *float64
		want float64
	}{
		{"batch bytes", r.BatchBytesAvg, 2000}, {"compression", r.CompressionRatio, 3}, {"batches per sync", r.BatchesPerSync, 1},
		{"syncs per second", r.SyncsPerSec, 10}, {"ms per sync", r.SyncMsAvg, 125}, {"cpu", r.CPUUsPerMB, 500_000}, {"client cpu", r.ClientCPUUsPerMB, 1_000_000},
	} {
		if c.got == nil || math.Abs(*c.got-c.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
	if r.SyncMode != "always" || r.CountersMissing != "" {
		t.Errorf("sync mode %q, missing %q", r.SyncMode, r.CountersMissing)
	}
	if r.WriteRatio != nil {
		t.Errorf("a ratio without counters: %v", *r.WriteRatio)
	}
}

// Without counters the figures are null and the reason is told; the client's own are there.
func TestReportWithoutCounters(t *testing.T) {
	r := Report{Bytes: 1e6}
	r.fill(seen{missing: "broker 2: refused"}, seen{}, 1, time.Second)
	if r.CountersMissing != "broker 2: refused" || r.BatchBytesAvg != nil || r.ClientCPUUsPerMB == nil {
		t.Fatalf("%+v", r)
	}
}

// Percentiles hold to 3 digits, and a latency beyond the histogram counts as its end instead of getting lost.
func TestLatencies(t *testing.T) {
	h := newHistogram()
	for i := 1; i <= 1000; i++ {
		observe(h, time.Duration(i)*time.Millisecond)
	}
	var r Report
	r.latencies(h)
	for _, c := range []struct{ got, want float64 }{{r.P50Ms, 500}, {r.P95Ms, 950}, {r.P99Ms, 990}, {r.P999Ms, 999}, {r.MaxMs, 1000}, {r.MeanMs, 500.5}} {
		if math.Abs(c.got-c.want) > c.want/500 {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
	observe(h, time.Hour)
	observe(h, -time.Second)
	if r.latencies(h); h.TotalCount() != 1002 || r.MaxMs < 599_000 {
		t.Errorf("%d values, max %v ms", h.TotalCount(), r.MaxMs)
	}
}
