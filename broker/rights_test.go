package broker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	pb "lograft/api/lograft/v1"
	"lograft/client"
)

// startGuarded is a cluster whose clients must prove who they are; root may do everything.
func startGuarded(t *testing.T, ctx context.Context, n int) (*secured, *client.Client) {
	t.Helper()
	s := startSecured(t, n, func(o *Options) {
		o.Access.Required, o.Access.SuperUsers = true, []string{"root"}
	})
	root := s.as("root")
	s.up(ctx, root)
	return s, s.clientAs(client.Options{TLS: root})
}

func reasonOf(err error) string {
	var e *client.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	if err == nil {
		return ""
	}
	return err.Error()
}

func wantReason(t *testing.T, what string, err error, reason string) {
	t.Helper()
	if got := reasonOf(err); got != reason {
		t.Errorf("%s: got %q (%v), want %q", what, got, err, reason)
	}
}

// produceOne appends one record and returns why it failed.
func produceOne(ctx context.Context, t *testing.T, k *client.Client, topic string) (err error) {
	t.Helper()
	p, e := k.NewProducer(client.DefaultProducerOptions())
	if e != nil {
		t.Fatal(e)
	}
	e = p.Produce(ctx, &client.Record{Topic: topic, Partition: client.AnyPartition, Value: []byte("v")}, func(r client.Result) {
		if r.Err != nil {
			err = r.Err
		}
	})
	if e := p.Close(ctx); e != nil && err == nil {
		err = e
	}
	if e != nil {
		return e
	}
	return err
}

// consumeCount reads a topic to its end and returns how many records there are, or why it can't be read.
func consumeCount(ctx context.Context, t *testing.T, k *client.Client, topic string) (n int, err error) {
	t.Helper()
	end := client.AtEnd(0)
	c, err := k.NewConsumer(client.ConsumerOptions{Subscriptions: []client.Subscription{{Topic: topic, Start: client.AtStart(0), Stop: &end}}})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	for {
		b, ended, over, err := c.Poll(ctx)
		if err != nil {
			return n, err
		}
		for _, e := range ended {
			if e.Err != nil {
				return n, e.Err
			}
		}
		if over {
			return n, nil
		}
		if b != nil {
			n += len(b.Records)
		}
	}
}

