package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"lograft/integration"
)

// lograft is our side: `broker bench` against three brokers with defaults, which sync before they acknowledge.
type lograft struct{ cluster *integration.Cluster }

func startLograft(ctx context.Context, bin integration.Binaries, dir string) (system, error) {
	c, err := integration.New(integration.Options{Bin: bin, Dir: dir, Nodes: 3, Serve: []string{"--log-level", "warn"}})
	if err != nil {
		return nil, err
	}
	if err = c.Start(); err == nil {
		err = c.WaitReady(ctx)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return &lograft{c}, nil
}

func (l *lograft) stop() { l.cluster.Close() }

func (l *lograft) version(ctx context.Context) (string, error) {
	return "lograft " + integration.Commit(ctx), nil
}

// run runs `broker bench`.
func (l *lograft) run(ctx context.Context, args ...string) (figure, error) {
	out, err := l.cluster.Run(ctx, nil, "broker", append(append([]string{"bench"}, args...), "--json")...)
	if err != nil {
		return figure{}, err
	}
	var r struct {
		RecordsPerSec float64 `json:"records_per_sec"`
		MBPerSec      float64 `json:"mb_per_sec"`
		P50Ms         float64 `json:"p50_ms"`
		Errors        int64   `json:"errors"`
		FirstError    string  `json:"first_error"`
	}
	if err := json.Unmarshal([]byte(out.Stdout), &r); err != nil {
		return figure{}, err
	}
	if r.Errors > 0 {
		return figure{}, fmt.Errorf("%d errors, the first: %s", r.Errors, r.FirstError)
	}
	return figure{r.RecordsPerSec, r.MBPerSec, r.P50Ms}, nil
}

func (l *lograft) produce(ctx context.Context, topic string, replicas, recordBytes, records int) (figure, error) {
	return l.run(ctx, "produce", "--create", "--topic", topic, "--producers", "2", "--replication-factor", strconv.Itoa(replicas),
		"--record-size", strconv.Itoa(recordBytes), "--records", strconv.Itoa(records))
}

func (l *lograft) one(ctx context.Context, topic string, length time.Duration) (figure, error) {
	return l.run(ctx, "produce", "--create", "--topic", topic, "--producers", "1", "--sync", "--duration", length.String())
}

func (l *lograft) consume(ctx context.Context, topic string, records int) (figure, error) {
	leader, err := l.cluster.WaitLeader(ctx, topic, 0)
	if err != nil {
		return figure{}, err
	}
	return l.run(ctx, "consume", "--topic", topic, "--replica", strconv.Itoa(l.cluster.Others(leader)[0].ID), "--records", strconv.Itoa(records))
}

func (l *lograft) remove(ctx context.Context, topic string) error {
	_, err := l.cluster.Run(ctx, nil, "broker", "topic", "delete", topic, "--yes")
	return err
}
