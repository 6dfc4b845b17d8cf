package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"lograft/integration"
)

const topic = "demo"

// How long one step of the demo may take on a slow machine.
const (
	readyMax = 60 * time.Second
	stepMax  = 60 * time.Second
)

// secondHalfPace spreads the second half of the input over about a second, so that the kill falls between its records.
const (
	secondHalfPieces = 100
	secondHalfPace   = 10 * time.Millisecond
)

// demo is one performance.
type demo struct {
	in      input
	dir     string
	cluster *integration.Cluster
	out     io.Writer
	steps   int
}

// play is the whole story, in order.
func (d *demo) play(ctx context.Context) error {
	started := time.Now()
	d.say("Lograft: one real file, three brokers, one of them killed on the way.\n\n")
	d.say("  input    %s\n           %s lines, %s bytes\n", d.in.path, thousands(d.in.lines), thousands(int(d.in.bytes)))
	if d.in.padded {
		d.say("           (its last line has no newline: one is added)\n")
	}
	d.say("  files    %s, removed at the end\n", d.dir)

	if err := d.startBrokers(ctx); err != nil {
		return err
	}
	leader, err := d.createTopic(ctx)
	if err != nil {
		return err
	}
	if err := d.produce(ctx, leader); err != nil {
		return err
	}
	if err := d.readBack(ctx, leader); err != nil {
		return err
	}
	d.step("Stop the brokers (SIGTERM)")
	stopCtx, cancel := context.WithTimeout(ctx, stepMax)
	defer cancel()
	if err := d.cluster.Stop(stopCtx); err != nil {
		return err
	}
	d.say("   all exited with 0\n")
	d.say("\nAll three copies equal the input. %.1f s in all.\n", time.Since(started).Seconds())
	return nil
}

func (d *demo) startBrokers(ctx context.Context) error {
	d.step("Start three brokers: own data directories, real gRPC, every append synced before it is acknowledged")
	started := time.Now()
	if err := d.cluster.Start(); err != nil {
		return err
	}
	for _, n := range d.cluster.Nodes() {
		d.say("   broker %d   %s   pid %d\n", n.ID, n.Client, n.Pid())
	}
	readyCtx, cancel := context.WithTimeout(ctx, readyMax)
	defer cancel()
	if err := d.cluster.WaitReady(readyCtx); err != nil {
		return err
	}
	d.say("   ready after %.1f s\n", time.Since(started).Seconds())
	return nil
}

func (d *demo) createTopic(ctx context.Context) (leader int, err error) {
	d.step("Create a topic: one partition, three replicas")
	d.command("broker topic create demo --partitions 1 --replication-factor 3")
	ctx, cancel := context.WithTimeout(ctx, stepMax)
	defer cancel()
	if err := d.cluster.CreateTopic(ctx, topic, 1); err != nil {
		return 0, err
	}
	leader, err = d.cluster.WaitLeader(ctx, topic, 0)
	if err == nil {
		d.say("   leader     broker %d\n", leader)
	}
	return leader, err
}

