package broker

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"lograft/broker/cluster"
	"lograft/broker/transport"
	"lograft/certs"
	"lograft/client"
)

// joinAs asks the broker at addr, and who it names, to register a directory.
func joinAs(t *testing.T, addr string, creds transport.Credentials, hello transport.Hello) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		answer, err := transport.Join(ctx, addr, 0, creds, hello)
		if err != nil || answer.Leader == "" {
			return err
		}
		addr = answer.Leader
	}
}

// Between brokers with TLS, a broker whose data directory was lost registers a new one and reads all of its topic again; nobody registers
// for it with a client's certificate, another node's, another cluster's, or none.
func TestRegisterWithTLS(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	s := startSecured(t, 3, nil)
	s.up(ctx, s.as(""))
	k := s.clientAs(client.Options{TLS: s.as("")})
	if _, err := k.CreateTopic(ctx, client.TopicSpec{Name: "t", Partitions: 1, ReplicationFactor: 3}); err != nil {
		t.Fatal(err)
	}
	produceN(ctx, t, k, "t", 0, 100)
	s.end(2)

	pair := func(p certs.Pair, err error) transport.Credentials {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return peersWith(t, s.authority, p)
	}
	hello := transport.Hello{Protocol: transport.Protocol, ClusterName: "test", NodeID: 3, DirID: [16]byte{1, 2, 3}, Boot: 1, Nonce: 1, Addr: "127.0.0.1:1", Commands: cluster.CommandsKnown}
	for _, bad := range []struct { // their files are not those of the brokers that run
		name  string
		creds transport.Credentials
		says  string
	}{
		{"in the clear", nil, ""},
		{"a client's certificate", pair(s.authority.Client("mallory")), ""},
		{"another cluster's", pair(s.authority.Broker("other", 7, nil)), `cluster "other"`},
		{"another node's", pair(s.authority.Broker("test", 8, nil)), "node 8, not for node 3"},
	} {
		if err := joinAs(t, s.options[0].PeerListen, bad.creds, hello); err == nil || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("%s registers a directory of node 3: got %v, want a refusal that says %q", bad.name, err, bad.says)
		}
	}

	if err := os.RemoveAll(s.options[2].DataDir); err != nil {
		t.Fatal(err)
	}
	s.start(2)
	if got := consumeAll(ctx, t, k, "t", 3); len(got) != 100 {
		t.Errorf("%d records came back from the broker that was registered anew, 100 were sent", len(got))
	}
	if err := joinAs(t, s.options[0].PeerListen, pair(s.authority.Broker("test", 4, nil)), transport.Hello{Protocol: transport.Protocol, ClusterName: "test", NodeID: 4, DirID: [16]byte{4}, Boot: 1, Nonce: 1, Addr: "127.0.0.1:1", Commands: cluster.CommandsKnown}); err == nil || !strings.Contains(err.Error(), "add it first") {
		t.Errorf("a node that nobody added registers: got %v", err)
	}
}
