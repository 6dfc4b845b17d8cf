package integration

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	pb "lograft/api/lograft/v1"
	"lograft/certs"
	"lograft/client"
)

// startSecure starts brokers whose listeners all have TLS and that want to know who calls.
func startSecure(t *testing.T, ctx context.Context, nodes int, clients ...string) (*Cluster, *certs.Authority) {
	t.Helper()
	dir := t.TempDir()
	crl := filepath.Join(dir, "certs", "ca.crl")
	c, err := New(Options{Bin: binaries(t), Dir: dir, Nodes: nodes, Secure: &Secure{Clients: clients, Serve: []string{"--tls-crl", crl, "--http-tls-crl", crl}}})
	must(t, err)
	authority, err := certs.Open(c.certDir())
	must(t, err)
	_, err = authority.Revoke()
	must(t, err)
	t.Cleanup(func() {
		c.Close()
		for _, n := range c.Nodes() {
			checkLog(t, n)
		}
	})
	must(t, c.Start())
	waitReady(t, ctx, c)
	return c, authority
}

// Every command against brokers with TLS and auth.required: it works for who has the right, with a certificate or a password, and who has
// not is told what to do about it.
func TestCommandsWithAccess(t *testing.T) {
	ctx := testContext(t)
	c, _ := startSecure(t, ctx, 3, "alice")
	dir := t.TempDir()
	password := filepath.Join(dir, "bob.password")
	must(t, os.WriteFile(password, []byte("swordfish\n"), 0o600))
	works := func(user, stdin, command string, args ...string) Result {
		t.Helper()
		words := append(strings.Fields(command), args...)
		r, err := c.RunAs(ctx, user, strings.NewReader(stdin), words[0], words[1:]...)
		must(t, err)
		if r.Code != 0 {
			t.Errorf("%q as %q: exit code %d\n%s%s", command, user, r.Code, r.Stdout, r.Stderr)
		}
		return r
	}
	for _, command := range []string{
		"broker topic create t --partitions 2 --replication-factor 3", "broker topic list", "broker topic describe t", "broker topic alter t -c retention.ms=1000000",
		"broker cluster info", "broker cluster health -e",
		"broker user create bob --new-password-file " + password, "broker user list",
		"broker acl allow alice read,write --topic t", "broker acl allow bob read,write --topic t", "broker acl allow alice read --group g", "broker acl allow bob read --group g", "broker acl list",
		"broker quota set alice --requests 100000", "broker quota list",
		"broker doctor --data-dir " + dir + "/data --listen 127.0.0.1:0 --peer-listen 127.0.0.1:0 --http-listen 127.0.0.1:0 -b " + c.Brokers(),
		"broker bench produce --create --topic bench --records 2000", "broker bench consume --topic bench", "broker bench e2e --topic bench --records 200 --rate 1000",
		"broker cluster scrub t", "broker debug bundle --cpu 0 -o " + filepath.Join(dir, "bundle.tar.gz"),
	} {
		works(SuperUser, "", command)
	}
	works("alice", "one\ntwo\n", "produce t")
	byPassword := []string{"--user", "bob", "--password-file", password}
	works("", "three\n", "produce t", byPassword...)
	for user, args := range map[string][]string{"alice": nil, "": byPassword} {
		if r := works(user, "", "consume t -e", args...); len(strings.Fields(r.Stdout)) != 3 {
			t.Errorf("%q reads %q, want three records", user, r.Stdout)
		}
	}
	works("alice", "", "consume t -g g -e -o start")
	for _, command := range []string{"broker group list", "broker group describe g", "broker group seek g --topic t --to start --yes", "broker group delete g --yes",
		"broker topic trim t --before-offset end --yes", "broker acl remove bob read --group g", "broker quota set alice", "broker user delete bob --yes", "broker topic delete bench --yes"} {
		works(SuperUser, "", command)
	}

	for _, bad := range []struct {
		user, command string
		says          []string
	}{
		{"", "broker topic list", []string{"--tls-cert", "--user", "--token-file"}},
		{"", "consume t -e", []string{"--tls-cert"}},
		{"", "produce t", []string{"--tls-cert"}},
		{"", "broker cluster health", []string{"--tls-cert"}},
		{"", "broker bench produce --topic t --records 10", []string{"--tls-cert"}},
		{"", "broker topic list --user bob --password-file " + password, []string{"user or password is wrong"}},
		{"alice", "broker topic create u", []string{"broker acl allow alice create --topic u"}},
		{"alice", "broker topic delete t --yes", []string{"broker acl allow alice delete --topic t"}},
		{"alice", "broker topic alter t -c retention.ms=1", []string{"broker acl allow alice alter --topic t"}},
		{"alice", "broker user list", []string{"broker acl allow alice describe --cluster"}},
		{"alice", "broker acl allow alice all --cluster", []string{"broker acl allow alice alter --cluster"}},
		{"alice", "broker quota set alice", []string{"broker acl allow alice alter --cluster"}},
		{"alice", "broker cluster scrub t", []string{"broker acl allow alice alter --cluster"}},
		{"alice", "broker group delete other --yes", []string{"broker acl allow alice delete --group other"}},
		{"alice", "consume t -g other -e", []string{"broker acl allow alice describe --group other"}},
	} {
		t.Run(bad.command+" as "+bad.user, func(t *testing.T) {
			words := strings.Fields(bad.command)
			ctx, cancel := context.WithTimeout(ctx, badInputMax)
			defer cancel()
			r, err := c.RunAs(ctx, bad.user, strings.NewReader("x\n"), words[0], words[1:]...)
			must(t, err)
			wantFailure(t, r, exitItemFailed, bad.says...)
		})
	}
	r, err := c.opts.Bin.Run(ctx, c.Brokers(), nil, "broker", "topic", "list") // in the clear
	must(t, err)
	wantFailure(t, r, exitUnavailable, "--tls-ca")
}

