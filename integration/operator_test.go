package integration

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What an operator types when something is wrong: health sees the loss of a broker (exit 3) and health -e its return, doctor sees
// the cluster, debug bundle has every broker that answers and names the one that does not.
func TestOperator(t *testing.T) {
	ctx := testContext(t)
	c := startCluster(t, ctx, 3)
	must(t, c.CreateTopic(ctx, "t", 3))
	_, err := c.Run(ctx, strings.NewReader("a\nb\n"), "produce", "t")
	must(t, err)

	type screen struct {
		Healthy         bool `json:"healthy"`
		CanLoseOne      bool `json:"can_lose_one_broker"`
		UnderReplicated int  `json:"under_replicated"`
		Nodes           []struct {
			Node      uint64   `json:"node"`
			Up        bool     `json:"up"`
			SyncMsAvg *float64 `json:"sync_ms_avg"`
			DiskFree  *float64 `json:"disk_free_bytes"`
		} `json:"nodes"`
	}
	look := func(ctx context.Context, code int, args ...string) screen {
		t.Helper()
		r, err := c.opts.Bin.Run(ctx, c.Brokers(), nil, "broker", append([]string{"cluster", "health", "--format", "json"}, args...)...)
		must(t, err)
		if r.Code != code {
			t.Fatalf("%s: exit code %d, want %d\n%s%s", r.Command, r.Code, code, r.Stdout, r.Stderr)
		}
		var s screen
		lines := strings.Split(strings.TrimSpace(r.Stdout), "\n")
		must(t, json.Unmarshal([]byte(lines[len(lines)-1]), &s))
		return s
	}
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s := look(waiting, 0, "-e")
	if !s.Healthy || !s.CanLoseOne || len(s.Nodes) != 3 || s.Nodes[0].SyncMsAvg == nil || s.Nodes[0].DiskFree == nil {
		t.Errorf("all is well: %+v", s)
	}

	r, err := c.Run(ctx, nil, "broker", "doctor", "--format", "json", "-b", c.Brokers(), "--data-dir", t.TempDir())
	must(t, err)
	if !strings.Contains(r.Stdout, "healthy") || !strings.Contains(r.Stdout, "clock of 2") {
		t.Errorf("doctor: %s", r.Stdout)
	}

	must(t, c.Node(3).Kill())
	if s := look(ctx, 3); s.Healthy || s.CanLoseOne || s.Nodes[2].Up || s.UnderReplicated == 0 {
		t.Errorf("a broker is gone: %+v", s)
	}
	file := filepath.Join(t.TempDir(), "b.tar.gz")
	r, err = c.opts.Bin.Run(ctx, c.Brokers(), nil, "broker", "debug", "bundle", "-o", file, "--cpu", "1s")
	must(t, err)
	must(t, r.Err())
	parts := unpack(t, file)
	for _, want := range []string{"about.json", "cluster.json", "health.json", "errors.txt", "node-1/metrics.txt", "node-1/goroutines.txt", "node-1/heap.pprof", "node-1/cpu.pprof", "node-2/replicas.json"} {
		if len(parts[want]) == 0 {
			t.Errorf("the bundle has no %s", want)
		}
	}
	if !strings.Contains(parts["errors.txt"], "node-3/metrics.txt") || !strings.Contains(parts["node-1/metrics.txt"], "lograft_groups ") || len(parts["node-3/metrics.txt"]) > 0 {
		t.Errorf("errors.txt: %s", parts["errors.txt"])
	}
	again, err := c.opts.Bin.Run(ctx, c.Brokers(), nil, "broker", "debug", "bundle", "-o", file)
	must(t, err)
	if again.Code == 0 {
		t.Error("a bundle was written over another")
	}

	must(t, c.Start(c.Node(3)))
	if s := look(waiting, 0, "-e"); !s.Healthy || !s.CanLoseOne {
		t.Errorf("the broker is back: %+v", s)
	}
}

// unpack gives the files of a bundle.
func unpack(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	parts := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return parts
		}
		must(t, err)
		b, err := io.ReadAll(r)
		must(t, err)
		parts[strings.TrimPrefix(h.Name, "lograft-debug/")] = string(b)
	}
}
