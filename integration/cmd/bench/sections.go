package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"lograft/client"
	"lograft/integration"
)

// electionTimeout is broker serve's default, the lower bound of what is drawn.
const electionTimeout = time.Second

// partitions creates many, leaves them alone, loads them, kills a broker and brings it back.
func partitions(ctx context.Context, b *bench) (string, error) {
	c, end, err := b.cluster(ctx, 3)
	if err != nil {
		return "", err
	}
	defer end()
	before := rss(c.Nodes()...)
	began := time.Now()
	if err := c.CreateTopic(ctx, "many", b.partitions); err != nil {
		return "", err
	}
	if err := allLed(ctx, c.Nodes(), b.partitions+1); err != nil {
		return "", err
	}
	created := time.Since(began)
	time.Sleep(3 * time.Second) // what creation has left to do
	used, err := cpuOver(ctx, c, 2*b.seconds)
	if err != nil {
		return "", err
	}
	idle := rss(c.Nodes()...)
	r, err := load(ctx, c, "produce", "--topic", "many", "--producers", "2", "--duration", b.seconds.String())
	if err != nil {
		return "", err
	}
	loaded := rss(c.Nodes()...)
	took, err := outage(ctx, c, b.partitions+1)
	if err != nil {
		return "", err
	}
	began = time.Now()
	if err := c.Start(c.Node(3)); err != nil {
		return "", err
	}
	if err := c.WaitReady(ctx, c.Node(3)); err != nil {
		return "", err
	}
	back := time.Since(began)
	replicas := float64(3 * b.partitions)
	var t strings.Builder
	fmt.Fprintf(&t, "%d partitions, 3 replicas each, on 3 brokers; election timeout %v.\n\n| what | figure | goal |\n|---|---|---|\n", b.partitions, electionTimeout)
	fmt.Fprintf(&t, "| created, and each led by somebody | %.2f s | - |\n", created.Seconds())
	fmt.Fprintf(&t, "| idle: CPU of all brokers together | %.1f %% of one core | < 10 %% |\n", 100*used)
	fmt.Fprintf(&t, "| idle: resident memory per replica, above that of an empty broker | %.1f KiB | < 100 KiB |\n", float64(idle-before)/1024/replicas)
	fmt.Fprintf(&t, "| loaded by 2 producers (1 KiB `logs`, snappy, no key) | %.0f records/s, %.1f MB/s, p99 %.1f ms | - |\n", r.RecordsPerSec, r.MBPerSec, r.P99Ms)
	fmt.Fprintf(&t, "| loaded: resident memory of all brokers | %.0f MiB (idle %.0f MiB, empty %.0f MiB) | - |\n", mib(loaded), mib(idle), mib(before))
	fmt.Fprintf(&t, "| kill -9 of a broker: until the other two lead everything | %.2f s | - |\n", took.Seconds())
	fmt.Fprintf(&t, "| that broker: from start to /readyz | %.2f s | < 5 s |\n", back.Seconds())
	return t.String(), nil
}

// allLed waits until these brokers lead so many groups.
func allLed(ctx context.Context, nodes []*integration.Node, groups int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("not every group got a leader within 2 minutes"))
	defer cancel()
	return integration.Until(ctx, func() (bool, error) {
		led, err := sum(ctx, nodes, "lograft_groups_led")
		return err == nil && led >= float64(groups), nil
	})
}

// cpuOver is the part of one core that all brokers took for a while.
func cpuOver(ctx context.Context, c *integration.Cluster, d time.Duration) (float64, error) {
	before, err := cpu(ctx, c.Nodes())
	if err != nil {
		return 0, err
	}
	began := time.Now()
	time.Sleep(d)
	after, err := cpu(ctx, c.Nodes())
	return (after - before).Seconds() / time.Since(began).Seconds(), err
}

