package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"lograft/integration"
)

// fetch gets a page of a broker's HTTP port.
func fetch(ctx context.Context, n *integration.Node, path string) ([]byte, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.HTTP+path, nil)
	if err != nil {
		return nil, err
	}
	r, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(q)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, 256<<20))
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, r.Status, b)
	}
	return b, err
}

// metrics are a broker's numbers by name, summed over labels.
func metrics(ctx context.Context, n *integration.Node) (map[string]float64, error) {
	text, err := fetch(ctx, n, "/metrics")
	if err != nil {
		return nil, err
	}
	m := map[string]float64{}
	for s := bufio.NewScanner(strings.NewReader(string(text))); s.Scan(); {
		line := s.Text()
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		name, _, _ := strings.Cut(line[:at], "{")
		if v, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
			m[name] += v
		}
	}
	return m, nil
}

// sum adds a metric of several brokers.
func sum(ctx context.Context, nodes []*integration.Node, name string) (float64, error) {
	total := 0.0
	for _, n := range nodes {
		m, err := metrics(ctx, n)
		if err != nil {
			return 0, err
		}
		total += m[name]
	}
	return total, nil
}

// rss is the resident memory of brokers, bytes (Linux).
func rss(nodes ...*integration.Node) (total int64) {
	for _, n := range nodes {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.Pid()))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), "VmRSS:")
		var kb int64
		_, _ = fmt.Sscan(rest, &kb)
		total += kb << 10
	}
	return total
}

// cpu is the user and system time of brokers so far.
func cpu(ctx context.Context, nodes []*integration.Node) (time.Duration, error) {
	s, err := sum(ctx, nodes, "process_cpu_seconds_total")
	return time.Duration(s * float64(time.Second)), err
}

// peaks are the highest resident memory of each broker while it is watched.
type peaks struct {
	stop chan struct{}
	done chan struct{}
	high []int64
	all  [][]int64 // by look: each broker
}

// watchMemory looks every so often until end is called.
func watchMemory(nodes []*integration.Node, every time.Duration) *peaks {
	p := &peaks{stop: make(chan struct{}), done: make(chan struct{}), high: make([]int64, len(nodes))}
	go func() { // ends with end
		defer close(p.done)
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			look := make([]int64, len(nodes))
			for i, n := range nodes {
				look[i] = rss(n)
				p.high[i] = max(p.high[i], look[i])
			}
			p.all = append(p.all, look)
			select {
			case <-p.stop:
				return
			case <-t.C:
			}
		}
	}()
	return p
}

func (p *peaks) end() {
	close(p.stop)
	<-p.done
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// dirBytes is the size of all files below a folder.
func dirBytes(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}
