package cli

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"lograft/client"
)

// sessionBytes is the length of a session token.
const sessionBytes = 24

// consumeOptions are the flags of consume.
type consumeOptions struct {
	offset, format, consistency string
	toEnd, json, printEnd       bool
	quiet                       bool
	tailing                     bool // tail was said
	count, tail                 int64
	idle, timeout               time.Duration
	partitions                  []int32
	replica                     uint64
	group, commit, instance     string
	session, poll               time.Duration
	sessions                    []string
}

func (a *app) consumeCommand() *cobra.Command {
	var o consumeOptions
	c := &cobra.Command{Use: "consume TOPIC...", Short: "Read records", ValidArgsFunction: a.completeTopics(0),
		Example: `  consume demo                              # runs until Ctrl-C; with -e it stops at the end
  consume demo -e                           # everything up to the end as it is now
  consume demo -e --replica 2               # from the replica on node 2
  consume demo --tail 10 -e                 # the last 10 of each partition
  consume demo -o 100:200 -p 0              # offsets 100 to 199 of partition 0
  consume demo -g workers                   # a member of a group: shares the partitions, goes on where the group was
  consume demo -o @-1h:@now                 # what was appended in the last hour
  consume demo -n 5 -f '%p %o %k %v\n'
  consume demo -e -J | jq .value`,
		Long: "Reads every partition from the start (-o) until Ctrl-C, or to the end as it was when it began (-e).",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("consume wants a topic: see consume --help")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if len(o.sessions) > 0 && !c.Flags().Changed("consistency") {
				o.consistency = "session"
			}
			if o.tailing = c.Flags().Changed("tail"); o.tailing && c.Flags().Changed("offset") {
				return usagef("--tail and -o exclude each other: both say where to begin")
			}
			if o.group != "" || c.Flags().Changed("group") {
				return a.consumeGroup(c, args, &o)
			}
			for _, name := range []string{"commit", "session-timeout", "poll-timeout", "instance-id"} {
				if c.Flags().Changed(name) {
					return usagef("--%s is for groups: say -g NAME too", name)
				}
			}
			return a.consume(c.Context(), args, &o)
		}}
	a.clientFlags(c)
	f := c.Flags()
	f.StringVarP(&o.offset, "offset", "o", "start", "start, end, N, +N (after the start), -N (before the end), @TIME (append time: now, -1h, 2026-01-02, RFC 3339, s or ms since 1970), or a range FROM:TO of these, TO exclusive")
	f.BoolVarP(&o.toEnd, "exit", "e", false, "stop at the end as it is when it begins")
	f.Int64VarP(&o.count, "count", "n", 0, "stop after this many records; 0: no limit")
	f.Int64Var(&o.tail, "tail", 0, "begin this many records before the end of each partition; 0: at the end")
	f.DurationVar(&o.idle, "idle-timeout", 0, "stop when nothing came for so long; 0: never")
	f.DurationVar(&o.timeout, "timeout", 15*time.Second, "give a partition up that was not readable for so long")
	f.StringVarP(&o.format, "format", "f", `%v\n`, `record format: %t topic %p partition %o offset %k key %v value %h{%k=%v} headers %d time %e epoch; "json" as -J`)
	f.BoolVarP(&o.json, "json", "J", false, "one JSON object per record")
	f.Int32SliceVarP(&o.partitions, "partitions", "p", nil, "partitions, for example 0,3 (default: all)")
	f.Lookup("partitions").DefValue = ""
	f.Uint64Var(&o.replica, "replica", 0, "read from this node only")
	f.StringVar(&o.consistency, "consistency", "linearizable", "linearizable: everything acknowledged before; session: everything that --session saw; committed: what the replica knows, also without a majority")
	f.StringSliceVar(&o.sessions, "session", nil, "session token of produce --acks-json: read from a state that includes that append; may be repeated, one for each partition")
	f.Lookup("session").DefValue = "[]" // shown as no default
	f.StringVarP(&o.group, "group", "g", "", "read as a member of this group, from its committed offsets; where there are none, from -o start or end, or none: fail")
	f.StringVar(&o.commit, "commit", "auto", "with -g: auto commits what was written to standard output, none commits nothing")
	f.DurationVar(&o.session, "session-timeout", 10*time.Second, "with -g: when a member that is not heard loses its partitions")
	f.DurationVar(&o.poll, "poll-timeout", 5*time.Minute, "with -g: when a member whose output is not taken (standard output blocks) leaves the group; it joins again when it goes on")
	f.StringVar(&o.instance, "instance-id", "", "with -g: a static member: started again with the same id within the session timeout, it goes on with its partitions")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no hints on standard error: errors only")
	f.BoolVar(&o.printEnd, "print-end", false, "say on standard error when a partition is read to its end")
	return c
}