// outage kills node 3 and waits until the others lead everything.
func outage(ctx context.Context, c *integration.Cluster, groups int) (time.Duration, error) {
	if err := c.Node(3).Kill(); err != nil {
		return 0, err
	}
	began := time.Now()
	err := allLed(ctx, c.Others(3), groups)
	return time.Since(began), err
}

// restart kills a follower that holds a big log and waits until it is ready again.
func restart(ctx context.Context, b *bench) (string, error) {
	c, end, err := b.cluster(ctx, 3)
	if err != nil {
		return "", err
	}
	defer end()
	if _, err := load(ctx, c, "produce", "--create", "--topic", "big", "--data", "random", "-z", "none", "--producers", "2", "--records", strconv.Itoa(b.logMegabytes*1_000_000/1024)); err != nil {
		return "", err
	}
	leader, err := c.WaitLeader(ctx, "big", 0)
	if err != nil {
		return "", err
	}
	n := c.Others(leader)[0]
	var times []float64
	for range 5 {
		if err := n.Kill(); err != nil {
			return "", err
		}
		began := time.Now()
		if err := c.Start(n); err != nil {
			return "", err
		}
		if err := c.WaitReady(ctx, n); err != nil {
			return "", err
		}
		times = append(times, time.Since(began).Seconds())
	}
	mid, low, high := integration.Spread(times)
	return fmt.Sprintf("A follower with %.2f GiB of log, killed with -9 and started, from start to /readyz, page cache warm, median of %d: **%.2f s** [%.2f, %.2f] (goal < 1 s with 10 GiB).\n",
		float64(dirBytes(n.DataDir))/(1<<30), len(times), mid, low, high), nil
}

// acks notes when records were acknowledged.
type acks struct {
	mu      sync.Mutex
	last    time.Time
	longest time.Duration
	failed  int
	first   string
}

func (a *acks) result(r client.Result) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Err != nil {
		if a.failed++; a.first == "" {
			a.first = r.Err.Error()
		}
		return
	}
	now := time.Now()
	if !a.last.IsZero() {
		a.longest = max(a.longest, now.Sub(a.last))
	}
	a.last = now
}

// take gives the longest gap since the last take; seen is when a record was acknowledged last.
func (a *acks) take() (longest time.Duration, seen time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	longest, a.longest = a.longest, 0
	return longest, a.last
}

// writeEvery is the interval of the records that show a gap.
const writeEvery = 2 * time.Millisecond

// leaderKill kills the leader again and again under a steady trickle of records.
func leaderKill(ctx context.Context, b *bench) (string, error) {
	c, end, err := b.cluster(ctx, 3)
	if err != nil {
		return "", err
	}
	defer end()
	if err := c.CreateTopic(ctx, "t", 1); err != nil {
		return "", err
	}
	k, err := client.New(client.Options{Brokers: strings.Split(c.Brokers(), ",")})
	if err != nil {
		return "", err
	}
	defer k.Close()
	p, err := k.NewProducer(client.DefaultProducerOptions())
	if err != nil {
		return "", err
	}
	var a acks
	writing, stop := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error {
		t := time.NewTicker(writeEvery)
		defer t.Stop()
		for writing.Err() == nil {
			if err := p.Produce(writing, &client.Record{Topic: "t", Partition: client.AnyPartition, Value: []byte("x")}, a.result); err != nil {
				return nil // stopped
			}
			<-t.C
		}
		return nil
	})
	gaps, err := killLeaders(ctx, c, &a, b.kills)
	stop()
	_ = g.Wait()
	closing, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err = errors.Join(err, p.Close(closing))
	if a.failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d records failed, the first: %s", a.failed, a.first))
	}
	mid, low, high := integration.Spread(gaps)
	limit := float64(electionTimeout.Milliseconds())
	return fmt.Sprintf("kill -9 of the leader, %d times, while a record is sent every %v: longest gap between two acknowledgements, election timeout %.0f ms (drawn from [%.0f, %.0f)):\nmedian **%.0f ms = %.2fx** (goal <= 2x), max **%.0f ms = %.2fx** (goal <= 3x), min %.0f ms. Records failed: %d.\n",
		len(gaps), writeEvery, limit, limit, 1.5*limit, mid, mid/limit, high, high/limit, low, a.failed), err
}

