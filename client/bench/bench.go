package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"lograft/client"
)

// Options of a run. Zero values of the bounds mean none, of the others what client takes for them.
type Options struct {
	Client            client.Options
	Topic             string
	Create            bool // the topic, if it does not exist
	Partitions        int32
	ReplicationFactor int32
	Data              *Data
	RecordBytes       int
	Records           int64         // stop after so many
	Duration          time.Duration // stop after so long
	Producers         int           // each with a connection of its own
	Consumers         int           // likewise; partitions are divided among them
	Sync              bool          // each producer waits for a record's result before it sends the next
	Rate              float64       // records per second of all producers together; 0: as fast as possible
	Codec             client.Codec
	BatchBytes        int
	BufferBytes       int64 // of one producer
	Linger            time.Duration
	Replica           uint64
	Consistency       client.Consistency
	// Progress is called now and then, by one goroutine, with the number of records done.
	Progress func(records int64)
}

// Check finds what no run can be made of.
func (o *Options) Check() error {
	switch {
	case o.RecordBytes < 1 || o.RecordBytes > 1<<20:
		return fmt.Errorf("record size %d: want 1 to %d bytes", o.RecordBytes, 1<<20)
	case o.Producers < 1 || o.Consumers < 1:
		return errors.New("want at least one producer and one consumer")
	case o.Records < 0 || o.Duration < 0 || o.Rate < 0:
		return errors.New("records, duration and rate want a number from 0 on")
	case o.Records == 0 && o.Duration == 0:
		return errors.New("nothing would end the run: bound records or duration")
	}
	return nil
}

// drainTimeout is how long results are waited for after the last record was sent, or the run was interrupted.
const drainTimeout = 10 * time.Second

// setup makes the topic if it may, and looks it up.
func (o *Options) setup(ctx context.Context, c *client.Client) (client.Topic, error) {
	if o.Create {
		_, err := c.CreateTopic(ctx, client.TopicSpec{Name: o.Topic, Partitions: o.Partitions, ReplicationFactor: o.ReplicationFactor})
		if err != nil && client.ReasonOf(err) != client.ReasonTopicExists {
			return client.Topic{}, err
		}
	}
	return c.DescribeTopic(ctx, o.Topic)
}

func (o *Options) dial() (*client.Client, error) {
	return client.New(o.Client)
}

func (o *Options) report(work string) Report {
	return Report{Work: work, Topic: o.Topic, Data: o.Data.Name, Machine: ThisMachine(), Go: runtime.Version(), Date: time.Now().UTC().Format(time.RFC3339)}
}

// Produce appends records and measures from the time that each was due to be sent to its acknowledgement.
func Produce(ctx context.Context, o Options) (Report, error) {
	r := o.report("produce")
	c, err := o.dial()
	if err != nil {
		return r, err
	}
	defer c.Close()
	if _, err := o.setup(ctx, c); err != nil {
		return r, err
	}
	load, err := o.newLoad(ctx, nil)
	if err != nil {
		return r, err
	}
	defer load.close()
	before, cpu := look(ctx, c, o.Client.TLS), cpuTime()
	load.run(ctx)
	cpu = cpuTime() - cpu
	after := look(context.WithoutCancel(ctx), c, o.Client.TLS)
	load.fill(&r)
	r.fill(before, after, r.Bytes, cpu)
	return r, nil
}

// Consume reads the topic from its start, up to its end as it is when the run begins or to the bound of records. Latency is that of a
// poll: how long the reader had to wait for the next records. With Create, a topic that holds less than Records is filled up first.
func Consume(ctx context.Context, o Options) (Report, error) {
	r := o.report("consume")
	c, err := o.dial()
	if err != nil {
		return r, err
	}
	defer c.Close()
	t, err := o.setup(ctx, c)
	if err != nil {
		return r, err
	}
	ends, held, err := o.ends(ctx, c, t)
	if err == nil && o.Create && held < o.Records {
		if err = o.fillTopic(ctx, o.Records-held); err == nil {
			ends, held, err = o.ends(ctx, c, t)
		}
	}
	if err == nil && held == 0 {
		err = fmt.Errorf("topic %q is empty: fill it first, for example with: broker bench produce --topic %s", o.Topic, o.Topic)
	}
	if err != nil {
		return r, err
	}
	before, cpu := look(ctx, c, o.Client.TLS), cpuTime()
	err = o.read(ctx, ends, &r)
	cpu = cpuTime() - cpu
	r.fill(before, look(context.WithoutCancel(ctx), c, o.Client.TLS), 0, cpu)
	return r, err
}

// ends gives the end of every partition and how many records there are in all.
func (o *Options) ends(ctx context.Context, c *client.Client, t client.Topic) (ends []int64, held int64, err error) {
	for _, p := range t.Partitions {
		at, err := c.ListOffsets(ctx, o.Topic, p.Number, client.Linearizable)
		if err != nil {
			return nil, 0, err
		}
		ends = append(ends, at.HighWatermark)
		held += at.HighWatermark - at.LogStart
	}
	return ends, held, nil
}

func (o *Options) fillTopic(ctx context.Context, records int64) error {
	fill := *o
	fill.Records, fill.Duration, fill.Rate, fill.Sync, fill.Progress = records, 0, 0, false, nil
	load, err := fill.newLoad(ctx, nil)
	if err != nil {
		return err
	}
	defer load.close()
	load.run(ctx)
	var r Report
	if load.fill(&r); r.Errors > 0 {
		return fmt.Errorf("fill topic %q: %s", o.Topic, r.FirstError)
	}
	return ctx.Err()
}

// EndToEnd produces and reads at the same time and measures from the time that each record was due to be sent until a consumer has it.
func EndToEnd(ctx context.Context, o Options) (Report, error) {
	r := o.report("e2e")
	c, err := o.dial()
	if err != nil {
		return r, err
	}
	defer c.Close()
	t, err := o.setup(ctx, c)
	if err != nil {
		return r, err
	}
	ends, _, err := o.ends(ctx, c, t)
	if err != nil {
		return r, err
	}
	run := newRunID()
	load, err := o.newLoad(ctx, run)
	if err != nil {
		return r, err
	}
	defer load.close()
	watch := newWatch(run, load)
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var readers errgroup.Group
	for i := range o.Consumers {
		readers.Go(func() error { return watch.follow(reading, &o, i, ends) })
	}
	before, cpu := look(ctx, c, o.Client.TLS), cpuTime()
	load.run(ctx)
	var sent Report
	load.fill(&sent)
	watch.await(ctx, sent.Records)
	cpu = cpuTime() - cpu
	after := look(context.WithoutCancel(ctx), c, o.Client.TLS)
	stop()
	if err := readers.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return r, err
	}
	watch.fill(&r, &sent)
	r.fill(before, after, sent.Bytes, cpu)
	return r, nil
}