func (o *consumeOptions) consumer(topics []string) (client.ConsumerOptions, error) {
	k := client.ConsumerOptions{Replica: o.replica, Timeout: o.timeout}
	switch o.consistency {
	case "linearizable":
	case "committed":
		k.Consistency = client.Committed
	case "session":
		k.Consistency = client.Session
	default:
		return k, usagef("--consistency %q: want linearizable, session or committed", o.consistency)
	}
	if len(o.sessions) > 0 && k.Consistency != client.Session {
		return k, usagef("--session and --consistency %s exclude each other", o.consistency)
	}
	for _, s := range o.sessions {
		token, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil || len(token) != sessionBytes {
			return k, usagef("--session %q: want the session of a line of produce --acks-json", s)
		}
		k.Sessions = append(k.Sessions, token)
	}
	from, to, err := parseOffset(o.offset, time.Now())
	if err != nil {
		return k, err
	}
	if o.count < 0 || o.tail < 0 {
		return k, usagef("-n and --tail want a number from 0 on")
	}
	if o.idle < 0 || o.timeout < 0 {
		return k, usagef("--idle-timeout and --timeout want a duration from 0 on")
	}
	if o.tailing {
		from = client.AtEnd(-o.tail)
	}
	if o.toEnd && to == nil {
		end := client.AtEnd(0)
		to = &end
	}
	partitions := slices.Compact(slices.Sorted(slices.Values(o.partitions)))
	for i, t := range topics {
		if !slices.Contains(topics[:i], t) {
			k.Subscriptions = append(k.Subscriptions, client.Subscription{Topic: t, Partitions: partitions, Start: from, Stop: to})
		}
	}
	return k, nil
}

func (a *app) consume(ctx context.Context, topics []string, o *consumeOptions) error {
	opts, err := o.consumer(topics)
	if err != nil {
		return err
	}
	w, k, err := a.writerAndClient(o)
	if err != nil {
		return err
	}
	defer k.Close()
	c, err := k.NewConsumer(opts)
	if err != nil {
		return err
	}
	defer c.Close()
	w.follows = opts.Subscriptions[0].Stop == nil
	a.hint(o, w, "reading")
	return a.write(ctx, c, o, w)
}

func (a *app) writerAndClient(o *consumeOptions) (*recordWriter, *client.Client, error) {
	w, err := a.recordWriter(o)
	if err != nil {
		return nil, nil, err
	}
	k, err := a.dial()
	return w, k, err
}

// hint says on a terminal that what is done has no end of its own.
func (a *app) hint(o *consumeOptions, w *recordWriter, doing string) {
	if w.follows && o.count == 0 && o.idle == 0 && !o.quiet && terminal(a.Err) {
		fmt.Fprintln(a.Err, doing, "until Ctrl-C; with -e it stops at the end")
	}
}

// feed gives records: of partitions, or of what a group assigned.
type feed interface {
	Poll(ctx context.Context) (*client.Batch, []client.End, bool, error)
	TryPoll() (*client.Batch, []client.End, bool, bool, error)
	Stalled() client.Stall
}

// write pumps until the source is over, the reader of standard output went away, or ctx ends.
func (a *app) write(ctx context.Context, c feed, o *consumeOptions, w *recordWriter) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		if readerGone(ctx, a.Out) {
			cancel(syscall.EPIPE)
		}
	})
	err := a.pump(ctx, c, o, w)
	cancel(nil)
	watch.Wait()
	if errors.Is(context.Cause(ctx), syscall.EPIPE) {
		return syscall.EPIPE
	}
	if flushed := w.flush(); flushed != nil && !errors.Is(err, flushed) {
		err = errors.Join(err, flushed)
	}
	return err
}

// pump writes what comes. It flushes whenever nothing more is there at the moment.
func (a *app) pump(ctx context.Context, c feed, o *consumeOptions, w *recordWriter) error {
	var failed error
	left := o.count
	for {
		b, ended, over, err := a.next(ctx, c, o.idle, w)
		switch {
		case errors.Is(err, errIdle):
			return failed
		case err != nil:
			return err
		}
		if o.printEnd && len(ended) > 0 { // what is before an end comes before it is told
			if err := w.flush(); err != nil {
				return err
			}
		}
		for i := range ended {
			e := &ended[i]
			if e.GoesOn {
				fmt.Fprintf(a.Err, "warning: %v: the group goes on there\n", e.Err)
			} else if e.Err != nil {
				failed = errors.Join(failed, e.Err)
			} else if o.printEnd {
				fmt.Fprintf(a.Err, "end of %s/%d at offset %d\n", e.Topic, e.Partition, e.Offset)
			}
		}
		if over || failed != nil && w.follows { // who follows is told of a lost partition now; else the others are read to their ends
			return failed
		}
		if b == nil {
			continue
		}
		for i := range b.Records {
			if err := w.write(&b.Records[i], b); err != nil {
				return err
			}
			if left--; left == 0 {
				w.wrote(b, b.Records[i].Offset+1)
				return failed
			}
		}
		w.wrote(b, b.NextOffset)
		b.Release()
		if err := w.flushNowAndThen(); err != nil {
			return err
		}
	}
}