func killLeaders(ctx context.Context, c *integration.Cluster, a *acks, kills int) (gaps []float64, err error) {
	for range kills {
		leader, err := c.WaitLeader(ctx, "t", 0)
		if err != nil {
			return gaps, err
		}
		time.Sleep(300 * time.Millisecond)
		a.take()
		if err := c.Node(leader).Kill(); err != nil {
			return gaps, err
		}
		killed := time.Now()
		limited, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("nothing was acknowledged for 30 s after a kill"))
		err = integration.Until(limited, func() (bool, error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.last.After(killed.Add(50 * time.Millisecond)), nil
		})
		cancel()
		if err != nil {
			return gaps, err
		}
		time.Sleep(200 * time.Millisecond)
		gap, _ := a.take()
		gaps = append(gaps, float64(gap.Microseconds())/1000)
		fmt.Fprintf(os.Stderr, "kill %d of node %d: %.0f ms\n", len(gaps), leader, gaps[len(gaps)-1])
		if err := c.Start(c.Node(leader)); err != nil {
			return gaps, err
		}
		if err := c.WaitReady(ctx, c.Node(leader)); err != nil {
			return gaps, err
		}
	}
	return gaps, nil
}

// overload offers ten times what the cluster takes and watches the brokers' memory.
func overload(ctx context.Context, b *bench) (string, error) {
	c, end, err := b.cluster(ctx, 3)
	if err != nil {
		return "", err
	}
	defer end()
	if err := c.CreateTopic(ctx, "o", 16); err != nil {
		return "", err
	}
	common := []string{"produce", "--topic", "o", "--data", "random", "-z", "none"}
	able, err := load(ctx, c, append(common, "--producers", "2", "--duration", b.seconds.String())...)
	if err != nil {
		return "", err
	}
	idle := make([]int64, 0, 3)
	for _, n := range c.Nodes() {
		idle = append(idle, rss(n))
	}
	rate := 10 * able.RecordsPerSec
	watch := watchMemory(c.Nodes(), 100*time.Millisecond)
	r, err := load(ctx, c, append(common, "--producers", "16", "--buffer-bytes", strconv.Itoa(8<<20), "--rate", fmt.Sprintf("%.0f", rate), "--duration", (4*b.seconds).String())...)
	watch.end()
	if err != nil {
		return "", err
	}
	var t strings.Builder
	fmt.Fprintf(&t, "16 partitions, 1 KiB `random`, no codec. Two producers reached %.0f records/s; then 16 producers offered %.0f records/s for %v and got %.0f, %d errors.\n\n| broker | resident before | highest resident |\n|---|---|---|\n",
		able.RecordsPerSec, rate, 4*b.seconds, r.RecordsPerSec, r.Errors)
	for i, n := range c.Nodes() {
		fmt.Fprintf(&t, "| %d | %.0f MiB | %.0f MiB |\n", n.ID, mib(idle[i]), mib(watch.high[i]))
	}
	refused, err := sum(ctx, c.Nodes(), "lograft_client_errors_total")
	fmt.Fprintf(&t, "\nAnswers that were errors, retried by the clients: %.0f.\n", refused)
	return t.String(), err
}