// Rights in full: who has not proved who he is gets nothing; who has no right is denied and sees nothing; ACLs take effect at once, on
// open connections too; a deny beats an allow; a user proves himself by password, a wrong one and an unknown user look the same; a
// deleted user's session is over.
func TestRights(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s, root := startGuarded(t, ctx, 1)
	for _, name := range []string{"orders", "secret"} {
		if _, err := root.CreateTopic(ctx, client.TopicSpec{Name: name, Partitions: 1}); err != nil {
			t.Fatal(err)
		}
	}
	wantReason(t, "root produces", produceOne(ctx, t, root, "orders"), "")

	_, err := s.clientAs(client.Options{TLS: s.as("")}).DescribeCluster(ctx)
	wantReason(t, "nobody", err, "UNAUTHENTICATED")

	alice := s.clientAs(client.Options{TLS: s.as("alice")})
	d, err := alice.DescribeCluster(ctx)
	if err != nil || len(d.Topics) != 0 {
		t.Errorf("alice sees %d topics, %v: want none", len(d.Topics), err)
	}
	allow := func(principal, op, topic string) {
		t.Helper()
		if _, err := root.ChangeACLs(ctx, []client.ACL{{Principal: principal, Kind: "topic", Name: topic, Operation: op}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	allow("alice", "describe", "orders")
	wantReason(t, "alice produces without the right", produceOne(ctx, t, alice, "orders"), "PERMISSION_DENIED")
	allow("alice", "write", "orders")
	wantReason(t, "alice produces", produceOne(ctx, t, alice, "orders"), "")
	_, err = consumeCount(ctx, t, alice, "orders")
	wantReason(t, "alice reads without the right", err, "PERMISSION_DENIED")
	allow("alice", "read", "orders")
	if n, err := consumeCount(ctx, t, alice, "orders"); n != 2 || err != nil {
		t.Errorf("alice reads %d records, %v: want 2", n, err)
	}
	if err := produceOne(ctx, t, alice, "secret"); err == nil {
		t.Error("alice produced to a topic that she may not even see")
	}
	if _, err := root.ChangeACLs(ctx, []client.ACL{{Principal: "*", Kind: "topic", Name: "ord", Prefix: true, Operation: "write", Deny: true}}, nil); err != nil {
		t.Fatal(err)
	}
	wantReason(t, "alice produces against a deny", produceOne(ctx, t, alice, "orders"), "PERMISSION_DENIED")
	wantReason(t, "a super user", produceOne(ctx, t, root, "orders"), "")

	if err := root.PutUser(ctx, "bob", "swordfish"); err != nil {
		t.Fatal(err)
	}
	allow("bob", "read", "orders")
	login := func(user, password string) *client.Client {
		return s.clientAs(client.Options{TLS: s.as(""), Login: client.Login{User: user, Password: password}})
	}
	bob := login("bob", "swordfish")
	if n, err := consumeCount(ctx, t, bob, "orders"); n != 3 || err != nil {
		t.Errorf("bob reads %d records, %v: want 3", n, err)
	}
	var said []string
	for _, bad := range [][2]string{{"bob", "wrong"}, {"nosuch", "swordfish"}} {
		_, err := login(bad[0], bad[1]).DescribeCluster(ctx)
		wantReason(t, bad[0]+" with a wrong password", err, "UNAUTHENTICATED")
		said = append(said, err.Error())
	}
	if said[0] != said[1] {
		t.Errorf("a wrong password and an unknown user can be told apart: %q, %q", said[0], said[1])
	}
	wantReason(t, "bob changes his own password", bob.PutUser(ctx, "bob", "marlin"), "")
	wantReason(t, "bob changes another's password", bob.PutUser(ctx, "root", "marlin"), "PERMISSION_DENIED")
	if err := root.DeleteUser(ctx, "bob"); err != nil {
		t.Fatal(err)
	}
	_, err = bob.DescribeCluster(ctx)
	wantReason(t, "bob, who is deleted", err, "UNAUTHENTICATED")
}

// fill makes a request about topic t as far as its fields are known.
func fill(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.IsMap():
		case f.IsList() && f.Kind() == protoreflect.MessageKind:
			fill(m.Mutable(f).List().AppendMutable().Message())
		case f.IsList():
		case f.ContainingOneof() != nil && f.ContainingOneof().Fields().Get(0) != f: // one of them, the first
		case f.Kind() == protoreflect.MessageKind:
			fill(m.Mutable(f).Message())
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString("t"))
		}
	}
}

// Every method of every service refuses who has no rights at all, unless it stands here with the reason; so does one whose path lacks
// its slash (CVE-2026-33186).
func TestEveryMethodIsGuarded(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s, root := startGuarded(t, ctx, 1)
	if _, err := root.CreateTopic(ctx, client.TopicSpec{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	harmless := map[string]string{
		"AccessService.Authenticate":      "is how one proves who he is",
		"ClusterService.InitProducerId":   "gives a number",
		"ClusterService.GetMetadata":      "shows what the caller may see",
		"ClusterService.DescribeReplicas": "shows what the caller may see",
		"TopicService.ListTopics":         "shows what the caller may see",
		"GroupService.ListGroups":         "shows what the caller may see",
	}
	conn, err := grpc.NewClient("passthrough:///"+s.options[0].Listen, grpc.WithTransportCredentials(credentials.NewTLS(s.as("nobody"))))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	services := 0
	protoregistry.GlobalFiles.RangeFilesByPackage("lograft.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			services++
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				name := string(service.Name()) + "." + string(m.Name())
				if harmless[name] != "" {
					continue
				}
				reason, err := tryMethod(ctx, conn, "/"+string(service.FullName())+"/"+string(m.Name()), m)
				if reason != "PERMISSION_DENIED" {
					t.Errorf("%s answers %q (%v) to who has no rights", name, reason, err)
				}
			}
		}
		return true
	})
	if services < 5 {
		t.Errorf("only %d services were found", services)
	}
	err = conn.Invoke(ctx, "lograft.v1.TopicService/DeleteTopic", &pb.DeleteTopicRequest{Name: "t"}, &pb.DeleteTopicResponse{})
	if err == nil {
		t.Error("a path without its slash was served")
	}
	if _, err := root.DescribeTopic(ctx, "t"); err != nil {
		t.Errorf("the topic is gone: %v", err)
	}
}

