package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"lograft/integration"
)

// result is what this program reads of `broker bench --json`.
type result struct {
	RecordsPerSec    float64  `json:"records_per_sec"`
	MBPerSec         float64  `json:"mb_per_sec"`
	P50Ms            float64  `json:"p50_ms"`
	P99Ms            float64  `json:"p99_ms"`
	P999Ms           float64  `json:"p999_ms"`
	MaxMs            float64  `json:"max_ms"`
	Records          int64    `json:"records"`
	Errors           int64    `json:"errors"`
	FirstError       string   `json:"first_error"`
	BatchBytesAvg    *float64 `json:"batch_bytes_avg"`
	CompressionRatio *float64 `json:"compression_ratio"`
	BatchesPerSync   *float64 `json:"batches_per_sync"`
	SyncsPerSec      *float64 `json:"syncs_per_sec"`
	SyncMsAvg        *float64 `json:"sync_ms_avg"`
	CPUUsPerMB       *float64 `json:"cpu_us_per_mb"`
	ClientCPUUsPerMB *float64 `json:"client_cpu_us_per_mb"`
	AllocsPerBatch   *float64 `json:"allocs_per_batch"`
	WriteRatio       *float64 `json:"write_ratio"`
	SyncMode         string   `json:"sync_mode"`
}

// load runs `broker bench` against a cluster.
func load(ctx context.Context, c *integration.Cluster, args ...string) (result, error) {
	var r result
	out, err := c.Run(ctx, nil, "broker", append(append([]string{"bench"}, args...), "--json")...)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal([]byte(out.Stdout), &r)
}

// row is one line of the throughput table.
type row struct {
	name string
	args []string
	size int // bytes of a record; 0: bounded by time
	part int // its records are this part of -mb
	// keep leaves the topic to the rows after it; read says that it reads what a row before it has left.
	keep, read bool
}

var rows = []row{
	{name: "R3, 1 KiB `logs`, 2 producers, snappy", args: []string{"produce", "--producers", "2"}, size: 1024, part: 1, keep: true},
	{name: "consume that from one follower, page cache warm", args: []string{"consume"}, read: true},
	{name: "R3, 1 KiB `random`, no codec, 2 producers", args: []string{"produce", "--producers", "2", "--data", "random", "-z", "none"}, size: 1024, part: 1},
	{name: "R3, 100 B `logs`, 2 producers, snappy", args: []string{"produce", "--producers", "2", "--record-size", "100"}, size: 100, part: 4},
	{name: "R3, one synchronous producer, 1 KiB", args: []string{"produce", "--producers", "1", "--sync"}},
	{name: "R1, 1 KiB `logs`, 2 producers, snappy", args: []string{"produce", "--producers", "2", "--replication-factor", "1"}, size: 1024, part: 1},
	{name: "R3, end to end at 5,000 records/s, 1 KiB", args: []string{"e2e", "--producers", "2", "--rate", "5000"}},
}

// throughput alternates all rows and the bare disk, round after round.
func throughput(ctx context.Context, b *bench) (string, error) {
	c, end, err := b.cluster(ctx, 3)
	if err != nil {
		return "", err
	}
	defer end()
	results := make([][]result, len(rows))
	var disk []float64
	for round := range b.rounds {
		topic := ""
		for i, w := range rows {
			r, left, err := b.oneRow(ctx, c, &w, topic, fmt.Sprintf("bench-%d-%d", round, i))
			if err != nil {
				return "", fmt.Errorf("round %d, %s: %w", round+1, w.name, err)
			}
			topic = left
			if r.Errors > 0 {
				return "", fmt.Errorf("round %d, %s: %d errors, the first: %s", round+1, w.name, r.Errors, r.FirstError)
			}
			results[i] = append(results[i], r)
			fmt.Fprintf(os.Stderr, "round %d: %-50s %8.0f records/s %7.1f MB/s p50 %.2f ms\n", round+1, w.name, r.RecordsPerSec, r.MBPerSec, r.P50Ms)
		}
		mb, err := b.bareDisk(ctx)
		if err != nil {
			return "", err
		}
		disk = append(disk, mb)
		fmt.Fprintf(os.Stderr, "round %d: bare disk, 3 processes: %.1f MB/s each\n", round+1, mb)
	}
	return throughputTable(b, results, disk), nil
}

// oneRow measures a row. left is the topic that it leaves for the next one, "" if none.
func (b *bench) oneRow(ctx context.Context, c *integration.Cluster, w *row, before, topic string) (r result, left string, err error) {
	args := slices.Clone(w.args)
	if w.read {
		topic = before
		leader, err := c.WaitLeader(ctx, topic, 0)
		if err != nil {
			return r, "", err
		}
		args = append(args, "--replica", strconv.Itoa(c.Others(leader)[0].ID), "--records", "1000000000")
	} else {
		args = append(args, "--create")
	}
	switch {
	case w.size > 0:
		args = append(args, "--records", strconv.Itoa(b.megabytes*1_000_000/w.part/w.size))
	case !w.read:
		args = append(args, "--duration", b.seconds.String())
	}
	if r, err = load(ctx, c, append(args, "--topic", topic)...); err != nil || w.keep {
		return r, topic, err
	}
	_, err = c.Run(ctx, nil, "broker", "topic", "delete", topic, "--yes")
	return r, "", err
}

// median, low and high of a figure over the rounds.
func spread(rs []result, of func(*result) float64) (mid, low, high float64) {
	var v []float64
	for i := range rs {
		v = append(v, of(&rs[i]))
	}
	return integration.Spread(v)
}