var errIdle = errors.New("idle")

// next polls; before it waits, it flushes what was written.
func (a *app) next(ctx context.Context, c feed, idle time.Duration, w *recordWriter) (*client.Batch, []client.End, bool, error) {
	if b, ended, over, ok, err := c.TryPoll(); ok || err != nil {
		return b, ended, over, err
	}
	if err := w.flush(); err != nil {
		return nil, nil, false, err
	}
	var gaveUp time.Time
	if idle > 0 {
		gaveUp = time.Now().Add(idle)
	}
	for {
		b, ended, over, err := poll(ctx, c, gaveUp, w.told)
		switch {
		case err != nil && ctx.Err() != nil: // also where a poll's own time ended at the same moment
			return nil, nil, false, ctx.Err()
		case err == nil || !errors.Is(err, context.DeadlineExceeded):
			return b, ended, over, err
		case idle > 0 && !time.Now().Before(gaveUp):
			return nil, nil, false, errIdle
		}
		a.sayStall(c.Stalled(), w)
	}
}

// poll waits for what comes until a time, if it is set; unless it was said what is waited for, no longer than until that is to be looked at.
func poll(ctx context.Context, c feed, until time.Time, told bool) (*client.Batch, []client.End, bool, error) {
	if look := time.Now().Add(stallHint / 4); !told && (until.IsZero() || look.Before(until)) {
		until = look
	}
	if !until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	return c.Poll(ctx)
}

// sayStall says once what is waited for when brokers do not answer.
func (a *app) sayStall(s client.Stall, w *recordWriter) {
	if s.For < stallHint || w.told {
		return
	}
	w.told = true
	fmt.Fprintf(a.Err, "waiting for %s; giving up after %v (--timeout)\n", s.What, w.timeout)
}

// recordWriter writes records in a format.
type recordWriter struct {
	out     *bufio.Writer
	json    bool
	follows bool // there is no end to read to
	told    bool // it was said what is waited for, or is not to be said
	timeout time.Duration
	format  *kgo.RecordFormatter
	scratch []byte
	record  kgo.Record

	// done, if set, is told how far a partition's records are on standard output.
	done      func(topic string, partition int32, next int64)
	written   []client.GroupOffset // not flushed yet, one per partition
	flushedAt time.Time
}

func (a *app) recordWriter(o *consumeOptions) (w *recordWriter, err error) {
	w = &recordWriter{out: bufio.NewWriterSize(a.Out, 256<<10), json: o.json || o.format == "json", told: o.quiet, timeout: o.timeout}
	if !w.json {
		if w.format, err = kgo.NewRecordFormatter(o.format); err != nil {
			return nil, usagef("-f %q: %v", o.format, err)
		}
	}
	return w, nil
}

// wrote notes that a partition's records below next are written.
func (w *recordWriter) wrote(b *client.Batch, next int64) {
	if w.done == nil {
		return
	}
	for i := range w.written {
		if x := &w.written[i]; x.Topic == b.Topic && x.Partition == b.Partition {
			x.Offset = next
			return
		}
	}
	w.written = append(w.written, client.GroupOffset{Topic: b.Topic, Partition: b.Partition, Offset: next})
}

func (w *recordWriter) flush() error {
	if err := w.out.Flush(); err != nil {
		return err
	}
	for _, x := range w.written {
		w.done(x.Topic, x.Partition, x.Offset)
	}
	w.written, w.flushedAt = w.written[:0], time.Now()
	return nil
}

// flushEvery bounds how long what was written waits to be marked while more comes all the time.
const flushEvery = 200 * time.Millisecond

func (w *recordWriter) flushNowAndThen() error {
	if w.done == nil || time.Since(w.flushedAt) < flushEvery {
		return nil
	}
	return w.flush()
}

func (w *recordWriter) write(r *client.Fetched, b *client.Batch) error {
	if w.json {
		line, err := marshal(toJSONRecord(r))
		if err == nil {
			_, err = w.out.Write(append(line, '\n'))
		}
		return err
	}
	w.record = kgo.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, LeaderEpoch: r.LeaderEpoch, Timestamp: time.UnixMilli(r.Timestamp), Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		w.record.Headers = append(w.record.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	w.scratch = w.format.AppendPartitionRecord(w.scratch[:0], &kgo.FetchPartition{HighWatermark: b.HighWatermark, LogStartOffset: b.LogStart}, &w.record)
	_, err := w.out.Write(w.scratch)
	return err
}
