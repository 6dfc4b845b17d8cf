package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"lograft/client/bench"
	"lograft/integration"
)

// Bounds of NATS's client: what its library takes by default for messages on their way, and how long a producer waits for room.
const (
	natsPending   = 4000
	natsStallWait = 30 * time.Second
	natsReady     = 30 * time.Second
	natsTry       = time.Second
)

// natsCluster is three nats-servers with JetStream and what talks to them.
type natsCluster struct {
	program string
	data    *bench.Data
	urls    []string
	servers []*exec.Cmd
	conns   []*nats.Conn
}

// startNATS starts three servers with their stores in dir. syncInterval is JetStream's setting of that name, "" for its default.
func startNATS(ctx context.Context, program, dir, syncInterval string, data *bench.Data) (system, error) {
	ports, err := integration.FreePorts(6)
	if err != nil {
		return nil, err
	}
	n := &natsCluster{program: program, data: data}
	var routes []string
	for i := range 3 {
		n.urls = append(n.urls, "nats://"+ports[i])
		routes = append(routes, "nats://"+ports[3+i])
	}
	for i := range 3 {
		if err := n.serve(filepath.Join(dir, fmt.Sprint("node-", i+1)), ports[i], ports[3+i], routes, syncInterval); err != nil {
			n.stop()
			return nil, err
		}
	}
	if err := n.waitReady(ctx); err != nil {
		n.stop()
		return nil, err
	}
	return n, nil
}

// serve starts one server.
func (n *natsCluster) serve(dir, client, cluster string, routes []string, syncInterval string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	setting := ""
	if syncInterval != "" {
		setting = ", sync_interval: " + syncInterval
	}
	conf := fmt.Sprintf("server_name: %s\nlisten: %s\njetstream { store_dir: %q%s }\ncluster { name: peers, listen: %s, routes: [%s] }\nlog_file: %q\n",
		filepath.Base(dir), client, dir, setting, cluster, strings.Join(routes, ", "), dir+".log")
	file := dir + ".conf"
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return err
	}
	cmd := exec.Command(n.program, "-c", file)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: build it with: make bench-peers", err)
	}
	n.servers = append(n.servers, cmd)
	return nil
}

// waitReady waits until a stream of three replicas can be made.
func (n *natsCluster) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, natsReady)
	defer cancel()
	for {
		// A request that comes before there is a leader is never answered.
		try, cancel := context.WithTimeout(ctx, natsTry)
		err := n.create(try, "ready", 3)
		cancel()
		if err == nil {
			return n.remove(ctx, "ready")
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("nats-server is not ready after %v: %w", natsReady, err)
		}
	}
}

func (n *natsCluster) stop() {
	for _, c := range n.conns {
		c.Close()
	}
	for _, s := range n.servers {
		_ = s.Process.Kill() // it is ours, and what it stores is thrown away
		_ = s.Wait()
	}
}

func (n *natsCluster) version(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, n.program, "--version").Output()
	return strings.TrimSpace(string(out)), err
}

// connect gives a connection of its own to server i.
func (n *natsCluster) connect(i int, opts ...jetstream.JetStreamOpt) (jetstream.JetStream, func(), error) {
	c, err := nats.Connect(n.urls[i], nats.Timeout(5*time.Second))
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(c, opts...)
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return js, c.Close, nil
}

func (n *natsCluster) create(ctx context.Context, topic string, replicas int) error {
	js, end, err := n.connect(0)
	if err != nil {
		return err
	}
	defer end()
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: topic, Subjects: []string{topic}, Replicas: replicas, Storage: jetstream.FileStorage})
	return err
}

func (n *natsCluster) remove(ctx context.Context, topic string) error {
	js, end, err := n.connect(0)
	if err != nil {
		return err
	}
	defer end()
	return js.DeleteStream(ctx, topic)
}

func (n *natsCluster) produce(ctx context.Context, topic string, replicas, recordBytes, records int) (figure, error) {
	if err := n.create(ctx, topic, replicas); err != nil {
		return figure{}, err
	}
	const producers = 2
	began := time.Now()
	var group errgroup.Group
	for i := range producers {
		source := n.data.Source(recordBytes, i, producers)
		group.Go(func() error { return n.publish(ctx, topic, source, records/producers) })
	}
	if err := group.Wait(); err != nil {
		return figure{}, err
	}
	took := time.Since(began).Seconds()
	sent := float64(records / producers * producers)
	return figure{recordsPerSec: sent / took, mbPerSec: sent * float64(recordBytes) / 1e6 / took}, nil
}

// publish sends records without waiting for each, and then waits for all acknowledgements.
func (n *natsCluster) publish(ctx context.Context, topic string, source *bench.Source, records int) error {
	var failed atomic.Pointer[error]
	js, end, err := n.connect(0, jetstream.WithPublishAsyncMaxPending(natsPending),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, _ *nats.Msg, err error) { failed.CompareAndSwap(nil, &err) }))
	if err != nil {
		return err
	}
	defer end()
	for range records {
		if _, err := js.PublishAsync(topic, source.Next(), jetstream.WithStallWait(natsStallWait)); err != nil {
			return err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (n *natsCluster) one(ctx context.Context, topic string, length time.Duration) (figure, error) {
	if err := n.create(ctx, topic, 3); err != nil {
		return figure{}, err
	}
	js, end, err := n.connect(0)
	if err != nil {
		return figure{}, err
	}
	defer end()
	h := hdrhistogram.New(1, 600_000_000, 3)
	source := n.data.Source(1024, 0, 1)
	records, began := 0, time.Now()
	for ; time.Since(began) < length; records++ {
		sent := time.Now()
		if _, err := js.Publish(ctx, topic, source.Next()); err != nil {
			return figure{}, err
		}
		if err := h.RecordValue(time.Since(sent).Microseconds()); err != nil {
			return figure{}, err
		}
	}
	took := time.Since(began).Seconds()
	return figure{float64(records) / took, float64(records) * 1024 / 1e6 / took, float64(h.ValueAtQuantile(50)) / 1000}, nil
}

// consume reads with an ordered consumer, the library's fastest way that skips nothing. Clients can't choose a replica to read from.
func (n *natsCluster) consume(ctx context.Context, topic string, records int) (figure, error) {
	js, end, err := n.connect(1)
	if err != nil {
		return figure{}, err
	}
	defer end()
	consumer, err := js.OrderedConsumer(ctx, topic, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return figure{}, err
	}
	records = records / 2 * 2 // as produce divides them
	var got, size int64
	done := make(chan struct{})
	var once sync.Once
	began := time.Now()
	run, err := consumer.Consume(func(m jetstream.Msg) {
		got, size = got+1, size+int64(len(m.Data()))
		if got >= int64(records) {
			once.Do(func() { close(done) })
		}
	}, jetstream.PullMaxMessages(5000))
	if err != nil {
		return figure{}, err
	}
	defer run.Stop()
	select {
	case <-done:
	case <-ctx.Done():
		return figure{}, context.Cause(ctx)
	case <-time.After(5 * time.Minute):
		return figure{}, errors.New("not all records came back within 5 minutes")
	}
	took := time.Since(began).Seconds()
	return figure{recordsPerSec: float64(got) / took, mbPerSec: float64(size) / 1e6 / took}, nil
}
