package broker

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	pb "lograft/api/lograft/v1"
	"lograft/client"
)

// A quota bounds a principal's connections: one more is refused with QUOTA and closed, those that came first go on; a bound that is
// lowered takes the youngest away, an open stream within a second or two; who closes one makes room; who proves himself by password is
// bounded as one with a certificate is, others and super users are not by what is set for alice and for everybody.
func TestQuotaConnections(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s, root := startGuarded(t, ctx, 1)
	if err := root.PutUser(ctx, "bob", "swordfish"); err != nil {
		t.Fatal(err)
	}
	put := func(principal string, connections uint64) {
		t.Helper()
		if err := root.PutQuota(ctx, client.Quota{Principal: principal, Connections: connections}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := root.ChangeACLs(ctx, []client.ACL{{Principal: "alice", Kind: "cluster", Name: "*", Operation: "describe"}}, nil); err != nil {
		t.Fatal(err)
	}
	put("alice", 3)
	dial := func(user string) *grpc.ClientConn {
		t.Helper()
		conn, err := grpc.NewClient("passthrough:///"+s.options[0].Listen, grpc.WithTransportCredentials(credentials.NewTLS(s.as(user))))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	call := func(conn *grpc.ClientConn) error {
		_, err := pb.NewTopicServiceClient(conn).ListTopics(ctx, &pb.ListTopicsRequest{})
		return err
	}
	refused := func(what string, err error) {
		t.Helper()
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(status.Convert(err).Message(), "as many connections") {
			t.Errorf("%s: got %v, want QUOTA", what, err)
		}
	}
	var conns []*grpc.ClientConn
	for range 3 {
		conns = append(conns, dial("alice"))
		if err := call(conns[len(conns)-1]); err != nil {
			t.Fatal(err)
		}
	}
	fourth := dial("alice")
	refused("the fourth of three", call(fourth))
	for state := connectivity.Ready; fourth.GetState() == state; {
		if !fourth.WaitForStateChange(ctx, state) {
			t.Fatal("the connection that was refused stays open")
		}
	}
	watch, err := pb.NewClusterServiceClient(conns[2]).WatchMetadata(ctx, &pb.WatchMetadataRequest{})
	if err == nil {
		_, err = watch.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	put("alice", 1)
	for err == nil {
		_, err = watch.Recv()
	}
	refused("an open stream on the third of one", err)
	refused("a call on the second of one", call(conns[1]))
	if err := call(conns[0]); err != nil {
		t.Errorf("the first of one: %v", err)
	}
	conns[0].Close()
	for err = call(conns[1]); status.Code(err) == codes.ResourceExhausted || status.Code(err) == codes.Unavailable; err = call(conns[1]) { // as a client does
		time.Sleep(20 * time.Millisecond)
		if ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		t.Errorf("one of one, after the first was closed: %v", err)
	}

	put("*", 1)
	login := func(timeout time.Duration) *client.Client {
		return s.clientAs(client.Options{TLS: s.as(""), Login: client.Login{User: "bob", Password: "swordfish"}, Timeout: timeout})
	}
	bob := login(time.Minute)
	for range 3 {
		if _, err := bob.DescribeCluster(ctx); err != nil {
			t.Fatalf("bob's only connection: %v", err)
		}
	}
	second := login(500 * time.Millisecond)                                                                        // less than the time to come back
	for _, err = second.DescribeCluster(ctx); reasonOf(err) == "TIMED_OUT"; _, err = second.DescribeCluster(ctx) { // the machine is busy
	}
	wantReason(t, "bob's second of one", err, "QUOTA")
	if _, err := bob.DescribeCluster(ctx); err != nil {
		t.Errorf("bob's first connection, after the second was refused: %v", err)
	}
	if _, err := s.clientAs(client.Options{TLS: s.as("root")}).DescribeCluster(ctx); err != nil {
		t.Errorf("a super user's second connection: %v", err)
	}
	list, err := root.ListQuotas(ctx)
	if err != nil || len(list) != 2 || list[1] != (client.Quota{Principal: "alice", Connections: 1}) {
		t.Errorf("quotas are listed as %v, %v", list, err)
	}
}
