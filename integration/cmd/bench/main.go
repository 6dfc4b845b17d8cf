// Command bench runs our side of the table of performance.md on this machine: three `broker serve` processes with sync before every
// acknowledgement, on disks of their own, loaded by `broker bench` and by clients of its own. Results replace the part of a Markdown
// file between two marks per section, the bad ones too; what stands around the marks is left alone.
//
// Every throughput figure is the median of several rounds in which all rows alternate, the bare disk among them, with equal bytes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"

	"lograft/integration"
)

// options are the flags.
type options struct {
	bin, out, profiles string
	run                *regexp.Regexp
	rounds             int
	megabytes          int           // of records per throughput row and round
	seconds            time.Duration // of what is measured by time
	partitions         int
	kills              int
	logMegabytes       int
	soak               time.Duration
}

// section is one part of the results.
type section struct {
	name string
	run  func(context.Context, *bench) (markdown string, err error)
}

var sections = []section{
	{"throughput", throughput},
	{"reads", reads},
	{"partitions", partitions},
	{"restart", restart},
	{"leader-kill", leaderKill},
	{"overload", overload},
}

// Those that run only when they are named.
var special = []section{{"soak", soak}, {"profile", profile}}

// bench is one run.
type bench struct {
	options
	dir string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == diskWriterWord {
		if err := diskWriter(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	names := flag.String("run", "", "regular expression of sections (default: all but soak and profile)")
	flag.StringVar(&o.bin, "bin", "bin", "folder that holds broker, produce and consume")
	flag.StringVar(&o.out, "out", "", "Markdown file whose sections are replaced; empty: standard output only")
	flag.StringVar(&o.profiles, "profiles", "profiles", "folder for profiles")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of throughput rows")
	flag.IntVar(&o.megabytes, "mb", 128, "MB of records per throughput row and round")
	flag.DurationVar(&o.seconds, "time", 5*time.Second, "time of what is measured by time")
	flag.IntVar(&o.partitions, "partitions", 1000, "partitions of the section partitions")
	flag.IntVar(&o.kills, "kills", 20, "leaders killed")
	flag.IntVar(&o.logMegabytes, "log-mb", 1024, "MB of log of the section restart")
	flag.DurationVar(&o.soak, "soak", 10*time.Minute, "length of the section soak")
	flag.Parse()
	var err error
	if *names != "" {
		o.run, err = regexp.Compile(*names)
	}
	if flag.NArg() > 0 || err != nil || o.rounds < 1 || o.megabytes < 1 || o.seconds < time.Second || o.partitions < 1 || o.kills < 1 || o.logMegabytes < 1 {
		fmt.Fprintln(os.Stderr, "bench: numbers must be at least 1, -time at least 1s, -run a regular expression:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := 0
	if err := o.all(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		code = 1
	}
	stop()
	os.Exit(code)
}

// all runs the sections that were asked for. One that fails is told and does not stop the others.
func (o options) all(ctx context.Context) (failed error) {
	dir, err := os.MkdirTemp("", "lograft-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{options: o, dir: dir}
	list := sections
	if o.run != nil {
		list = nil
		for _, s := range append(append([]section{}, sections...), special...) {
			if o.run.MatchString(s.name) {
				list = append(list, s)
			}
		}
	}
	if len(list) == 0 {
		return errors.New("-run matches no section")
	}
	for _, s := range list {
		began := time.Now()
		fmt.Fprintf(os.Stderr, "== %s\n", s.name)
		text, err := s.run(ctx, b)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.name, err))
			text += fmt.Sprintf("\nThe run failed: %v\n", err)
		}
		text = fmt.Sprintf("%s\n%s\n", b.stamp(ctx, time.Since(began)), strings.TrimSpace(text))
		fmt.Println(text)
		if o.out != "" {
			failed = errors.Join(failed, replaceSection(o.out, s.name, text))
		}
	}
	return failed
}

// stamp says when, of what and where.
func (b *bench) stamp(ctx context.Context, took time.Duration) string {
	flags := ""
	flag.Visit(func(f *flag.Flag) {
		if f.Name != "out" && f.Name != "bin" && f.Name != "run" {
			flags += fmt.Sprintf(" -%s %s", f.Name, f.Value)
		}
	})
	host := fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	return fmt.Sprintf("*%s, commit %s, %s; load before the run %s; took %v;%s*\n", time.Now().UTC().Format("2006-01-02 15:04 UTC"), integration.Commit(ctx), host, loadAverage(), took.Round(time.Second), orNone(flags))
}

func orNone(flags string) string {
	if flags == "" {
		return " default flags"
	}
	return flags
}

// loadAverage is what the machine did before: on a shared one a result means little.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}

// replaceSection puts text between the marks of a section, or adds the section at the end.
func replaceSection(file, name, text string) error {
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	begin, end := fmt.Sprintf("<!-- begin %s -->\n", name), fmt.Sprintf("<!-- end %s -->\n", name)
	old := string(b)
	before, rest, ok := strings.Cut(old, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		before, after = strings.TrimRight(old, "\n")+fmt.Sprintf("\n\n## %s\n", name), ""
	}
	return os.WriteFile(file, []byte(before+begin+text+end+after), 0o644)
}

// cluster starts brokers on directories of their own.
func (b *bench) cluster(ctx context.Context, nodes int, serve ...string) (*integration.Cluster, func(), error) {
	dir, err := os.MkdirTemp(b.dir, "cluster-")
	if err != nil {
		return nil, nil, err
	}
	c, err := integration.New(integration.Options{Bin: integration.Binaries(b.bin), Dir: dir, Nodes: nodes, Serve: append([]string{"--log-level", "warn"}, serve...)})
	if err != nil {
		return nil, nil, err
	}
	end := func() {
		c.Close()
		_ = os.RemoveAll(dir)
	}
	if err = c.Start(); err == nil {
		err = c.WaitReady(ctx)
	}
	if err != nil {
		end()
		return nil, nil, err
	}
	return c, end, nil
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }
