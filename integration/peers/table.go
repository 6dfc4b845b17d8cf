package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"lograft/client/bench"
	"lograft/integration"
)

// names of the systems, in the order in which options.all starts them.
var names = []string{"lograft", "NATS always", "NATS default"}

// row is one line of the table.
type row struct {
	name string
	run  func(ctx context.Context, o options, s system, topic string) (figure, error)
	of   int  // the row whose topic it reads, -1: none
	keep bool // the topic, for a row after it
	// value is what counts, ratio how it compares with a peer's.
	value func(figure) float64
	unit  string
	// goals of performance.md beside NATS always and NATS default; "" where it names none.
	goals [2]string
}

func perSecond(f figure) float64 { return f.recordsPerSec }

var rows = []row{
	{name: "R3, 1 KiB `logs`, 2 producers", of: -1, keep: true, value: perSecond, unit: "records/s", goals: [2]string{">= 6x", ">= 4x"},
		run: func(ctx context.Context, o options, s system, topic string) (figure, error) {
			return s.produce(ctx, topic, 3, 1024, o.megabytes*1_000_000/1024)
		}},
	{name: "consume that", of: 0, value: func(f figure) float64 { return f.mbPerSec }, unit: "MB/s", goals: [2]string{">= 5x", ">= 5x"},
		run: func(ctx context.Context, o options, s system, topic string) (figure, error) {
			return s.consume(ctx, topic, o.megabytes*1_000_000/1024)
		}},
	{name: "R3, 100 B `logs`, 2 producers", of: -1, value: perSecond, unit: "records/s", goals: [2]string{">= 12x", ">= 8x"},
		run: func(ctx context.Context, o options, s system, topic string) (figure, error) {
			return s.produce(ctx, topic, 3, 100, o.megabytes*1_000_000/4/100)
		}},
	{name: "R3, one synchronous producer", of: -1, value: func(f figure) float64 { return f.p50Ms }, unit: "ms p50", goals: [2]string{"<= 0.5x", ""},
		run: func(ctx context.Context, o options, s system, topic string) (figure, error) {
			return s.one(ctx, topic, o.seconds)
		}},
	{name: "R1, 1 KiB `logs`, 2 producers", of: -1, value: perSecond, unit: "records/s", goals: [2]string{">= 40x", ""},
		run: func(ctx context.Context, o options, s system, topic string) (figure, error) {
			return s.produce(ctx, topic, 1, 1024, o.megabytes*1_000_000/1024)
		}},
}

// print writes the table to standard output.
func (o options) print(ctx context.Context, data *bench.Data, systems []system, results [][][]figure) error {
	var versions []string
	for i, s := range systems {
		v, err := s.version(ctx)
		if err != nil {
			return err
		}
		if i < 2 {
			versions = append(versions, v)
		}
	}
	var t strings.Builder
	fmt.Fprintf(&t, "*%s, %s; %s, %d cores, %s/%s, %s; %d MB of records per row and round (100 B: a quarter), %v for the synchronous producer; data: %s*\n\n",
		time.Now().UTC().Format("2006-01-02 15:04 UTC"), strings.Join(versions, ", "), bench.ThisMachine().CPU, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), o.megabytes, o.seconds, data.Name)
	fmt.Fprintf(&t, "Median of %d rounds in which all rows and systems alternate; ratios are taken round by round: median [lowest, highest].\n\n", o.rounds)
	t.WriteString("| work | unit | lograft | NATS always | NATS default | by always | goal | by default | goal |\n|---|---|---|---|---|---|---|---|---|\n")
	for i, w := range rows {
		fmt.Fprintf(&t, "| %s | %s |", w.name, w.unit)
		for j := range systems {
			mid, _, _ := spread(len(results[i][j]), func(round int) float64 { return w.value(results[i][j][round]) })
			fmt.Fprintf(&t, " %s |", digits(mid))
		}
		for peer := range w.goals {
			mid, low, high := spread(o.rounds, func(round int) float64 { return w.value(results[i][0][round]) / w.value(results[i][peer+1][round]) })
			fmt.Fprintf(&t, " **%.2f** [%.2f, %.2f] | %s |", mid, low, high, w.goals[peer])
		}
		t.WriteString("\n")
	}
	_, err := fmt.Print(t.String())
	return err
}

// digits shows large figures without a fraction.
func digits(v float64) string {
	if v < 100 {
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// spread is integration.Spread of count figures.
func spread(count int, of func(int) float64) (mid, low, high float64) {
	v := make([]float64, count)
	for i := range v {
		v[i] = of(i)
	}
	return integration.Spread(v)
}
