package broker

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/datadir"
	"lograft/broker/rpc"
	"lograft/broker/transport"
	"lograft/certs"
	"lograft/client"
	"lograft/raft"
)

// wants says, apart from the broker's own table, which right each method wants for a request about topic t and group t. "": none, beyond
// having proved who one is; "-": not even that.
var wants = map[string]string{
	"ProduceService.Produce": "write topic", "ProduceService.ProduceStream": "write topic", "ProduceService.ReleaseProducer": "write topic",
	"FetchService.Fetch": "read topic", "FetchService.FetchStream": "read topic", "FetchService.FetchPartitions": "read topic", "FetchService.Subscribe": "read topic",
	"FetchService.ListOffsets": "describe topic", "FetchService.OffsetForLeaderEpoch": "describe topic",
	"TopicService.CreateTopic": "create topic", "TopicService.DeleteTopic": "delete topic", "TopicService.AlterTopic": "alter topic", "TopicService.AddPartitions": "alter topic",
	"TopicService.TrimPartition": "delete topic", "TopicService.DescribeTopic": "describe topic", "TopicService.ListTopics": "",
	"ClusterService.GetMetadata": "", "ClusterService.WatchMetadata": "describe cluster", "ClusterService.InitProducerId": "", "ClusterService.DescribeReplicas": "",
	"GroupService.FindCoordinator": "describe group", "GroupService.Join": "read group", "GroupService.ListGroups": "", "GroupService.DescribeGroup": "describe group",
	"GroupService.SeekGroup": "alter group", "GroupService.DeleteGroup": "delete group",
	"StorageService.Scrub":   "alter cluster",
	"StorageService.Recover": "alter cluster",

	"MembershipService.AddBroker":          "alter cluster",
	"MembershipService.ForfeitBrokers":     "alter cluster",
	"MembershipService.RemoveBroker":       "alter cluster",
	"MembershipService.DecommissionBroker": "alter cluster",
	"MembershipService.Rebalance":          "alter cluster",
	"MembershipService.ReassignPartition":  "alter cluster",
	"MembershipService.TransferLeader":     "alter cluster",
	"MembershipService.DescribeMembers":    "describe cluster",
	"AccessService.Authenticate":           "-", "AccessService.PutUser": "alter cluster", "AccessService.DeleteUser": "alter cluster", "AccessService.ListUsers": "describe cluster",
	"AccessService.ChangeAcls": "alter cluster", "AccessService.ListAcls": "describe cluster", "AccessService.PutQuota": "alter cluster", "AccessService.ListQuotas": "describe cluster",
}

// callers are principals and what they are allowed: an operation, a kind and a name each.
var callers = map[string][]string{
	"nobody":    nil,
	"neighbour": {"all topic other", "all group other", "all topic u", "describe topic tt"},
	"stranger":  {"all cluster *"},
	"clerk":     {"all topic *", "all group *"},
	"reader":    {"read topic t", "read group t"},
	"writer":    {"write topic t"},
	"auditor":   {"describe cluster *", "describe topic *", "describe group *"},
	"denied":    {"all topic *", "all group *", "all cluster *", "deny all topic t", "deny all group t", "deny all cluster *"},
}

// may reports whether a caller has a right about topic t, group t or the cluster.
func may(caller, right string) bool {
	op, kind, _ := strings.Cut(right, " ")
	name := map[string]string{"topic": "t", "group": "t", "cluster": "*"}[kind]
	allowed := false
	for _, a := range callers[caller] {
		words := strings.Fields(strings.TrimPrefix(a, "deny "))
		if words[1] != kind || words[2] != "*" && words[2] != name {
			continue
		}
		if strings.HasPrefix(a, "deny ") {
			return false
		}
		allowed = allowed || words[0] == "all" || words[0] == op || op == "describe" && words[0] != "create"
	}
	return allowed
}

// eachMethod visits every method of every service of the API.
func eachMethod(t *testing.T, visit func(name, path string, m protoreflect.MethodDescriptor)) {
	t.Helper()
	seen := 0
	protoregistry.GlobalFiles.RangeFilesByPackage("lograft.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				seen++
				visit(string(service.Name())+"."+string(m.Name()), "/"+string(service.FullName())+"/"+string(m.Name()), m)
			}
		}
		return true
	})
	if seen < len(wants) {
		t.Errorf("%d methods were found, %d are known: the table has some that are gone", seen, len(wants))
	}
}

