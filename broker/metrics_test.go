package broker

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"lograft/broker/engine"
	"lograft/client"
)

// get asks a broker's HTTP port.
func get(t *testing.T, addr, path string) (status int, body string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	r, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// scraped is one answer of /metrics.
type scraped map[string]*dto.MetricFamily

func scrape(t *testing.T, addr string) scraped {
	t.Helper()
	_, body := get(t, addr, "/metrics")
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, body)
	}
	return families
}

// value sums the metrics of a name that have all the labels "name=value"; a histogram counts its observations.
func (s scraped) value(name string, labels ...string) (sum float64) {
metrics:
	for _, m := range s[name].GetMetric() {
		for _, want := range labels {
			k, v, _ := strings.Cut(want, "=")
			found := false
			for _, l := range m.GetLabel() {
				found = found || l.GetName() == k && l.GetValue() == v
			}
			if !found {
				continue metrics
			}
		}
		sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return sum
}

// The metrics of a cluster tell what was done: leaders, batches with every stage, syncs, peers, errors by reason; and docs/metrics.md
// names each of them.
func TestMetrics(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := startBrokers(t, 3)
	k := c.client()
	if _, err := k.CreateTopic(ctx, client.TopicSpec{Name: "t", Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	const records = 500
	produceN(ctx, t, k, "t", 0, records)
	if got := len(consumeAll(ctx, t, k, "t", 2)); got != records {
		t.Fatalf("%d records", got)
	}
	if _, err := k.DescribeTopic(ctx, "missing"); err == nil {
		t.Fatal("a missing topic was described")
	}
	all := make([]scraped, 3)
	for i, o := range c.options {
		all[i] = scrape(t, o.HTTPListen)
	}
	total := func(name string, labels ...string) (sum float64) {
		for _, s := range all {
			sum += s.value(name, labels...)
		}
		return sum
	}
	for _, x := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"lograft_groups", nil, 9}, {"lograft_groups_led", nil, 3}, {"lograft_groups_leaderless", nil, 0}, {"lograft_groups_under_replicated", nil, 0},
		{"lograft_replicas_faulty", nil, 0}, {"lograft_produce_records_total", nil, records}, {"lograft_partition_leader", nil, 2},
		{"lograft_partition_leader", []string{"topic=t", "partition=1"}, 1}, {"lograft_peer_connected", nil, 18}, {"lograft_client_errors_total", []string{"reason=TOPIC_NOT_FOUND"}, 1},
		{"lograft_disk_errors_total", nil, 0}, {"lograft_info", []string{"sync=always"}, 3},
	} {
		if got := total(x.name, x.labels...); got != x.want {
			t.Errorf("%s%v: %v, want %v", x.name, x.labels, got, x.want)
		}
	}
	batches := total("lograft_produce_batches_total")
	if batches == 0 {
		t.Fatal("no batches")
	}
	for _, stage := range []string{"queue", "append", "sync", "replicate", "respond"} {
		if got := total("lograft_produce_stage_seconds", "stage="+stage); got != batches {
			t.Errorf("stage %s has %v of %v batches", stage, got, batches)
		}
	}
	if got := total("lograft_log_batches_total"); got < 2*batches || got > 3*batches {
		t.Errorf("%v batches in the logs of three brokers for %v produced", got, batches)
	}
	payload, written := total("lograft_log_payload_bytes_total"), total("lograft_disk_written_bytes_total")
	if payload == 0 || written < payload {
		t.Errorf("%v bytes written for %v of payload", written, payload)
	}
	for _, name := range []string{"lograft_sync_data_rounds_total", "lograft_sync_round_seconds", "lograft_leaderships_won_total", "lograft_disk_syncs_total", "lograft_peer_frames_total",
		"lograft_engine_steps_total", "lograft_log_bytes", "lograft_disk_free_bytes", "process_cpu_seconds_total", "go_memstats_mallocs_total"} {
		if total(name) <= 0 {
			t.Errorf("%s is %v", name, total(name))
		}
	}
	wantGroupLag(ctx, t, c, all, records)
	docs, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range all[0] {
		if strings.HasPrefix(name, "lograft_") && !regexp.MustCompile("`"+name+"[`{]").Match(docs) {
			t.Errorf("docs/metrics.md does not name %s", name)
		}
	}
	for _, m := range regexp.MustCompile("`(lograft_[a-z_]+)[`{]").FindAllStringSubmatch(string(docs), -1) {
		if all[0][m[1]] == nil && all[1][m[1]] == nil && all[2][m[1]] == nil {
			t.Errorf("docs/metrics.md names %s, which no broker has", m[1])
		}
	}
}

// wantGroupLag makes a group that has read 100 records of partition 0 and waits until the brokers together tell its lag: each partition
// once, records and seconds.
func wantGroupLag(ctx context.Context, t *testing.T, c *brokers, all []scraped, records float64) {
	t.Helper()
	if err := c.client().SeekGroup(ctx, "g", []client.GroupOffset{{Topic: "t", Partition: 0, Offset: 100}}); err != nil {
		t.Fatal(err)
	}
	for {
		series, lag, seconds, members := 0, 0.0, 0.0, 0
		for i, o := range c.options {
			all[i] = scrape(t, o.HTTPListen)
			series += len(all[i]["lograft_group_lag_records"].GetMetric())
			members += len(all[i]["lograft_group_members"].GetMetric())
			lag += all[i].value("lograft_group_lag_records", "group=g", "topic=t")
			seconds += all[i].value("lograft_group_lag_seconds", "group=g", "partition=0")
		}
		if series == 2 && members == 1 && lag == records-100 && seconds > 0 && seconds < 60 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%d series of 2 partitions with a lag of %v in all (want %v), %d groups of 1, %v seconds", series, lag, records-100, members, seconds)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// A broker that stopped shows at its peers as under-replication; a broker alone without series of partitions has their sums.
func TestMetricsOfAMissingBroker(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := startBrokers(t, 3)
	for i := range c.options {
		c.end(i)
		c.options[i].NoPartitionMetrics = true
		c.start(i)
	}
	k := c.client()
	if _, err := k.CreateTopic(ctx, client.TopicSpec{Name: "t"}); err != nil {
		t.Fatal(err)
	}
	produceN(ctx, t, k, "t", 0, 10)
	c.end(2)
	for {
		a, b := scrape(t, c.options[0].HTTPListen), scrape(t, c.options[1].HTTPListen)
		if a.value("lograft_groups_led")+b.value("lograft_groups_led") == 2 && a.value("lograft_groups_under_replicated")+b.value("lograft_groups_under_replicated") == 2 &&
			a.value("lograft_peer_connected", "peer=3") == 0 {
			if a["lograft_partition_leader"] != nil || a.value("lograft_log_bytes") == 0 {
				t.Error("series of partitions were to be left out, and nothing else")
			}
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal("the loss of a broker does not show")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// A broker is alive while its loops step and its disk takes writes: a directory that takes none and a loop that stands still are told.
func TestLiveness(t *testing.T) {
	c := startBrokers(t, 1)
	if _, err := c.client().DescribeCluster(t.Context()); err != nil { // it is up
		t.Fatal(err)
	}
	status, body := get(t, c.options[0].HTTPListen, "/livez")
	if status != http.StatusOK || body != "ok\n" {
		t.Errorf("/livez: %d %q", status, body)
	}
	var l liveness
	if why := l.probe(t.TempDir()); why != "" {
		t.Error(why)
	}
	if why := l.probe(filepath.Join(t.TempDir(), "gone")); !strings.Contains(why, "takes no writes") {
		t.Errorf("a directory that is gone: %q", why)
	}
	const now = int64(time.Hour)
	for _, x := range []struct {
		name  string
		stats engine.Stats
		says  string
	}{
		{"just begun", engine.Stats{}, ""},
		{"well", engine.Stats{AtNs: now - int64(time.Second), RoundBeganNs: now - int64(time.Second)}, ""},
		{"worker", engine.Stats{AtNs: now - int64(16*time.Second)}, "a worker has not stepped for 16s"},
		{"disk", engine.Stats{AtNs: now, RoundBeganNs: now - int64(61*time.Second)}, "sync round"},
	} {
		if got := loopsStuck(now, x.stats); !strings.Contains(got, x.says) || x.says == "" && got != "" {
			t.Errorf("%s: %q, want %q", x.name, got, x.says)
		}
	}
}