// maybe is the median of a counter that may be missing.
func maybe(rs []result, format string, of func(*result) *float64) string {
	var v []float64
	for i := range rs {
		if p := of(&rs[i]); p != nil {
			v = append(v, *p)
		}
	}
	if len(v) == 0 {
		return "-"
	}
	mid, _, _ := integration.Spread(v)
	return fmt.Sprintf(format, mid)
}

func throughputTable(b *bench, results [][]result, disk []float64) string {
	var t strings.Builder
	fmt.Fprintf(&t, "Median of %d rounds, all rows alternating; in brackets the lowest and the highest. Sync mode %s. %d MB of records per row and round\n(100 B: a quarter), %v for rows bounded by time. Latency of rows without a rate contains the wait in the producer's buffer.\n\n",
		len(disk), results[0][0].SyncMode, b.megabytes, b.seconds)
	t.WriteString("| work | records/s | MB/s | p50 ms | p99 ms | p99.9 ms | max ms |\n|---|---|---|---|---|---|---|\n")
	cell := func(rs []result, format string, of func(*result) float64) string {
		mid, low, high := spread(rs, of)
		return fmt.Sprintf(format+" ["+format+", "+format+"]", mid, low, high)
	}
	for i, w := range rows {
		rs := results[i]
		one := func(of func(*result) float64) string { mid, _, _ := spread(rs, of); return fmt.Sprintf("%.2f", mid) }
		fmt.Fprintf(&t, "| %s | %s | %s | %s | %s | %s | %s |\n", w.name, cell(rs, "%.0f", func(r *result) float64 { return r.RecordsPerSec }), cell(rs, "%.1f", func(r *result) float64 { return r.MBPerSec }),
			one(func(r *result) float64 { return r.P50Ms }), one(func(r *result) float64 { return r.P99Ms }), one(func(r *result) float64 { return r.P999Ms }), one(func(r *result) float64 { return r.MaxMs }))
	}
	mid, low, high := integration.Spread(disk)
	fmt.Fprintf(&t, "| bare disk: 3 processes at once, each 1 MiB pwrite + fdatasync, the bytes of a `random` row each | - | %.1f [%.1f, %.1f] | - | - | - | - |\n\n", mid, low, high)
	var ratios []float64
	for i, r := range results[2] {
		ratios = append(ratios, r.MBPerSec/disk[i])
	}
	mid, low, high = integration.Spread(ratios)
	fmt.Fprintf(&t, "`random` by bare disk, round by round: **%.2f** [%.2f, %.2f] (goal >= 0.75).\n\n", mid, low, high)
	t.WriteString("| work | bytes/batch | compression | batches/sync | syncs/s | sync ms | CPU us/MB brokers | CPU us/MB client | allocs/batch | written/payload |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for i, w := range rows {
		rs := results[i]
		fmt.Fprintf(&t, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", w.name,
			maybe(rs, "%.0f", func(r *result) *float64 { return r.BatchBytesAvg }), maybe(rs, "%.2f", func(r *result) *float64 { return r.CompressionRatio }),
			maybe(rs, "%.1f", func(r *result) *float64 { return r.BatchesPerSync }), maybe(rs, "%.0f", func(r *result) *float64 { return r.SyncsPerSec }),
			maybe(rs, "%.2f", func(r *result) *float64 { return r.SyncMsAvg }), maybe(rs, "%.0f", func(r *result) *float64 { return r.CPUUsPerMB }),
			maybe(rs, "%.0f", func(r *result) *float64 { return r.ClientCPUUsPerMB }), maybe(rs, "%.0f", func(r *result) *float64 { return r.AllocsPerBatch }),
			maybe(rs, "%.4f", func(r *result) *float64 { return r.WriteRatio }))
	}
	return t.String()
}

// diskWriterWord makes this program a writer of the bare-disk row.
const diskWriterWord = "disk-writer"

const (
	diskWriters    = 3
	diskWriteBytes = 1 << 20
)

// bareDisk has three processes write and sync the same bytes at once, and gives the MB/s of the slowest.
func (b *bench) bareDisk(ctx context.Context) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmds := make([]*exec.Cmd, diskWriters)
	outs := make([]bytes.Buffer, diskWriters)
	for i := range cmds {
		cmds[i] = exec.CommandContext(ctx, self, diskWriterWord, b.path(fmt.Sprintf("disk-%d", i)), strconv.Itoa(b.megabytes*1_000_000))
		cmds[i].Stdout, cmds[i].Stderr = &outs[i], os.Stderr
		if err := cmds[i].Start(); err != nil {
			return 0, err
		}
	}
	slowest := 0.0
	for i := range cmds {
		if err := cmds[i].Wait(); err != nil {
			return 0, err
		}
		seconds, err := strconv.ParseFloat(strings.TrimSpace(outs[i].String()), 64)
		if err != nil {
			return 0, err
		}
		slowest = max(slowest, seconds)
	}
	return float64(b.megabytes) / slowest, nil
}

// diskWriter writes random bytes, syncing each MiB, and prints how many seconds it took.
func diskWriter(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%s wants a file and a number of bytes", diskWriterWord)
	}
	total, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	f, err := os.Create(args[0])
	if err != nil {
		return err
	}
	defer os.Remove(args[0])
	defer f.Close()
	buf := make([]byte, diskWriteBytes)
	rng := rand.NewChaCha8([32]byte{})
	_, _ = rng.Read(buf) // never fails
	began := time.Now()
	for at := 0; at < total; at += len(buf) {
		if _, err := f.WriteAt(buf[:min(len(buf), total-at)], int64(at)); err != nil {
			return err
		}
		if err := datasync(f); err != nil {
			return err
		}
	}
	_, err = fmt.Printf("%.6f\n", time.Since(began).Seconds())
	return err
}
