package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// described is what `broker topic describe --format json` says of a topic's settings and replicas.
type described struct {
	Settings []struct {
		Key, Value, Default, Source string
	} `json:"settings"`
	Partitions []struct {
		Partition int `json:"partition"`
		States    []struct {
			Node          int   `json:"node"`
			LogStart      int64 `json:"log_start"`
			HighWatermark int64 `json:"high_watermark"`
			SizeBytes     int64 `json:"size_bytes"`
		} `json:"replica_states"`
	} `json:"partitions"`
}

func describe(t *testing.T, ctx context.Context, c *Cluster, topic string) (d described) {
	t.Helper()
	r := run(t, ctx, c, "", "broker", "topic", "describe", topic, "--format", "json")
	must(t, json.Unmarshal([]byte(r.Stdout), &d))
	return d
}

// waitDescribed waits until every replica of partition 0 is as wanted.
func waitDescribed(t *testing.T, ctx context.Context, c *Cluster, topic string, replicas int, want func(logStart, high, size int64) bool) {
	t.Helper()
	limit, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var d described
	err := Until(limit, func() (bool, error) {
		d = describe(t, ctx, c, topic)
		good := 0
		for _, s := range d.Partitions[0].States {
			if want(s.LogStart, s.HighWatermark, s.SizeBytes) {
				good++
			}
		}
		return good == replicas, nil
	})
	if err != nil {
		t.Fatalf("%v: the replicas are %+v", err, d.Partitions[0].States)
	}
}

// Real processes: a trim holds on every replica and through kill -9 of the leader; what was given up is refused with the range, the rest
// is there; settings are altered while the topic lives, and retention by time empties it.
func TestTrimAndRetention(t *testing.T) {
	ctx := testContext(t)
	c := startCluster(t, ctx, 3)
	run(t, ctx, c, "", "broker", "topic", "create", "t", "--replication-factor", "3", "-c", "segment.bytes=16384", "-c", "retention.ms=-1")
	sent := KeyedLines(generatedLogs()["plain"], logsKeys)
	produceAll(t, ctx, c, "t", sent, "--batch-bytes", "8192", "-z", "none")
	trimmed := int64(len(sent) / 2)
	full := describe(t, ctx, c, "t").Partitions[0].States[0].SizeBytes

	r := runWithin(t, time.Minute, c, "", "broker", "topic", "trim", "t", "--before-offset", fmt.Sprint(trimmed))
	wantFailure(t, r, exitUsage, "--yes")
	r = runWithin(t, time.Minute, c, "", "broker", "topic", "trim", "t", "--before-offset", fmt.Sprint(len(sent)+1), "--yes")
	wantFailure(t, r, exitItemFailed, fmt.Sprintf("[0, %d)", len(sent)))
	run(t, ctx, c, "", "broker", "topic", "trim", "t", "--before-offset", fmt.Sprint(trimmed), "--yes")
	waitDescribed(t, ctx, c, "t", 3, func(start, high, size int64) bool {
		return start == trimmed && high == int64(len(sent)) && size < full*3/4
	})

	leader, err := c.Leader(ctx, "t", 0)
	must(t, err)
	must(t, c.Node(leader).Kill())
	must(t, c.Start(c.Node(leader)))
	waitReady(t, ctx, c)
	for _, n := range c.Nodes() {
		r := runWithin(t, time.Minute, c, "", "consume", "t", "-o", fmt.Sprint(trimmed-1), "-e", "--replica", fmt.Sprint(n.ID), "--consistency", "committed")
		wantFailure(t, r, exitItemFailed, fmt.Sprintf("[%d, %d)", trimmed, len(sent)))
		got := consumeAll(t, ctx, c, "t", n.ID)
		if len(got) != len(sent)-int(trimmed) {
			t.Fatalf("replica %d returns %d records, want %d", n.ID, len(got), len(sent)-int(trimmed))
		}
		for i, r := range got {
			if r.Offset != trimmed+int64(i) || string(r.Value) != sent[r.Offset].Value {
				t.Fatalf("replica %d: record %d is %q at offset %d", n.ID, i, r.Value, r.Offset)
			}
		}
	}

	run(t, ctx, c, "", "broker", "topic", "alter", "t", "-c", "retention.ms=1000", "--partitions", "2")
	waitDescribed(t, ctx, c, "t", 3, func(start, high, size int64) bool { return start == high && size < 20000 })
	d := describe(t, ctx, c, "t")
	if len(d.Partitions) != 2 {
		t.Errorf("%d partitions, want 2", len(d.Partitions))
	}
	for _, s := range d.Settings {
		if want := map[string]string{"retention.ms": "topic 1000", "segment.bytes": "topic 16384", "max.message.bytes": "default 1048588"}[s.Key]; want != "" && want != s.Source+" "+s.Value {
			t.Errorf("setting %s is %s %s, want %s", s.Key, s.Source, s.Value, want)
		}
	}
}
