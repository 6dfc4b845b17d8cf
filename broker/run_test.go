package broker

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lograft/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// freeAddresses are loopback addresses on which nothing listens now.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out
}

// brokers are real brokers in this process.
type brokers struct {
	t       *testing.T
	options []Options
	made    []*Broker
	stop    []context.CancelFunc
	ended   []chan error
}

func startBrokers(t *testing.T, n int, change ...func(*Options)) *brokers {
	t.Helper()
	c := &brokers{t: t, made: make([]*Broker, n), stop: make([]context.CancelFunc, n), ended: make([]chan error, n)}
	addrs := freeAddresses(t, 3*n)
	dir := t.TempDir()
	var members []Member
	for i := range n {
		members = append(members, Member{NodeID: uint64(i + 1), PeerAddr: addrs[3*i+1]})
	}
	for i := range n {
		c.options = append(c.options, Options{NodeID: uint64(i + 1), ClusterName: "test", DataDir: filepath.Join(dir, fmt.Sprint(i+1)), AllowTmpfs: true, InitialCluster: members,
			Listen: addrs[3*i], PeerListen: addrs[3*i+1], HTTPListen: addrs[3*i+2]})
		for _, f := range change {
			f(&c.options[i])
		}
		c.start(i)
	}
	t.Cleanup(func() {
		for i := range c.options {
			c.end(i)
		}
	})
	return c
}

func (c *brokers) start(i int) {
	b, err := New(c.options[i])
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	c.made[i], c.stop[i], c.ended[i] = b, cancel, ended
	go func() { ended <- b.Run(ctx) }()
}

func (c *brokers) end(i int) {
	if c.stop[i] == nil {
		return
	}
	c.stop[i]()
	if err := <-c.ended[i]; err != nil {
		c.t.Errorf("broker %d: %v", i+1, err)
	}
	c.stop[i] = nil
}

func (c *brokers) client() *client.Client { return c.clientAs(client.Options{}) }

// answers waits until one of the addresses takes a connection: a command gives up on brokers that all refuse, and these start beside it.
func (c *brokers) answers(addrs []string) {
	c.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for _, a := range addrs {
			if k, err := net.DialTimeout("tcp", a, time.Second); err == nil {
				k.Close()
				return
			}
		}
	}
	c.t.Fatalf("no broker listens at %v after 30 s", addrs)
}

// clientAs makes a client of all brokers with these options.
func (c *brokers) clientAs(o client.Options) *client.Client {
	c.t.Helper()
	var addrs []string
	for _, o := range c.options {
		addrs = append(addrs, o.Listen)
	}
	o.Brokers = addrs
	c.answers(addrs)
	k, err := client.New(o)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { k.Close() })
	return k
}

func produceN(ctx context.Context, t *testing.T, k *client.Client, topic string, first, n int) {
	t.Helper()
	p, err := k.NewProducer(client.DefaultProducerOptions())
	if err != nil {
		t.Fatal(err)
	}
	var failed atomic.Int64
	for i := range n {
		err := p.Produce(ctx, &client.Record{Topic: topic, Partition: client.AnyPartition, Key: []byte("k"), Value: fmt.Appendf(nil, "value %d", first+i)}, func(r client.Result) {
			if r.Err != nil && failed.Add(1) == 1 {
				t.Errorf("record %d: %v", i, r.Err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

func consumeAll(ctx context.Context, t *testing.T, k *client.Client, topic string, replica uint64) []string {
	t.Helper()
	end := client.AtEnd(0)
	c, err := k.NewConsumer(client.ConsumerOptions{Replica: replica, Subscriptions: []client.Subscription{{Topic: topic, Start: client.AtStart(0), Stop: &end}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var out []string
	for {
		b, ended, over, err := c.Poll(ctx)
		if err != nil {
			t.Fatalf("replica %d: %v", replica, err)
		}
		for _, e := range ended {
			if e.Err != nil {
				t.Fatalf("replica %d: %v", replica, e.Err)
			}
		}
		if over {
			return out
		}
		if b != nil {
			for _, r := range b.Records {
				out = append(out, string(r.Value))
			}
		}
	}
}

// Three brokers over real sockets and files: what is produced is there once, in order, on every replica, also after one broker was
// stopped meanwhile and after all were restarted.
func TestThreeBrokers(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := startBrokers(t, 3)
	k := c.client()
	if _, err := k.CreateTopic(ctx, client.TopicSpec{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	const n = 5000
	produceN(ctx, t, k, "t", 0, n)
	check := func(total int) {
		t.Helper()
		for node := range 3 {
			got := consumeAll(ctx, t, k, "t", uint64(node+1))
			if len(got) != total {
				t.Fatalf("node %d returned %d records, %d were sent", node+1, len(got), total)
			}
			for i, v := range got {
				if v != fmt.Sprintf("value %d", i) {
					t.Fatalf("node %d: record %d is %q", node+1, i, v)
				}
			}
		}
	}
	check(n)
	c.end(0)
	produceN(ctx, t, k, "t", n, n)
	c.start(0)
	check(2 * n)
	for i := range 3 {
		c.end(i)
	}
	for i := range 3 {
		c.start(i)
	}
	check(2 * n)
	if err := k.DeleteTopic(ctx, "t"); err != nil {
		t.Fatal(err)
	}
}

// A consumer that follows a topic reads partitions that are added to it meanwhile, from their beginning, without being started again.
func TestConsumerReadsAddedPartitions(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := startBrokers(t, 1)
	k := c.client()
	if _, err := k.CreateTopic(ctx, client.TopicSpec{Name: "t"}); err != nil {
		t.Fatal(err)
	}
	r, err := k.NewConsumer(client.ConsumerOptions{Subscriptions: []client.Subscription{{Topic: "t", Start: client.AtEnd(0)}}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	produceTo(ctx, t, k, 0, 3)
	if _, err := k.AddPartitions(ctx, "t", 3); err != nil {
		t.Fatal(err)
	}
	produceTo(ctx, t, k, 2, 5)
	for seen := 0; seen < 5; {
		b, ended, _, err := r.Poll(ctx)
		if err != nil || len(ended) > 0 {
			t.Fatal(err, ended)
		}
		if b.Partition == 2 {
			seen += len(b.Records)
		}
	}
}