func aclsOf(t *testing.T) (list []client.ACL) {
	for _, who := range slices.Sorted(maps.Keys(callers)) {
		for _, a := range callers[who] {
			w := strings.Fields(strings.TrimPrefix(a, "deny "))
			list = append(list, client.ACL{Principal: who, Operation: w[0], Kind: w[1], Name: w[2], Deny: strings.HasPrefix(a, "deny ")})
		}
	}
	return list
}

// connect opens a connection of its own with this TLS; token, if not empty, goes with every call.
func (s *secured) connect(c *tls.Config, token string) *grpc.ClientConn {
	s.t.Helper()
	attach := func(ctx context.Context) context.Context {
		if token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", token)
		}
		return ctx
	}
	conn, err := grpc.NewClient("passthrough:///"+s.options[0].Listen, grpc.WithTransportCredentials(credentials.NewTLS(c)),
		grpc.WithStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(attach(ctx), d, conn, method, o...)
		}))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// Every method by every caller: who has not the right that the method wants is denied, and nothing of what he asked happens; who has it
// is not. A method that the table of this test does not know fails it.
func TestEveryMethodByEveryCaller(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s, root := startGuarded(t, ctx, 1)
	for _, name := range []string{"t", "other"} {
		if _, err := root.CreateTopic(ctx, client.TopicSpec{Name: name, Partitions: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := root.ChangeACLs(ctx, aclsOf(t), nil); err != nil {
		t.Fatal(err)
	}
	for _, who := range slices.Sorted(maps.Keys(callers)) {
		conn := s.connect(s.as(who), "")
		eachMethod(t, func(name, path string, m protoreflect.MethodDescriptor) {
			right, known := wants[name]
			switch {
			case !known:
				t.Errorf("%s is new: say in this test which right it wants", name)
			case right == "-" || right == "":
			case !may(who, right):
				if reason, err := tryMethod(ctx, conn, path, m); reason != "PERMISSION_DENIED" {
					t.Errorf("%s by %s, who has no right to %s: %q, %v", name, who, right, reason, err)
				}
			case strings.HasPrefix(right, "describe") || strings.HasPrefix(right, "write"): // what changes nothing that others need
				if reason, err := tryMethod(ctx, conn, path, m); reason == "PERMISSION_DENIED" || reason == "Unauthenticated" {
					t.Errorf("%s by %s, who has the right to %s: %q, %v", name, who, right, reason, err)
				}
			}
		})
	}
	wantUntouched(t, ctx, root)
}

// wantUntouched checks that refused calls about topic t have changed nothing.
func wantUntouched(t *testing.T, ctx context.Context, root *client.Client) {
	t.Helper()
	d, err := root.DescribeTopic(ctx, "t")
	if err != nil || len(d.Partitions) != 1 {
		t.Errorf("topic t after refused calls: %+v, %v", d, err)
	}
	if users, err := root.ListUsers(ctx); err != nil || len(users) > 0 {
		t.Errorf("users after refused calls: %+v, %v", users, err)
	}
	if quotas, err := root.ListQuotas(ctx); err != nil || len(quotas) > 0 {
		t.Errorf("quotas after refused calls: %+v, %v", quotas, err)
	}
}

// issue makes a certificate of the authority in its directory that is valid from one time to another.
func issue(t *testing.T, authority *certs.Authority, name string, from, to time.Time, sans ...*url.URL) tls.Certificate {
	t.Helper()
	keyText, err := os.ReadFile(strings.TrimSuffix(authority.CA(), ".crt") + ".key")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(keyText)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	caText, err := os.ReadFile(authority.CA())
	if err != nil {
		t.Fatal(err)
	}
	block, _ = pem.Decode(caText)
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, URIs: sans}
	der, err := x509.CreateCertificate(rand.Reader, c, ca, &own.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: own}
}

// with is the TLS of a client that shows a certificate.
func (s *secured) with(c tls.Certificate) *tls.Config {
	k := s.as("").Clone()
	k.Certificates = []tls.Certificate{c}
	return k
}

// tokens signs as the broker's token key does.
type tokens struct {
	t       *testing.T
	file    string
	private ed25519.PrivateKey
}

func newTokens(t *testing.T) *tokens {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	k := &tokens{t, filepath.Join(t.TempDir(), "token.pem"), private}
	if err := os.WriteFile(k.file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *tokens) sign(user, cluster string, valid time.Duration) string {
	text, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.RegisteredClaims{Subject: user, Audience: jwt.ClaimStrings{cluster}, ExpiresAt: jwt.NewNumericDate(time.Now().Add(valid))}).SignedString(k.private)
	if err != nil {
		k.t.Fatal(err)
	}
	return "Bearer " + text
}

// Every method by every identity that is none: no proof, one that is over, revoked, of a foreign authority, or made up. All are those of
// root, who may do everything: nothing but the proof is wrong with them.
func TestEveryMethodByNoIdentity(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	signer, foreign := newTokens(t), newTokens(t)
	s := startSecured(t, 1, func(o *Options) {
		o.Access.Required, o.Access.SuperUsers, o.Access.TokenKey = true, []string{"root", "gone"}, signer.file
	})
	rootTLS := s.as("root")
	s.up(ctx, rootTLS)
	root := s.clientAs(client.Options{TLS: rootTLS})
	if _, err := root.CreateTopic(ctx, client.TopicSpec{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	pair, err := s.authority.Client("gone")
	if err != nil {
		t.Fatal(err)
	}
	c, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	gone := s.with(c)
	open := s.connect(gone, "") // while it is good
	if reason, err := tryMethod(ctx, open, "/lograft.v1.TopicService/ListTopics", methodOf("ListTopics")); reason != "" || err != nil {
		t.Fatalf("a good certificate: %q, %v", reason, err)
	}
	if _, err := s.authority.Revoke(pair.Cert); err != nil {
		t.Fatal(err)
	}
	s.reload <- struct{}{}
	for { // the revocation is known
		if reason, _ := tryMethod(ctx, open, "/lograft.v1.TopicService/ListTopics", methodOf("ListTopics")); reason != "" {
			break
		}
		if ctx.Err() != nil {
			t.Fatal("a revoked certificate is still taken")
		}
		time.Sleep(20 * time.Millisecond)
	}
	other, err := certs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, bad := range []struct {
		name  string
		conn  *grpc.ClientConn
		codes []codes.Code
	}{
		{"no proof", s.connect(s.as(""), ""), []codes.Code{codes.Unauthenticated}},
		{"a certificate that is over", s.connect(s.with(issue(t, s.authority, "root", now.Add(-2*time.Hour), now.Add(-time.Hour))), ""), []codes.Code{codes.Unavailable}},
		{"a certificate that is not valid yet", s.connect(s.with(issue(t, s.authority, "root", now.Add(time.Hour), now.Add(2*time.Hour))), ""), []codes.Code{codes.Unavailable}},
		{"a revoked certificate", s.connect(gone, ""), []codes.Code{codes.Unavailable}},
		{"a foreign certificate", s.connect(s.with(issue(t, other, "root", now.Add(-time.Hour), now.Add(time.Hour))), ""), []codes.Code{codes.Unavailable}},
		{"a token that is over", s.connect(s.as(""), signer.sign("root", "test", -time.Second)), []codes.Code{codes.Unauthenticated}},
		{"a token of another key", s.connect(s.as(""), foreign.sign("root", "test", time.Hour)), []codes.Code{codes.Unauthenticated}},
		{"a token for another cluster", s.connect(s.as(""), signer.sign("root", "prod", time.Hour)), []codes.Code{codes.Unauthenticated}},
		{"a bad token beside a good certificate", s.connect(rootTLS, foreign.sign("root", "test", time.Hour)), []codes.Code{codes.Unauthenticated}},
		{"a made-up session", s.connect(s.as(""), "Bearer lgs_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), []codes.Code{codes.Unauthenticated}},
		{"garbage", s.connect(s.as(""), "Bearer !!.!!.!!"), []codes.Code{codes.Unauthenticated}},
	} {
		eachMethod(t, func(name, path string, m protoreflect.MethodDescriptor) {
			if wants[name] == "-" && bad.codes[0] == codes.Unauthenticated {
				return
			}
			_, err := tryMethod(ctx, bad.conn, path, m)
			if !slices.Contains(bad.codes, status.Code(err)) {
				t.Errorf("%s by %s: %v, want %v", name, bad.name, err, bad.codes)
			}
		})
	}
	wantUntouched(t, ctx, root)
	good := s.connect(s.as(""), signer.sign("root", "test", time.Hour))
	if reason, err := tryMethod(ctx, good, "/lograft.v1.AccessService/ListAcls", methodOf("ListAcls")); reason != "" || err != nil {
		t.Errorf("a good token: %q, %v", reason, err)
	}
}

// methodOf finds a method by its name.
func methodOf(name string) (found protoreflect.MethodDescriptor) {
	protoregistry.GlobalFiles.RangeFilesByPackage("lograft.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			if m := file.Services().Get(i).Methods().ByName(protoreflect.Name(name)); m != nil {
				found = m
			}
		}
		return true
	})
	return found
}

// A stream ends soon after the proof of who opened it is over: of a certificate, and of a token.
func TestStreamsEndWithTheirProof(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	signer := newTokens(t)
	s := startSecured(t, 1, func(o *Options) {
		o.Access.Required, o.Access.SuperUsers, o.Access.TokenKey = true, []string{"root", "brief"}, signer.file
	})
	rootTLS := s.as("root")
	s.up(ctx, rootTLS)
	if _, err := s.clientAs(client.Options{TLS: rootTLS}).CreateTopic(ctx, client.TopicSpec{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	const valid = 3 * time.Second
	ends := time.Now().Add(valid).Truncate(time.Second)
	if time.Until(ends) < valid/2 {
		ends = ends.Add(time.Second)
	}
	streams := map[string]pb.FetchService_FetchStreamClient{}
	for name, conn := range map[string]*grpc.ClientConn{
		"certificate": s.connect(s.with(issue(t, s.authority, "brief", time.Now().Add(-time.Hour), ends)), ""),
		"token":       s.connect(s.as(""), signer.sign("brief", "test", time.Until(ends))),
	} {
		stream, err := pb.NewFetchServiceClient(conn).FetchStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&pb.FetchStreamRequest{Request: &pb.FetchRequest{Partition: &pb.PartitionRef{Topic: "t"}, MinBytes: 1, WaitMs: 30_000}}); err != nil {
			t.Fatal(err)
		}
		streams[name] = stream
	}
	for name, stream := range streams {
		_, err := stream.Recv()
		if code := status.Code(err); code != codes.Unauthenticated && code != codes.Unavailable {
			t.Errorf("the stream of a %s ended with %v", name, err)
		}
		if late := time.Since(ends); late < -2*time.Second || late > 25*time.Second {
			t.Errorf("it ended %v after its %s", late, name)
		}
	}
}

// Every path of the HTTP port has a row in the table of rights, and every row is a path.
func TestEveryPathHasARule(t *testing.T) {
	routes := slices.Sorted(maps.Keys((&Broker{}).httpRoutes()))
	if rows := rpc.HTTPPaths(); !slices.Equal(rows, routes) {
		t.Errorf("the HTTP port has the paths\n%q, the table\n%q", routes, rows)
	}
}

// Every path of the HTTP port by every caller.
func TestEveryPathByEveryCaller(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, root := startGuarded(t, ctx, 1)
	if _, err := root.ChangeACLs(ctx, aclsOf(t), nil); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	other, err := certs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	base := "https://" + s.options[0].HTTPListen
	get := func(c *tls.Config, method, path string) int {
		h := &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}, Timeout: 30 * time.Second}
		q, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		r, err := h.Do(q)
		if err != nil {
			return 0
		}
		r.Body.Close()
		return r.StatusCode
	}
	for _, path := range rpc.HTTPPaths() {
		right := "alter cluster"
		switch path {
		case "/livez", "/readyz":
			right = ""
		case "/metrics", "/version":
			right = "describe cluster"
		}
		asked := path
		if right == "alter cluster" {
			asked += "?seconds=1"
		}
		for _, who := range append(slices.Sorted(maps.Keys(callers)), "") {
			want := http.StatusForbidden
			if right == "" || who != "" && may(who, right) {
				want = http.StatusOK
			}
			if got := get(s.as(who), http.MethodGet, asked); got != want && !(want == http.StatusOK && got == http.StatusBadRequest) {
				t.Errorf("%s by %q: status %d, want %d", path, who, got, want)
			}
		}
		for name, c := range map[string]*tls.Config{
			"over":    s.with(issue(t, s.authority, "root", now.Add(-2*time.Hour), now.Add(-time.Hour))),
			"foreign": s.with(issue(t, other, "root", now.Add(-time.Hour), now.Add(time.Hour))),
		} {
			if got := get(c, http.MethodGet, asked); got != 0 {
				t.Errorf("%s with a certificate that is %s: status %d, want no connection", path, name, got)
			}
		}
		if got := get(s.as("root"), http.MethodPost, path); got != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: status %d", path, got)
		}
	}
	for _, path := range []string{"/", "/debug/", "/debug/vars", "/../metrics", "//metrics", "/metrics/x"} {
		if got := get(s.as("nobody"), http.MethodGet, path); got == http.StatusOK {
			t.Errorf("%s: status %d", path, got)
		}
	}
	if got := get(s.as("root"), http.MethodGet, "/debug/pprof/profile?seconds=86400"); got != http.StatusBadRequest {
		t.Errorf("a profile of a day: status %d", got)
	}
}

// peerConn is a connection to a peer port by who holds a certificate.
func (s *secured) peerConn(creds transport.Credentials, node int) *grpc.ClientConn {
	s.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+s.options[node-1].PeerListen, grpc.WithTransportCredentials(creds.Dial(uint64(node))))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// The peer port serves one method, to brokers, by its one path: not without the slash, nothing of the client API, and to a client's
// certificate nothing at all, not even the reading of his greeting. A broker's certificate is nobody in particular on the client port.
func TestPeerPortServesPeersAlone(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, root := startGuarded(t, ctx, 1)
	if _, err := root.CreateTopic(ctx, client.TopicSpec{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	pair := func(p certs.Pair, err error) certs.Pair {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	broker := s.peerConn(peersWith(t, s.authority, pair(s.authority.Broker("test", 2, nil))), 1)
	for _, path := range []string{"lograft.peer.v1.Mesh/Stream", "/lograft.peer.v1.Mesh/Other", "//lograft.peer.v1.Mesh/Stream", "/lograft.v1.TopicService/DeleteTopic", "/grpc.health.v1.Health/Check"} {
		if err := broker.Invoke(ctx, path, &pb.DeleteTopicRequest{Name: "t"}, &pb.DeleteTopicResponse{}); err == nil || status.Code(err) == codes.OK {
			t.Errorf("%s was served on the peer port", path)
		}
	}
	alice := s.peerConn(peersWith(t, s.authority, pair(s.authority.Client("alice"))), 1)
	stream, err := alice.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/lograft.peer.v1.Mesh/Stream")
	if err == nil {
		err = stream.RecvMsg(&pb.DeleteTopicResponse{}) // without having said anything
	}
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("a client's certificate on the peer port: %v", err)
	}
	cert := pair(s.authority.Broker("test", 2, nil))
	c, err := tls.LoadX509KeyPair(cert.Cert, cert.Key)
	if err != nil {
		t.Fatal(err)
	}
	if reason, err := tryMethod(ctx, s.connect(s.with(c), ""), "/lograft.v1.TopicService/DeleteTopic", methodOf("DeleteTopic")); reason != "PERMISSION_DENIED" {
		t.Errorf("a broker's certificate on the client port: %q, %v", reason, err)
	}
	wantUntouched(t, ctx, root)
}

// impostor is a broker's end of the mesh in the hands of somebody else.
type impostor struct {
	hello transport.Hello
	up    chan struct{}
}

func (h *impostor) Greet() transport.Hello                 { return h.hello }
func (h *impostor) Check(transport.Hello) error            { return nil }
func (h *impostor) Frame(uint64, []transport.GroupMessage) {}
func (h *impostor) Clock(uint64, int64, bool)              {}
func (h *impostor) Seated(transport.Hello) error           { return nil }
func (h *impostor) Join(context.Context, transport.Hello) (transport.Joined, error) {
	return transport.Joined{}, errors.New("nobody joins here")
}
func (h *impostor) Dropped(uint64, []transport.Ref) {}
func (h *impostor) Peer(_ uint64, up bool) {
	if up {
		h.up <- struct{}{}
	}
}

// A broker speaks for its own replicas alone. Node 3's key and directory are in the wrong hands: what it says in the name of node 2's
// replica has no effect on node 1; what it says in its own name has, or this test would show nothing.
func TestForgedSender(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s := startSecured(t, 3, nil)
	s.up(ctx, s.as(""))
	k := s.clientAs(client.Options{TLS: s.as("")})
	if _, err := k.CreateTopic(ctx, client.TopicSpec{Name: "t", Partitions: 1, ReplicationFactor: 3}); err != nil {
		t.Fatal(err)
	}
	produceN(ctx, t, k, "t", 0, 10)
	conn := s.connect(s.as(""), "")
	var meta *pb.GetMetadataResponse
	for len(meta.GetTopics()) == 0 { // this broker may not have applied it yet
		var err error
		if meta, err = pb.NewClusterServiceClient(conn).GetMetadata(ctx, &pb.GetMetadataRequest{AllTopics: true}); err != nil {
			t.Fatal(err)
		}
	}
	p := meta.GetTopics()[0].GetPartitions()[0]
	replica := map[uint64]uint64{}
	for _, r := range p.GetReplicas() {
		replica[r.GetNode()] = r.GetId()
	}
	s.end(2)
	d, err := datadir.Open(datadir.Options{Dir: s.options[2].DataDir, ClusterName: "test", NodeID: 3, AllowTmpfs: true, Random: func(b []byte) { _, _ = rand.Read(b) }})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.RaiseBoot(); err != nil {
		t.Fatal(err)
	}
	id := d.Identity()
	h := &impostor{transport.Hello{Protocol: transport.Protocol, ClusterName: id.ClusterName, ClusterID: id.ClusterID, Born: true, NodeID: 3, DirID: id.DirID, Boot: id.Boot, Nonce: 5, Commands: cluster.CommandsKnown}, make(chan struct{}, 1)}
	pair, err := s.authority.Broker("test", 3, []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	m := transport.New(transport.Options{Node: 3, Peers: map[uint64]string{1: s.options[0].PeerListen}, Handler: h, Logger: slog.New(slog.DiscardHandler), Credentials: peersWith(t, s.authority, pair)})
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- m.Run(run) }()
	defer func() { stop(); <-done; m.Stop() }()
	select {
	case <-h.up:
	case <-ctx.Done():
		t.Fatal("the impostor found no connection: its test shows nothing")
	}
	termOn1 := func() uint64 {
		t.Helper()
		states, err := k.DescribeReplicas(ctx, s.options[0].Listen, "t")
		if err != nil || len(states) != 1 {
			t.Fatalf("%+v, %v", states, err)
		}
		return uint64(states[0].LeaderEpoch)
	}
	say := func(from, term uint64) {
		e := transport.NewEncoder()
		e.Add(transport.GroupID(p.GetGroup()), &raft.Message{Type: raft.MsgAppend, From: from, To: replica[1], Term: term})
		m.Send(1, transport.Data, e.Frame())
	}
	const forged, own = 1_000_000, 1_000
	before := termOn1()
	for end := time.Now().Add(20 * time.Second); termOn1() < own; time.Sleep(20 * time.Millisecond) { // the stream of data may not be open yet
		say(replica[2], forged)
		say(replica[3], own) // comes after the forged one: when it has taken effect that has been read
		if time.Now().After(end) {
			t.Fatalf("what node 3 says in its own name had no effect in 20 s: term %d", termOn1())
		}
	}
	if got := termOn1(); got >= forged {
		t.Errorf("a forged message raised the term from %d to %d", before, got)
	}
}

// A call that is not let in is answered on its headers alone: no byte of its message is waited for. Calls that need no proof are few at a
// time, and room is made by those that end.
func TestStrangersCostTheirHeaders(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s, _ := startGuarded(t, ctx, 1)
	conn := s.connect(s.as(""), "")
	both := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	eachMethod(t, func(name, path string, m protoreflect.MethodDescriptor) {
		if wants[name] == "-" {
			return
		}
		call, stop := context.WithTimeout(ctx, 30*time.Second)
		defer stop()
		stream, err := conn.NewStream(call, both, path)
		if err == nil {
			err = stream.RecvMsg(&pb.DeleteTopicResponse{}) // nothing was sent
		}
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s without a message: %v", name, err)
		}
	})

	authenticate := func(ctx context.Context) pb.AccessService_AuthenticateClient {
		t.Helper()
		stream, err := pb.NewAccessServiceClient(conn).Authenticate(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	hold, letGo := context.WithCancel(ctx)
	first := &pb.AuthenticateRequest{Mechanism: "SCRAM-SHA-256", Message: "n,,n=alice,r=abcdef"}
	for range 8 {
		stream := authenticate(hold)
		if err := stream.Send(first); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil { // it is under way
			t.Fatal(err)
		}
	}
	refused := func() bool {
		call, stop := context.WithCancel(ctx)
		defer stop()
		stream := authenticate(call)
		_ = stream.Send(first) // Recv says what came of it
		_, err := stream.Recv()
		return status.Code(err) == codes.ResourceExhausted
	}
	healthy := func() error {
		return conn.Invoke(ctx, "/grpc.health.v1.Health/Check", &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{})
	}
	if !refused() || status.Code(healthy()) != codes.ResourceExhausted {
		t.Error("any number of calls that need no proof is taken")
	}
	letGo()
	for refused() {
		if ctx.Err() != nil {
			t.Fatal("calls that ended make no room")
		}
	}
	if err := healthy(); err != nil {
		t.Errorf("a health check: %v", err)
	}
}