// produce sends the first half at full speed, then kills the leader in the middle of the second half.
func (d *demo) produce(ctx context.Context, leader int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p, err := d.cluster.StartProducer(ctx, topic)
	if err != nil {
		return err
	}
	acks := make(chan integration.Ack, 1024)
	readDone := make(chan error, 1)
	go func() {
		defer close(acks)
		readDone <- p.Acks(func(a integration.Ack) error {
			select {
			case acks <- a:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	}()
	if err := d.feed(ctx, p, acks, leader); err != nil {
		cancel(err)
		p.CloseInput()
		for range acks { // what it still says no longer matters
		}
		<-readDone
		p.Wait()
		return fmt.Errorf("%w\n%s", err, p.Stderr())
	}
	for range acks {
		err = errors.New("produce acknowledged more records than it was given")
	}
	return errors.Join(err, <-readDone, p.Wait())
}

// feed plays both halves and checks that the acknowledged offsets are those of the lines.
func (d *demo) feed(ctx context.Context, p *integration.Producer, acks <-chan integration.Ack, leader int) error {
	d.step("Produce the first half, one record a line")
	d.command("produce demo --acks-json < " + filepath.Base(d.in.path))
	started := time.Now()
	first := d.send(ctx, p, 0, d.in.half, 1, 0)
	if err := d.take(ctx, acks, 0, d.in.halfLines, nil); err != nil {
		return err
	}
	if err := <-first; err != nil {
		return err
	}
	took := time.Since(started).Seconds()
	d.saySent(0, d.in.halfLines, fmt.Sprintf("%.2f s, %s records/s", took, thousands(int(float64(d.in.halfLines)/took))))

	d.step("Produce the second half and kill -9 broker %d, the leader, in the middle", leader)
	var killed, last time.Time
	var killedAt int
	var pause time.Duration // the longest between two acknowledgements from the kill on
	started = time.Now()
	second := d.send(ctx, p, d.in.half, d.in.bytes, secondHalfPieces, secondHalfPace)
	err := d.take(ctx, acks, d.in.halfLines, d.in.lines, func(n int) error {
		now := time.Now()
		if !killed.IsZero() {
			pause = max(pause, now.Sub(last))
		}
		last = now
		if killed.IsZero() && (n >= d.in.halfLines+(d.in.lines-d.in.halfLines)/4 || n == d.in.lines) {
			killedAt, killed = n, now
			return d.cluster.Node(leader).Kill()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := <-second; err != nil {
		return err
	}
	d.say("   killed     when offset %s was acknowledged\n", thousands(killedAt-1))
	d.say("   pause      %.1f s without an acknowledgement, while the other two elected a leader\n", pause.Seconds())
	d.saySent(d.in.halfLines, d.in.lines, fmt.Sprintf("%.1f s with pauses", time.Since(started).Seconds()))
	return p.CloseInput()
}

// send writes bytes [from, to) of the input in equal pieces with pauses between them. The result arrives when all are written.
func (d *demo) send(ctx context.Context, w io.Writer, from, to int64, pieces int, pause time.Duration) <-chan error {
	done := make(chan error, 1)
	go func() {
		r, err := d.in.reader(from)
		if err != nil {
			done <- err
			return
		}
		defer r.Close()
		size := (to-from)/int64(pieces) + 1
		for left := to - from; left > 0; left -= size {
			if _, err := io.CopyN(w, r, min(size, left)); err != nil {
				done <- fmt.Errorf("feed produce: %w", err)
				return
			}
			select {
			case <-ctx.Done():
				done <- context.Cause(ctx)
				return
			case <-time.After(pause):
			}
		}
		done <- nil
	}()
	return done
}

// take takes acknowledgements until those of lines [from, to) have arrived; each must say the line's own number as its offset.
// after, unless nil, is called with the number of acknowledged lines after each.
func (d *demo) take(ctx context.Context, acks <-chan integration.Ack, from, to int, after func(int) error) error {
	timeout := time.NewTimer(stepMax)
	defer timeout.Stop()
	for n := from; n < to; n++ {
		select {
		case a, ok := <-acks:
			if !ok {
				return fmt.Errorf("produce ended after %d of %d acknowledgements", n, d.in.lines)
			}
			if a.Failed() {
				return fmt.Errorf("line %d was not acknowledged: %s (reason %s, outcome %s)", n+1, a.Error, a.Reason, a.Outcome)
			}
			if a.Offset != int64(n) {
				return fmt.Errorf("line %d was acknowledged at offset %d, want %d: a record is lost or there twice", n+1, a.Offset, n)
			}
		case <-timeout.C:
			return fmt.Errorf("no more acknowledgements after %d of %d for %v", n, d.in.lines, stepMax)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if after != nil {
			if err := after(n + 1); err != nil {
				return err
			}
		}
	}
	return nil
}

// readBack hashes what each replica returns: first the two survivors, then the killed one after its restart.
func (d *demo) readBack(ctx context.Context, killed int) error {
	d.step("Read it back from each replica and compare")
	d.command(`consume demo -e --replica N -f '%v\n' | sha256sum`)
	d.say("   input      %s\n", d.in.sum)
	different := 0
	read := func(id int, note string) error {
		ctx, cancel := context.WithTimeout(ctx, stepMax)
		defer cancel()
		sum, err := d.cluster.ConsumeHash(ctx, topic, id)
		if err != nil {
			return err
		}
		verdict := "same"
		if sum != d.in.sum {
			verdict = "DIFFERENT"
			different++
		}
		d.say("   broker %d   %s   %s%s\n", id, sum, verdict, note)
		return nil
	}
	for _, n := range d.cluster.Others(killed) {
		if err := read(n.ID, ""); err != nil {
			return err
		}
	}
	n := d.cluster.Node(killed)
	if err := n.Start(); err != nil {
		return err
	}
	readyCtx, cancel := context.WithTimeout(ctx, readyMax)
	defer cancel()
	if err := d.cluster.WaitReady(readyCtx, n); err != nil {
		return err
	}
	if err := read(killed, ", restarted"); err != nil {
		return err
	}
	if different > 0 {
		return fmt.Errorf("%d of 3 copies differ from the input", different)
	}
	return nil
}

func (d *demo) step(format string, args ...any) {
	d.steps++
	d.say("\n%d. %s\n", d.steps, fmt.Sprintf(format, args...))
}

func (d *demo) saySent(from, to int, took string) {
	d.say("   sent       %s records, offsets %s to %s, %s\n", thousands(to-from), thousands(from), thousands(to-1), took)
}

// command shows what a user would type for what happens next.
func (d *demo) command(line string) { d.say("   $ %s\n", line) }

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format, args...) }

func (d *demo) logTails(w io.Writer) {
	for _, n := range d.cluster.Nodes() {
		fmt.Fprintf(w, "\n--- last lines of broker %d\n%s", n.ID, n.LogTail())
	}
}

// thousands writes a number with separators.
func thousands(n int) string {
	digits := fmt.Sprint(n)
	var b strings.Builder
	for i, c := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}
