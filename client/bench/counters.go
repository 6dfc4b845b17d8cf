package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"lograft/client"
)

// counters are the sums over all brokers of what their /metrics say, by name; metrics with labels are summed over these too. A
// histogram x has x_sum.
type counters map[string]float64

// seen is one look at a cluster's counters.
type seen struct {
	at       time.Time
	sum      counters
	brokers  int
	versions []string
	sync     string
	missing  string // why there are none
}

const (
	scrapeTimeout  = 5 * time.Second
	scrapeBytesMax = 16 << 20
)

// look reads the counters of every broker of the cluster.
//
// With TLS towards clients the HTTP ports are asked with TLS too, and in the clear where they have none.
func look(ctx context.Context, c *client.Client, secure *tls.Config) seen {
	s := seen{at: time.Now(), sum: counters{}}
	d, err := c.DescribeCluster(ctx)
	if err != nil {
		s.missing = err.Error()
		return s
	}
	processes := map[string]bool{}
	for _, b := range d.Brokers {
		if !slices.Contains(s.versions, b.Version) {
			s.versions = append(s.versions, b.Version)
		}
		if b.HTTPAddr == "" {
			s.missing = fmt.Sprintf("broker %d has no HTTP listener: set --http-listen", b.Node)
			return s
		}
		err := errNoTLS
		if secure != nil {
			err = s.scrape(ctx, "https", b.HTTPAddr, secure, processes)
		}
		if err != nil {
			err = s.scrape(ctx, "http", b.HTTPAddr, nil, processes)
		}
		if err != nil {
			s.missing = fmt.Sprintf("broker %d: %v", b.Node, err)
			return s
		}
		s.brokers++
	}
	return s
}

var errNoTLS = errors.New("no TLS")

func (s *seen) scrape(ctx context.Context, scheme, addr string, secure *tls.Config, processes map[string]bool) error {
	ctx, cancel := context.WithTimeout(ctx, scrapeTimeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+addr+"/metrics", nil)
	if err != nil {
		return err
	}
	t := &http.Transport{DisableKeepAlives: true, TLSClientConfig: secure} // no connection outlives the look
	r, err := (&http.Client{Transport: t}).Do(q)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return errors.New(r.Status)
	}
	return s.read(io.LimitReader(r.Body, scrapeBytesMax), addr, processes)
}

// read adds one broker's metrics. Those of the process are counted once for brokers that share one.
func (s *seen) read(body io.Reader, addr string, processes map[string]bool) error {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(body)
	if err != nil {
		return err
	}
	process := addr
	if info := families["lograft_info"]; info != nil {
		host, _, _ := strings.Cut(addr, ":")
		for _, l := range info.GetMetric()[0].GetLabel() {
			switch l.GetName() {
			case "pid":
				process = host + "/" + l.GetValue()
			case "sync":
				s.sync = l.GetValue()
			}
		}
	}
	again := processes[process]
	processes[process] = true
	for name, f := range families {
		if again && !strings.HasPrefix(name, "lograft_") {
			continue
		}
		for _, m := range f.GetMetric() {
			s.sum[name] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
			if h := m.GetHistogram(); h != nil {
				s.sum[name+"_sum"] += h.GetSampleSum()
			}
		}
	}
	return nil
}

// fill puts into r what happened between two looks. recordBytes are those of the records that were produced between them.
func (r *Report) fill(before, after seen, recordBytes int64, clientCPU time.Duration) {
	r.Versions = append(r.Versions, after.versions...)
	r.SyncMode = after.sync
	if clientCPU > 0 && r.Bytes > 0 {
		r.ClientCPUUsPerMB = quotient(float64(clientCPU.Microseconds()), float64(r.Bytes)/1e6)
	}
	if before.missing != "" || after.missing != "" {
		r.CountersMissing = before.missing
		if r.CountersMissing == "" {
			r.CountersMissing = after.missing
		}
		return
	}
	d := func(name string) float64 { return after.sum[name] - before.sum[name] }
	const produced, rounds = "lograft_produce_batches_total", "lograft_sync_data_rounds_total"
	r.BatchBytesAvg = quotient(d("lograft_produce_bytes_total"), d(produced))
	r.CompressionRatio = quotient(float64(recordBytes), d("lograft_produce_bytes_total"))
	r.BatchesPerSync = quotient(d("lograft_log_batches_total"), d(rounds))
	r.SyncsPerSec = quotient(d(rounds), after.at.Sub(before.at).Seconds())
	r.SyncMsAvg = quotient(1000*d("lograft_sync_round_seconds_sum"), d("lograft_sync_rounds_total"))
	r.CPUUsPerMB = quotient(1e6*d("process_cpu_seconds_total"), float64(r.Bytes)/1e6)
	r.AllocsPerBatch = quotient(d("go_memstats_mallocs_total"), d(produced))
	r.WriteRatio = quotient(d("lograft_disk_written_bytes_total"), d("lograft_log_payload_bytes_total"))
}

// quotient is nil where there is none.
func quotient(a, b float64) *float64 {
	if b == 0 {
		return nil
	}
	q := a / b
	return &q
}