// soak loads the cluster at 80 % of what it can for long; it fails if memory grows.
func soak(ctx context.Context, b *bench) (string, error) {
	c, end, err := b.cluster(ctx, 3)
	if err != nil {
		return "", err
	}
	defer end()
	if _, err := c.Run(ctx, nil, "broker", "topic", "create", "s", "--partitions", "4", "--replication-factor", "3", "-c", "retention.bytes="+strconv.Itoa(256<<20)); err != nil {
		return "", err
	}
	able, err := load(ctx, c, "e2e", "--topic", "s", "--duration", b.seconds.String())
	if err != nil {
		return "", err
	}
	rate := 0.8 * able.RecordsPerSec
	watch := watchMemory(c.Nodes(), max(100*time.Millisecond, b.soak/200))
	r, err := load(ctx, c, "e2e", "--topic", "s", "--rate", fmt.Sprintf("%.0f", rate), "--duration", b.soak.String())
	watch.end()
	if err != nil {
		return "", err
	}
	early, late := tenth(watch.all, 2), tenth(watch.all, 9)
	growth := late/early - 1
	text := fmt.Sprintf("End to end, 4 partitions, 1 KiB `logs`: %.0f of %.0f records/s for %v: p50 %.2f ms, p99 %.2f ms, max %.1f ms, %d errors. Resident memory of all brokers: median %.0f MiB in the third tenth of the time, %.0f MiB in the last: %+.1f %%.\n",
		r.RecordsPerSec, able.RecordsPerSec, b.soak, r.P50Ms, r.P99Ms, r.MaxMs, r.Errors, early/(1<<20), late/(1<<20), 100*growth)
	if growth > 0.1 {
		return text, fmt.Errorf("memory grew by %.1f %%", 100*growth)
	}
	return text, nil
}

// tenth is the median of all brokers' memory in one tenth of the looks.
func tenth(looks [][]int64, which int) float64 {
	var v []float64
	for _, look := range looks[len(looks)*which/10 : max(len(looks)*which/10+1, len(looks)*(which+1)/10)] {
		var total int64
		for _, x := range look {
			total += x
		}
		v = append(v, float64(total))
	}
	mid, _, _ := integration.Spread(v)
	return mid
}

// profile keeps profiles of a loaded cluster's brokers.
func profile(ctx context.Context, b *bench) (string, error) {
	c, end, err := b.cluster(ctx, 3)
	if err != nil {
		return "", err
	}
	defer end()
	if err := os.MkdirAll(b.profiles, 0o755); err != nil {
		return "", err
	}
	if err := c.CreateTopic(ctx, "p", 1); err != nil {
		return "", err
	}
	seconds := int(b.seconds.Seconds())
	var g errgroup.Group
	g.Go(func() error {
		_, err := load(ctx, c, "produce", "--topic", "p", "--duration", (2*b.seconds + 3*time.Second).String())
		return err
	})
	time.Sleep(time.Second)
	kept := make([][]string, len(c.Nodes()))
	for i, n := range c.Nodes() {
		g.Go(func() error {
			for _, p := range []struct{ name, path string }{
				{"cpu", fmt.Sprintf("profile?seconds=%d", seconds)}, {"allocs", fmt.Sprintf("allocs?seconds=%d", max(1, seconds/3))}, {"block", fmt.Sprintf("block?seconds=%d", max(1, seconds/3))},
				{"mutex", fmt.Sprintf("mutex?seconds=%d", max(1, seconds/3))}, {"heap", "heap"},
			} {
				text, err := fetch(ctx, n, "/debug/pprof/"+p.path)
				if err != nil {
					return err
				}
				name := filepath.Join(b.profiles, fmt.Sprintf("node-%d.%s.pprof", n.ID, p.name))
				if err := os.WriteFile(name, text, 0o644); err != nil {
					return err
				}
				kept[i] = append(kept[i], name)
			}
			return nil
		})
	}
	err = g.Wait()
	leader, _ := c.Leader(ctx, "p", 0)
	var t strings.Builder
	fmt.Fprintf(&t, "Node %d led. Look at one with: go tool pprof -top bin/broker FILE\n\n", leader)
	for _, files := range kept {
		fmt.Fprintf(&t, "%s\n", strings.Join(files, " "))
	}
	return t.String(), err
}