// steady is a client at full speed; nothing of what it asks may fail.
type steady struct {
	t        *testing.T
	k        *client.Client
	producer *client.Producer
	acked    atomic.Int64
	last     atomic.Int64 // ns, of an acknowledgement
	gap      atomic.Int64 // longest between two
	wg       sync.WaitGroup
}

func startSteady(t *testing.T, ctx context.Context, c *Cluster, topic string) *steady {
	t.Helper()
	secure, err := c.TLS("good")
	must(t, err)
	s := &steady{t: t}
	s.k, err = client.New(client.Options{Brokers: strings.Split(c.Brokers(), ","), TLS: secure})
	must(t, err)
	s.producer, err = s.k.NewProducer(client.DefaultProducerOptions())
	must(t, err)
	s.last.Store(time.Now().UnixNano())
	s.wg.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			err := s.producer.Produce(ctx, &client.Record{Topic: topic, Partition: client.AnyPartition, Key: fmt.Append(nil, n%100), Value: fmt.Append(nil, n)}, func(r client.Result) {
				if r.Err != nil {
					t.Errorf("a good client's record: %v", r.Err)
					return
				}
				s.acked.Add(1)
				now := time.Now().UnixNano()
				s.gap.Store(max(s.gap.Load(), now-s.last.Swap(now)))
			})
			if err != nil && ctx.Err() == nil {
				t.Errorf("a good client's record: %v", err)
				return
			}
			if n%500 == 0 {
				time.Sleep(10 * time.Millisecond) // full speed leaves no core for what is being tested
			}
		}
	})
	return s
}

func (s *steady) await(more int64) {
	s.t.Helper()
	want := s.acked.Load() + more
	for end := time.Now().Add(30 * time.Second); s.acked.Load() < want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%d records in 30 s, want %d", s.acked.Load()-want+more, more)
		}
	}
}

// metric reads one of a broker's metrics as the super user.
func (n *Node) metric(t *testing.T, name string) (value float64) {
	t.Helper()
	config, err := n.cluster.TLS(SuperUser)
	must(t, err)
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	r, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get("https://" + n.HTTP + "/metrics")
	must(t, err)
	defer r.Body.Close()
	text := make([]byte, 1<<20)
	size := 0
	for {
		k, err := r.Body.Read(text[size:])
		if size += k; err != nil || k == 0 {
			break
		}
	}
	for line := range strings.Lines(string(text[:size])) {
		if _, err := fmt.Sscanf(line, name+" %f", &value); err == nil {
			return value
		}
	}
	t.Fatalf("no metric %s at node %d", name, n.ID)
	return 0
}

