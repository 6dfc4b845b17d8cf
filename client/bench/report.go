package bench

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Machine is where the load came from.
type Machine struct {
	OS          string `json:"os"`
	Arch        string `json:"arch"`
	CPU         string `json:"cpu"`
	Cores       int    `json:"cores"`
	MemoryBytes int64  `json:"memory_bytes"`
}

// Report is what a run found. Rates are of record keys and values before compression, MB is 10^6 bytes. Pointers are nil, null in
// JSON, where the brokers' counters could not be read: CountersMissing says why.
type Report struct {
	Work  string `json:"work"`
	Topic string `json:"topic"`
	Data  string `json:"data"`

	RecordsPerSec float64  `json:"records_per_sec"`
	MBPerSec      float64  `json:"mb_per_sec"`
	P50Ms         float64  `json:"p50_ms"`
	P95Ms         float64  `json:"p95_ms"`
	P99Ms         float64  `json:"p99_ms"`
	P999Ms        float64  `json:"p999_ms"`
	MaxMs         float64  `json:"max_ms"`
	MeanMs        float64  `json:"mean_ms"`
	Records       int64    `json:"records"`
	Bytes         int64    `json:"bytes"`
	Seconds       float64  `json:"seconds"`
	Errors        int64    `json:"errors"`
	FirstError    string   `json:"first_error,omitempty"`
	BatchBytesAvg *float64 `json:"batch_bytes_avg"`
	// CompressionRatio is record bytes by bytes of the batches that carried them.
	CompressionRatio *float64 `json:"compression_ratio"`
	// BatchesPerSync is of one broker: batches handed to logs by rounds that made appended entries stable.
	BatchesPerSync *float64 `json:"batches_per_sync"`
	SyncsPerSec    *float64 `json:"syncs_per_sec"` // such rounds, of all brokers
	SyncMsAvg      *float64 `json:"sync_ms_avg"`
	// CPUUsPerMB is the brokers' user and system time, ClientCPUUsPerMB this process's.
	CPUUsPerMB       *float64 `json:"cpu_us_per_mb"`
	ClientCPUUsPerMB *float64 `json:"client_cpu_us_per_mb"`
	AllocsPerBatch   *float64 `json:"allocs_per_batch"` // of the brokers
	// WriteRatio is bytes given to write calls of the logs by payload bytes.
	WriteRatio      *float64 `json:"write_ratio"`
	CountersMissing string   `json:"counters_missing,omitempty"`

	SyncMode string            `json:"sync_mode"`
	Flags    map[string]string `json:"flags"`
	Machine  Machine           `json:"machine"`
	Versions []string          `json:"versions"` // of this program, then of the brokers
	Go       string            `json:"go"`
	Date     string            `json:"date"`
}

// histogram has 3 significant digits from 1 us to 10 minutes.
func newHistogram() *hdr.Histogram { return hdr.New(1, 600_000_000, 3) }

func observe(h *hdr.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d.Microseconds(), 1), 600_000_000)) // in range
}

func (r *Report) latencies(h *hdr.Histogram) {
	ms := func(us int64) float64 { return float64(us) / 1000 }
	r.P50Ms, r.P95Ms, r.P99Ms, r.P999Ms = ms(h.ValueAtQuantile(50)), ms(h.ValueAtQuantile(95)), ms(h.ValueAtQuantile(99)), ms(h.ValueAtQuantile(99.9))
	r.MaxMs, r.MeanMs = ms(h.Max()), h.Mean()/1000
}

func (r *Report) rates(records, bytes int64, took time.Duration) {
	r.Records, r.Bytes, r.Seconds = records, bytes, took.Seconds()
	if took > 0 {
		r.RecordsPerSec, r.MBPerSec = float64(records)/took.Seconds(), float64(bytes)/1e6/took.Seconds()
	}
}

// ThisMachine describes the machine that this program runs on, as far as it tells.
func ThisMachine() Machine {
	m := Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU()}
	m.CPU = field("/proc/cpuinfo", "model name")
	if kb, _, ok := strings.Cut(field("/proc/meminfo", "MemTotal"), " "); ok {
		n, _ := strconv.ParseInt(kb, 10, 64)
		m.MemoryBytes = n << 10
	}
	return m
}

// field is the value of the first "name : value" in a file, "" if there is none.
func field(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
