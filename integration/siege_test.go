package integration

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	pb "lograft/api/lograft/v1"
	"lograft/client"
)

// siegeCases attack the broker that leads the partition of good clients, on listeners with TLS and authentication. While each attack runs,
// what the broker's process holds and how long good clients wait for an append and a linearizable fetch are measured.
var siegeCases = []faultCase{
	{name: "siege-http2", secure: true, hurt: siegeOf(http2Attacks, 0), gapMax: 5 * time.Second},
	{name: "siege-idle", secure: true, hurt: siegeOf(idleAttacks, 0), gapMax: 5 * time.Second},
	{name: "siege-login", secure: true, hurt: siegeOf(loginAttacks, 0), gapMax: 5 * time.Second},
	{name: "siege-greedy", secure: true, hurt: siegeOf(greedyAttacks, greedySlower), gapMax: 5 * time.Second},
}

// attack is one kind of bad client.
type attack struct {
	name string
	run  func(*siege) // until its context is done
	grow int64        // bytes that the broker's process may take on
	prep func(*siege) // before the siege begins; nil: nothing
}

// Bounds of a siege. Attackers and good clients share this machine's cores with the brokers, so the bound of latency leaves room for that:
// what it rules out is that good clients wait for the attack to end, or for an election.
const (
	siegeLasts     = 3 * time.Second
	baselineLasts  = time.Second
	siegeSlower    = 20              // times the p99 of the same run without an attack
	siegeSlowerMin = time.Second     // and so much more
	greedySlower   = 3 * time.Second // more than that where the attacker has rights and no quota: he uses the cores that there are
	siegeBytes     = 64 << 20        // --limits-bytes-in-flight of the brokers
)

// siege is one attack while it runs.
type siege struct {
	*faultRun
	ctx    context.Context
	target *Node
	begun  atomic.Int64 // how often the attack did what it does: one that never gets there shows nothing
	wg     sync.WaitGroup
}

// each runs n attackers until the siege is over; one that fails begins again.
func (s *siege) each(n int, attacker func(ctx context.Context, i int) error) {
	for i := range n {
		s.wg.Go(func() {
			for s.ctx.Err() == nil {
				if attacker(s.ctx, i) != nil {
					select {
					case <-s.ctx.Done():
					case <-time.After(20 * time.Millisecond):
					}
				}
			}
		})
	}
}

// did counts one act of an attack.
func (s *siege) did() { s.begun.Add(1) }

const goodTopic = "good"

func siegeOf(attacks []attack, more time.Duration) func(*faultRun) {
	return func(f *faultRun) {
		f.run("broker", "topic", "create", goodTopic, "--partitions", "1", "--replication-factor", "3")
		f.run("broker", "topic", "create", "loot", "--partitions", "1", "--replication-factor", "3", "-c", "max.message.bytes=2097152")
		f.run("broker", "acl", "allow", "good", "read,write", "--topic", goodTopic)
		f.run("broker", "acl", "allow", "mallory", "read,write", "--topic", "loot")
		id, err := f.c.WaitLeader(f.ctx, goodTopic, 0)
		must(f.T, err)
		n := f.c.Node(id)
		good := newGood(f, n)
		defer good.close()
		only := os.Getenv("LOGRAFT_ATTACK") // a part of one attack's name; empty: all
		for _, a := range attacks {
			if !strings.Contains(a.name, only) {
				continue
			}
			f.attack(&a, n, good, more)
		}
		switch again, err := f.c.WaitLeader(f.ctx, goodTopic, 0); {
		case err == nil && again == id:
		case err == nil && more > 0: // attackers, brokers and whatever else runs here share the cores: docs/open.md
			f.Logf("the leader of good clients was node %d and is node %d: the machine was too busy for a heartbeat", id, again)
		default:
			f.Errorf("the leader of good clients was node %d and is node %d (%v): the attacks starved a heartbeat", id, again, err)
		}
	}
}

// attack runs one attack and judges what it cost.
func (f *faultRun) attack(a *attack, n *Node, good *goodClient, more time.Duration) {
	f.Helper()
	if a.prep != nil {
		a.prep(&siege{faultRun: f, ctx: f.ctx, target: n})
	}
	base := good.measure(baselineLasts)
	before := f.resident(n)
	ctx, stop := context.WithTimeout(f.ctx, siegeLasts)
	defer stop()
	s := &siege{faultRun: f, ctx: ctx, target: n}
	a.run(s)
	most := before
	var watch sync.WaitGroup
	watch.Go(func() {
		for ctx.Err() == nil {
			most = max(most, f.resident(n))
			time.Sleep(100 * time.Millisecond)
		}
	})
	got := good.measure(siegeLasts)
	stop()
	watch.Wait()
	s.wg.Wait()
	bound := siegeSlower*base.p99 + siegeSlowerMin + more
	f.Logf("%-24s acts %7d, memory %4d + %3d MiB (bound %d), p99 of good clients %v, before it %v (bound %v), %d and %d calls", a.name, s.begun.Load(), before>>20, (most-before)>>20,
		a.grow>>20, got.p99.Round(time.Millisecond), base.p99.Round(time.Millisecond), bound.Round(time.Millisecond), got.calls, base.calls)
	switch {
	case !n.Running():
		f.Fatalf("%s: node %d has ended", a.name, n.ID)
	case s.begun.Load() == 0:
		f.Errorf("%s never got to do what it does", a.name)
	case most-before > a.grow:
		f.Errorf("%s: node %d took on %d MiB, %d are all right", a.name, n.ID, (most-before)>>20, a.grow>>20)
	case got.p99 > bound || got.calls == 0:
		f.Errorf("%s: p99 of good clients is %v in %d calls, %v without the attack", a.name, got.p99, got.calls, base.p99)
	}
}