// Certificates, revocations, ACLs, users and quotas change under a client at full speed, which notices nothing: no request of its fails,
// and it waits no longer than for an election. Who is revoked loses his streams and finds none again.
func TestReloadUnderLoad(t *testing.T) {
	ctx := testContext(t)
	c, authority := startSecure(t, ctx, 3, "good", "mallory")
	run(t, ctx, c, "", "broker", "topic", "create", "t", "--partitions", "3", "--replication-factor", "3")
	for _, user := range []string{"good", "mallory"} {
		run(t, ctx, c, "", "broker", "acl", "allow", user, "read,write", "--topic", "t")
	}
	hangUp := func() {
		t.Helper()
		for _, n := range c.Nodes() {
			must(t, n.proc.signal(syscall.SIGHUP))
		}
	}
	load, stop := context.WithCancel(ctx)
	defer stop()
	s := startSteady(t, load, c, "t")
	s.await(1000)

	config, err := c.TLS("mallory")
	must(t, err)
	config.ServerName = "127.0.0.1"
	conn, err := grpc.NewClient("passthrough:///"+c.Node(1).Client, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	must(t, err)
	defer conn.Close()
	stream, err := pb.NewFetchServiceClient(conn).FetchStream(ctx)
	must(t, err)
	end := make(chan error, 1)
	go func() {
		for {
			if _, err := stream.Recv(); err != nil {
				end <- err
				return
			}
		}
	}()
	must(t, stream.Send(&pb.FetchStreamRequest{Request: &pb.FetchRequest{Partition: &pb.PartitionRef{Topic: "t"}, MinBytes: 1 << 30, WaitMs: 200_000}}))

	must(t, c.makeCerts(ctx, true)) // new certificates of all brokers, for clients and peers
	hangUp()
	s.await(2000)

	file := c.brokerFile(2, "crt")
	good, err := os.ReadFile(file)
	must(t, err)
	before := c.Node(2).metric(t, "lograft_certificate_reload_failures_total")
	must(t, os.WriteFile(file, []byte("no certificate"), 0o644))
	hangUp()
	must(t, Until(ctx, func() (bool, error) {
		return c.Node(2).metric(t, "lograft_certificate_reload_failures_total") > before, nil
	}))
	s.await(1000)
	must(t, os.WriteFile(file, good, 0o644))
	hangUp()

	run(t, ctx, c, "", "broker", "user", "create", "u", "--new-password-file", passwordFile(t))
	for i := range 5 {
		run(t, ctx, c, "", "broker", "acl", "allow", fmt.Sprint("user-", i), "all", "--topic", "t*")
		run(t, ctx, c, "", "broker", "quota", "set", fmt.Sprint("user-", i), "--requests", "1")
		run(t, ctx, c, "", "broker", "quota", "set", "good", "--produce-bytes", fmt.Sprint(1<<30+i))
	}
	run(t, ctx, c, "", "broker", "acl", "remove", "user-0", "all", "--topic", "t*")
	run(t, ctx, c, "", "broker", "user", "delete", "u", "--yes")
	s.await(2000)

	select {
	case err := <-end:
		t.Fatalf("mallory's stream ended before he was revoked: %v", err)
	default:
	}
	_, err = authority.Revoke(c.CertFile("mallory"))
	must(t, err)
	hangUp()
	select {
	case err := <-end:
		if code := status.Code(err); code != codes.Unauthenticated && code != codes.Unavailable {
			t.Errorf("mallory's stream ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("mallory is revoked and his stream goes on")
	}
	if _, err := pb.NewTopicServiceClient(conn).ListTopics(ctx, &pb.ListTopicsRequest{}); status.Code(err) != codes.Unavailable && status.Code(err) != codes.Unauthenticated {
		t.Errorf("mallory, who is revoked, is answered: %v", err)
	}
	s.await(2000)
	stop()
	s.wg.Wait()
	must(t, s.producer.Close(ctx))
	must(t, s.k.Close())
	gap := time.Duration(s.gap.Load())
	t.Logf("%d records acknowledged, longest pause %v", s.acked.Load(), gap.Round(time.Millisecond))
	if gap > 5*time.Second {
		t.Errorf("the good client waited %v", gap)
	}
	if got := consumeAll(t, ctx, c, "t", 2); int64(len(got)) != s.acked.Load() {
		t.Errorf("%d records are there, %d were acknowledged", len(got), s.acked.Load())
	}
}

func passwordFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	must(t, os.WriteFile(file, []byte("secret\n"), 0o600))
	return file
}