// tryMethod calls a method with a request about topic t and returns the reason of its refusal: of the call, or of the item.
func tryMethod(ctx context.Context, conn *grpc.ClientConn, path string, m protoreflect.MethodDescriptor) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	types := protoregistry.GlobalTypes
	in, err := types.FindMessageByName(m.Input().FullName())
	if err != nil {
		return "", err
	}
	out, err := types.FindMessageByName(m.Output().FullName())
	if err != nil {
		return "", err
	}
	request, answer := in.New(), out.New().Interface()
	fill(request)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer()}, path)
	if err == nil {
		if err = stream.SendMsg(request.Interface()); err == nil {
			err = stream.CloseSend()
		}
		if e := stream.RecvMsg(answer); err == nil || e != nil {
			err = e
		}
	}
	if err != nil {
		if status.Code(err) == codes.PermissionDenied {
			return "PERMISSION_DENIED", err
		}
		return status.Code(err).String(), err
	}
	if item, ok := answer.(interface{ GetError() *pb.Error }); ok {
		return item.GetError().GetReason(), nil
	}
	if items, ok := answer.(*pb.FetchPartitionsResponse); ok && len(items.GetResults()) > 0 {
		return items.GetResults()[0].GetError().GetReason(), nil
	}
	return "", nil
}

// A quota holds from the moment it is set, is told with the time to come back, and does not touch others.
func TestQuota(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s, root := startGuarded(t, ctx, 1)
	if _, err := root.CreateTopic(ctx, client.TopicSpec{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := root.ChangeACLs(ctx, []client.ACL{{Principal: "*", Kind: "topic", Name: "*", Operation: "all"}}, nil); err != nil {
		t.Fatal(err)
	}
	alice, bob := s.clientAs(client.Options{TLS: s.as("alice"), Timeout: 300 * time.Millisecond}), s.clientAs(client.Options{TLS: s.as("bob")})
	if err := root.PutQuota(ctx, client.Quota{Principal: "alice", Requests: 1}); err != nil {
		t.Fatal(err)
	}
	refused := false
	for range 20 {
		if _, err := alice.DescribeTopic(ctx, "t"); err != nil && reasonOf(err) != "TIMED_OUT" { // the machine may be busy
			if reasonOf(err) != "QUOTA" || !strings.Contains(err.Error(), "1 requests per second") {
				t.Fatalf("refused with %q: %v", reasonOf(err), err)
			}
			refused = true
			break
		}
	}
	if !refused {
		t.Error("20 requests in a row passed a quota of one per second")
	}
	for range 20 {
		if _, err := bob.DescribeTopic(ctx, "t"); err != nil {
			t.Fatalf("bob, who has no quota: %v", err)
		}
	}
	if err := root.PutQuota(ctx, client.Quota{Principal: "alice"}); err != nil {
		t.Fatal(err)
	}
	patient := s.clientAs(client.Options{TLS: s.as("alice")})
	for range 20 {
		if _, err := patient.DescribeTopic(ctx, "t"); err != nil {
			t.Fatalf("alice without a quota: %v", err)
		}
	}
	if err := root.PutQuota(ctx, client.Quota{Principal: "bob", ProduceBytes: 40}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for range 2 {
		wantReason(t, "bob produces slowly", produceOne(ctx, t, bob, "t"), "")
	}
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("two batches of about 70 bytes took %v at 40 bytes per second", took)
	}
}

// Who has used up a quota is slowed down on a stream, and still denied what he has no right to.
func TestQuotaGivesNoRights(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s, root := startGuarded(t, ctx, 1)
	if err := root.PutQuota(ctx, client.Quota{Principal: "nobody", Requests: 2}); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+s.options[0].Listen, grpc.WithTransportCredentials(credentials.NewTLS(s.as("nobody"))))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for used := false; !used; {
		_, err := pb.NewTopicServiceClient(conn).ListTopics(ctx, &pb.ListTopicsRequest{})
		if used = status.Code(err) == codes.ResourceExhausted; err != nil && !used {
			t.Fatal(err)
		}
	}
	join := pb.File_lograft_v1_group_proto.Services().ByName("GroupService").Methods().ByName("Join")
	if reason, err := tryMethod(ctx, conn, "/lograft.v1.GroupService/Join", join); reason != "PERMISSION_DENIED" {
		t.Errorf("joining without rights, the quota used up: %q, %v", reason, err)
	}
}