// goodClient appends a record and reads it again, linearizably, again and again.
type goodClient struct {
	f        *faultRun
	k        *client.Client
	producer *client.Producer
	conn     *grpc.ClientConn
}

func newGood(f *faultRun, n *Node) *goodClient {
	secure, err := f.c.TLS("good")
	must(f.T, err)
	g := &goodClient{f: f}
	g.k, err = client.New(client.Options{Brokers: []string{n.Client}, TLS: secure})
	must(f.T, err)
	o := client.DefaultProducerOptions()
	o.Linger = 0
	g.producer, err = g.k.NewProducer(o)
	must(f.T, err)
	g.conn, err = grpc.NewClient("passthrough:///"+n.Client, grpc.WithTransportCredentials(credentials.NewTLS(secure)))
	must(f.T, err)
	return g
}

func (g *goodClient) close() {
	_ = g.producer.Close(g.f.ctx)
	_ = g.k.Close()
	_ = g.conn.Close()
}

type waited struct {
	p99   time.Duration
	calls int
}

// measure works for some time. A call that fails for good fails the test.
func (g *goodClient) measure(d time.Duration) waited {
	g.f.Helper()
	var all []time.Duration
	for end := time.Now().Add(d); time.Now().Before(end); {
		began := time.Now()
		g.one()
		all = append(all, time.Since(began))
		time.Sleep(2 * time.Millisecond) // a steady client, not one more flood
	}
	slices.Sort(all)
	return waited{all[len(all)*99/100], len(all)}
}

func (g *goodClient) one() {
	g.f.Helper()
	done := make(chan client.Result, 1)
	if err := g.producer.Produce(g.f.ctx, &client.Record{Topic: goodTopic, Partition: 0, Value: []byte("good")}, func(r client.Result) { done <- r }); err != nil {
		g.f.Fatal(err)
	}
	r := <-done
	if r.Err != nil {
		g.f.Fatalf("a good client's record: %v", r.Err)
	}
	for {
		out, err := pb.NewFetchServiceClient(g.conn).Fetch(g.f.ctx, &pb.FetchRequest{Partition: &pb.PartitionRef{Topic: goodTopic}, Offset: r.Offset, Consistency: pb.Consistency_CONSISTENCY_LINEARIZABLE})
		switch {
		case err == nil && out.GetNextOffset() > r.Offset:
			return
		case err == nil:
			g.f.Fatalf("a linearizable fetch at %d does not show the record that was acknowledged there: %v", r.Offset, out)
		case status.Code(err) != codes.ResourceExhausted && status.Code(err) != codes.Unavailable:
			g.f.Fatalf("a good client's fetch: %v", err)
		}
		time.Sleep(10 * time.Millisecond) // OVERLOADED: what the attack takes is waited for, and counts as latency
	}
}

// from dials an address from one of the attackers' own, so that the limits of one address are not those of good clients.
func (s *siege) from(i int, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%200))}}
	return d.DialContext(s.ctx, "tcp", address)
}

// secureFrom is from with the TLS of a user, "" for nobody.
func (s *siege) secureFrom(i int, address, user string) (net.Conn, error) {
	config, err := s.c.TLS(user)
	if err != nil {
		return nil, err
	}
	config.ServerName, config.NextProtos = "127.0.0.1", []string{"h2"}
	conn, err := s.from(i, address)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, config)
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	if err := secure.HandshakeContext(s.ctx); err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return secure, nil
}

// dial is a user's connection to the target.
func (s *siege) dial(i int, user string) (*grpc.ClientConn, error) {
	return s.dialAt(i, s.target.Client, user)
}

func (s *siege) dialAt(i int, address, user string) (*grpc.ClientConn, error) {
	config, err := s.c.TLS(user)
	if err != nil {
		return nil, err
	}
	config.ServerName = "127.0.0.1"
	return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithContextDialer(func(_ context.Context, address string) (net.Conn, error) { return s.from(i, address) }))
}

var errOver = errors.New("the attack is over")

// closeAfter ends a connection with the siege, whatever waits on it.
func (s *siege) closeAfter(c net.Conn) func() {
	stop := context.AfterFunc(s.ctx, func() { c.Close() })
	return func() { stop(); c.Close() }
}

// listeners are all addresses of the target.
func (s *siege) listeners() []string { return []string{s.target.Client, s.target.Peer, s.target.HTTP} }
