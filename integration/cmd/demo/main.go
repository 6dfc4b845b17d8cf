// Command demo shows the whole journey of a record to somebody who has just cloned the repository: three brokers, one real file, the
// leader killed on the way, every copy read back and compared. It exits with 0 only if all copies equal the input, and leaves
// neither processes nor files behind, also after Ctrl-C (130).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"lograft/integration"
)

const (
	exitSame        = 0
	exitDifferent   = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// limit is how long the demo may take before it gives up.
const limit = 3 * time.Minute

func main() {
	bin := flag.String("bin", "bin", "folder that holds broker, produce and consume")
	input := flag.String("file", "", "file to send, one record a line (default: a Go source file that every Go installation has)")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "demo: unexpected argument %q: name the file with -file (make demo FILE=PATH)\n", flag.Arg(0))
		os.Exit(exitUsage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, *bin, *input)
	stop()
	os.Exit(code)
}

// run prepares what the demo needs, plays it, and takes everything away again.
func run(ctx context.Context, bin, input string) int {
	err := prepare(ctx, bin, input)
	switch {
	case err == nil:
		return exitSame
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "\ninterrupted: all brokers are stopped, all files are removed")
		return exitInterrupted
	}
	fmt.Fprintf(os.Stderr, "\nFAILED: %v\n", err)
	return exitDifferent
}

func prepare(ctx context.Context, bin, input string) (err error) {
	if input == "" {
		if input, err = defaultInput(ctx); err != nil {
			return err
		}
	}
	in, err := scan(input)
	if err != nil {
		return err
	}
	if bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "lograft-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cluster, err := integration.New(integration.Options{Bin: integration.Binaries(bin), Dir: dir, Nodes: 3})
	if err != nil {
		return err
	}
	defer cluster.Close()
	playCtx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the demo took longer than %v", limit))
	defer cancel()
	d := &demo{in: in, dir: dir, cluster: cluster, out: os.Stdout}
	if err := d.play(playCtx); err != nil {
		if ctx.Err() == nil {
			d.logTails(os.Stderr)
		}
		return err
	}
	return nil
}

func defaultInput(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w: name a file with make demo FILE=PATH", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "src", "unicode", "tables.go"), nil
}
