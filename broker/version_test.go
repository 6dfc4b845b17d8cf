package broker

import (
	"context"
	"strings"
	"testing"
	"time"

	"lograft/broker/cluster"
	"lograft/broker/transport"
	"lograft/client"
)

// waitCommands waits until a version of commands is active.
func waitCommands(ctx context.Context, t *testing.T, k *client.Client, want uint32) client.Cluster {
	t.Helper()
	for {
		d, err := k.DescribeCluster(ctx)
		if err == nil && d.Commands == want {
			return d
		}
		select {
		case <-ctx.Done():
			t.Fatalf("version %d of commands is not active: %+v, %v", want, d, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Brokers of one build raise the cluster to what they know by themselves, whoever was the last to come, and say so. From then on a broker
// whose build knows less is told what to do, and what was raised is the same whichever broker is asked.
func TestCommandsAreRaised(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := startBrokers(t, 3)
	k := c.client()
	for _, b := range waitCommands(ctx, t, k, cluster.CommandsKnown).Brokers {
		if b.Commands != cluster.CommandsKnown || strings.Contains(b.Version, "commands") {
			t.Errorf("node %d runs %q and knows %d", b.Node, b.Version, b.Commands)
		}
	}
	if err := k.AddBroker(ctx, 4, "127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	old := transport.Hello{Protocol: transport.Protocol, ClusterName: "test", NodeID: 4, DirID: [16]byte{4}, Boot: 1, Nonce: 1, Addr: "127.0.0.1:1"}
	if err := joinAs(t, c.options[0].PeerListen, nil, old); err == nil || !strings.Contains(err.Error(), "BROKER_TOO_OLD") || !strings.Contains(err.Error(), "newer") {
		t.Errorf("a broker of an older build registers: got %v", err)
	}
	old.Commands = cluster.CommandsKnown
	for {
		err := joinAs(t, c.options[0].PeerListen, nil, old)
		if err == nil {
			return
		}
		if ctx.Err() != nil || !strings.Contains(err.Error(), "is no broker") { // else whoever leads has not applied yet that it was added
			t.Fatalf("a broker of this build registers: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
