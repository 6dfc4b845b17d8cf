package cli

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lograft/client"
	"lograft/client/bench"
)

// benchFlags are those of bench that need more than a look.
type benchFlags struct {
	data, codec, acks, consistency string
	json                           bool
}

func (a *app) benchCommand() *cobra.Command {
	c := &cobra.Command{Use: "bench", Short: "Measure a cluster: throughput, latency, and what the brokers did for it", Args: noArgs,
		Example: "  broker bench produce --create --records 200000\n  broker bench consume --replica 2\n  broker bench e2e --create --rate 5000 --duration 30s --json",
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() }}
	a.clientFlags(c)
	c.AddCommand(
		a.benchWork("produce", "Append records; latency is from the time a record was due to its acknowledgement", bench.Produce,
			`  broker bench produce --create                                  # 10 s of real log lines, as fast as it goes
  broker bench produce --create --data random -z none --producers 2
  broker bench produce --create --sync --producers 1              # one record at a time
  broker bench produce --create --rate 20000 --duration 1m --json # open loop: a stall counts for every record it delays`),
		a.benchWork("consume", "Read a topic from its start; latency is that of a poll", bench.Consume,
			`  broker bench consume --topic bench
  broker bench consume --topic bench --replica 2 --consistency committed
  broker bench consume --create --records 500000 --json           # fills the topic up first`),
		a.benchWork("e2e", "Append and read at once; latency is from the time a record was due until a consumer has it", bench.EndToEnd,
			`  broker bench e2e --create --rate 5000
  broker bench e2e --create --sync --duration 10s --json`))
	return c
}

func (a *app) benchWork(name, short string, run func(context.Context, bench.Options) (bench.Report, error), example string) *cobra.Command {
	var o bench.Options
	var f benchFlags
	c := &cobra.Command{Use: name, Short: short, Args: noArgs, Example: example,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.complete(c.Flags(), &o); err != nil {
				return err
			}
			o.Client.Brokers = a.brokers
			var err error
			if o.Client.TLS, err = client.LoadTLS(a.tls); err != nil {
				return usageError{err}
			}
			return a.bench(c, run, o, f.json)
		}}
	s := c.Flags()
	s.StringVar(&o.Topic, "topic", "bench", "topic")
	s.BoolVar(&o.Create, "create", false, "create the topic if it does not exist")
	s.Int32Var(&o.Partitions, "partitions", 1, "partitions of the topic, with --create")
	s.Int32Var(&o.ReplicationFactor, "replication-factor", 0, "replicas of each partition, with --create (default: 3, or one per broker if there are fewer)")
	s.Int64Var(&o.Records, "records", 0, "stop after so many records; 0: --duration ends it")
	s.DurationVar(&o.Duration, "duration", 0, "stop after so long (default: 10s without --records)")
	s.StringVar(&f.consistency, "consistency", "linearizable", "of reads: linearizable or committed")
	s.Uint64Var(&o.Replica, "replica", 0, "read from this node only")
	s.IntVar(&o.Consumers, "consumers", 1, "consumers, each with a connection of its own; the partitions are divided among them")
	s.StringVar(&f.data, "data", "logs", "logs (real log lines), random (incompressible), a file, or a directory of *.log; no value is repeated")
	s.IntVar(&o.RecordBytes, "record-size", 1024, "bytes of a record")
	s.IntVar(&o.Producers, "producers", 2, "producers, each with a connection of its own")
	s.BoolVar(&o.Sync, "sync", false, "each producer waits for the result of a record before it sends the next")
	s.Float64Var(&o.Rate, "rate", 0, "records per second of all producers together; 0: as fast as possible")
	s.StringVarP(&f.codec, "compression", "z", "snappy", "none, snappy, lz4, zstd or gzip")
	s.StringVar(&f.acks, "acks", "all", "all: acknowledged is on stable storage of a majority; there is no weaker mode")
	s.IntVar(&o.BatchBytes, "batch-bytes", 1<<20, "a batch is closed at this size, before compression, and at the topic's max.message.bytes")
	s.Int64Var(&o.BufferBytes, "buffer-bytes", 32<<20, "records of one producer that may wait for a result")
	s.DurationVar(&o.Linger, "linger", 5*time.Millisecond, "how long a batch waits for company while another is in flight")
	s.BoolVar(&f.json, "json", false, "one JSON object on one line")
	return c
}

