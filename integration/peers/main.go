// Command peers measures Lograft beside NATS JetStream in one run: three `broker serve` processes, three nats-servers that sync every
// write (sync_interval: always) and three that sync when they do by default, all on this machine, loaded in turn with the same data, row
// after row, round after round. It prints a Markdown table of medians and of ratios round by round, for docs/benchmarks.md.
//
// It is a module of its own, so that what it compares with stays out of the program's dependencies. Run it with make bench-peers.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"lograft/client/bench"
	"lograft/integration"
)

// options are the flags.
type options struct {
	bin       string
	rounds    int
	megabytes int           // of records per row and round
	seconds   time.Duration // of the row of one synchronous producer
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder that holds broker, produce, consume and nats-server")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds, in each of which every row is run on every system")
	flag.IntVar(&o.megabytes, "mb", 96, "MB of records per row and round")
	flag.DurationVar(&o.seconds, "time", 5*time.Second, "length of the row of one synchronous producer")
	flag.Parse()
	if flag.NArg() > 0 || o.rounds < 1 || o.megabytes < 1 || o.seconds < time.Second {
		fmt.Fprintln(os.Stderr, "peers: -rounds and -mb must be at least 1, -time at least 1s")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := o.all(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// figure is what one system reached in one row and round.
type figure struct {
	recordsPerSec, mbPerSec, p50Ms float64
}

// system is one of those that are compared.
type system interface {
	// produce appends records of so many bytes from two producers to a new topic on so many replicas, and waits for all acknowledgements.
	produce(ctx context.Context, topic string, replicas, recordBytes, records int) (figure, error)
	// one appends records of 1 KiB from one producer that waits for each, for so long.
	one(ctx context.Context, topic string, length time.Duration) (figure, error)
	// consume reads all that produce appended to topic, from a broker that does not lead it where the system lets one choose.
	consume(ctx context.Context, topic string, records int) (figure, error)
	remove(ctx context.Context, topic string) error
	version(ctx context.Context) (string, error)
	stop()
}

// all starts the systems and runs all rounds.
func (o options) all(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "lograft-peers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	data, err := bench.OpenData("logs")
	if err != nil {
		return err
	}
	var systems []system
	defer func() {
		for _, s := range systems {
			s.stop()
		}
	}()
	add := func(s system, err error) error {
		if err == nil {
			systems = append(systems, s)
		}
		return err
	}
	err = errors.Join(
		add(startLograft(ctx, integration.Binaries(o.bin), dir)),
		add(startNATS(ctx, filepath.Join(o.bin, "nats-server"), filepath.Join(dir, "nats-always"), "always", data)),
		add(startNATS(ctx, filepath.Join(o.bin, "nats-server"), filepath.Join(dir, "nats-default"), "", data)))
	if err != nil {
		return err
	}
	results := make([][][]figure, len(rows))
	for round := range o.rounds {
		if err := o.round(ctx, round, systems, results); err != nil {
			return err
		}
	}
	return o.print(ctx, data, systems, results)
}

// round runs every row on every system, and adds what they reached to results[row][system].
func (o options) round(ctx context.Context, round int, systems []system, results [][][]figure) error {
	for i, w := range rows {
		if results[i] == nil {
			results[i] = make([][]figure, len(systems))
		}
		for j, s := range systems {
			topic := fmt.Sprintf("peers-%d-%d", round, i)
			if w.of >= 0 {
				topic = fmt.Sprintf("peers-%d-%d", round, w.of)
			}
			f, err := w.run(ctx, o, s, topic)
			if err == nil && !w.keep {
				err = s.remove(ctx, topic)
			}
			if err != nil {
				return fmt.Errorf("round %d, %s on %s: %w", round+1, w.name, names[j], err)
			}
			results[i][j] = append(results[i][j], f)
			fmt.Fprintf(os.Stderr, "round %d: %-32s %-13s %9.0f records/s %7.1f MB/s p50 %.2f ms\n", round+1, w.name, names[j], f.recordsPerSec, f.mbPerSec, f.p50Ms)
		}
	}
	return nil
}