// complete reads the words among the flags.
func (f *benchFlags) complete(set *pflag.FlagSet, o *bench.Options) (err error) {
	if o.Codec, err = client.ParseCodec(f.codec); err != nil {
		return usagef("-z %q: want none, snappy, lz4, zstd or gzip", f.codec)
	}
	if f.acks != "all" && f.acks != "-1" {
		return usagef("--acks %q: only all is possible: every acknowledged record is on stable storage of a majority", f.acks)
	}
	switch f.consistency {
	case "linearizable":
	case "committed":
		o.Consistency = client.Committed
	default:
		return usagef("--consistency %q: want linearizable or committed", f.consistency)
	}
	if o.Records == 0 && !set.Changed("duration") {
		o.Duration = 10 * time.Second
	}
	if o.BatchBytes < 0 || o.BufferBytes < 0 || o.Linger < 0 {
		return usagef("--batch-bytes, --buffer-bytes and --linger want a number from 0 on")
	}
	if err := o.Check(); err != nil {
		return usageError{err}
	}
	if o.Data, err = bench.OpenData(f.data); err != nil {
		return usageError{err}
	}
	return nil
}

func (a *app) bench(c *cobra.Command, run func(context.Context, bench.Options) (bench.Report, error), o bench.Options, asJSON bool) error {
	bar := a.benchBar(c.Name(), &o)
	if bar != nil {
		o.Progress = func(n int64) {
			if o.Records == 0 {
				bar.Describe(fmt.Sprintf("%s: %d records", c.Name(), n))
				n = int64(bar.State().SecondsSince * 10)
			}
			_ = bar.Set64(min(n, bar.GetMax64()))
		}
	}
	r, err := run(c.Context(), o)
	if bar != nil {
		_ = bar.Finish()
	}
	if err != nil {
		return asUsage(err)
	}
	r.Versions = append([]string{a.hooks.Version}, r.Versions...)
	r.Flags = map[string]string{}
	c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" {
			r.Flags[f.Name] = f.Value.String()
		}
	})
	if asJSON {
		err = a.writeJSON(r)
	} else {
		err = a.showBench(&r)
	}
	switch {
	case err != nil:
		return err
	case c.Context().Err() != nil:
		return codeError(exitInterrupted)
	case r.Errors > 0:
		return fmt.Errorf("%d records failed; the first: %s", r.Errors, r.FirstError)
	}
	return nil
}

// benchBar is a progress bar on standard error if that is a terminal, else nil: of records, or of tenths of a second.
func (a *app) benchBar(name string, o *bench.Options) *progressbar.ProgressBar {
	if !terminal(a.Err) {
		return nil
	}
	total := o.Records
	opts := []progressbar.Option{progressbar.OptionSetWriter(a.Err), progressbar.OptionSetDescription(name), progressbar.OptionThrottle(100 * time.Millisecond),
		progressbar.OptionClearOnFinish(), progressbar.OptionEnableColorCodes(os.Getenv("NO_COLOR") == "")}
	if total == 0 {
		total = max(1, int64(o.Duration/(100*time.Millisecond)))
	} else {
		opts = append(opts, progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("records"))
	}
	return progressbar.NewOptions64(total, opts...)
}

// showBench writes a report for people.
func (a *app) showBench(r *bench.Report) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-14s "+format+"\n", append([]any{name}, args...)...)
	}
	num := func(v *float64, format string) string {
		if v == nil {
			return "?"
		}
		return fmt.Sprintf(format, *v)
	}
	line(r.Work, "%s records/s, %.1f MB/s (%d records of %s in %.2f s, %d errors)", strconv.FormatFloat(r.RecordsPerSec, 'f', 0, 64), r.MBPerSec, r.Records, r.Data, r.Seconds, r.Errors)
	line("latency", "p50 %.2f  p95 %.2f  p99 %.2f  p99.9 %.2f  max %.2f ms", r.P50Ms, r.P95Ms, r.P99Ms, r.P999Ms, r.MaxMs)
	switch {
	case r.CountersMissing != "":
		line("counters", "none: %s", r.CountersMissing)
	case r.BatchBytesAvg == nil: // nothing was appended
		line("CPU", "brokers %s us/MB, this program %s us/MB", num(r.CPUUsPerMB, "%.0f"), num(r.ClientCPUUsPerMB, "%.0f"))
	default:
		line("batches", "%s bytes each, compressed %s:1, %s per sync", num(r.BatchBytesAvg, "%.0f"), num(r.CompressionRatio, "%.2f"), num(r.BatchesPerSync, "%.1f"))
		line("disk", "sync %s: %s rounds/s in all, %s ms each; %s bytes written per payload byte", r.SyncMode, num(r.SyncsPerSec, "%.0f"), num(r.SyncMsAvg, "%.2f"), num(r.WriteRatio, "%.3f"))
		line("CPU", "brokers %s us/MB, this program %s us/MB; brokers allocate %s times per batch", num(r.CPUUsPerMB, "%.0f"), num(r.ClientCPUUsPerMB, "%.0f"), num(r.AllocsPerBatch, "%.0f"))
	}
	line("machine", "%d cores %s, %s/%s, %s, brokers %s", r.Machine.Cores, r.Machine.CPU, r.Machine.OS, r.Machine.Arch, r.Go, strings.Join(r.Versions[1:], ", "))
	if r.FirstError != "" {
		line("first error", "%s", r.FirstError)
	}
	_, err := a.Out.Write([]byte(b.String()))
	return err
}
