package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"lograft/client"
)

// threeBrokers is a cluster with topic t (3 replicas) and s (1 replica on node 1), and what its brokers tell when all is well.
func threeBrokers() (*client.Cluster, []answerOf) {
	d := &client.Cluster{Name: "c", MetadataLeader: 2, MetadataNodes: []uint64{1, 2, 3}, Topics: []client.Topic{
		{Name: "t", Partitions: []client.Partition{{Number: 0, Replicas: []uint64{1, 2, 3}}}}}}
	var answers []answerOf
	for n := uint64(1); n <= 3; n++ {
		d.Brokers = append(d.Brokers, client.Broker{Node: n, ClientAddr: "a:1", Version: "v"})
		x := answerOf{http: map[string]float64{"lograft_disk_free_bytes": 50, "lograft_disk_size_bytes": 100, "lograft_sync_rounds_total": 10, "lograft_sync_round_seconds_sum": 0.05}}
		for i, topic := range []string{"", "t"} {
			s := client.ReplicaState{Topic: topic, Node: n, ReplicaID: 10*uint64(i) + n, Leader: 2, LeaderEpoch: 3, LastIndex: 5000}
			if n == 2 {
				s.Match = map[uint64]uint64{10*uint64(i) + 1: 5000, 10*uint64(i) + 2: 5000, 10*uint64(i) + 3: 4500}
			}
			x.states = append(x.states, s)
		}
		answers = append(answers, x)
	}
	return d, answers
}

// The screen tells every kind of trouble, names where it is, and knows whether one more broker may be lost.
func TestHealthJudgement(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*client.Cluster, []answerOf)
		says    string // "": healthy
		canLose bool
		why     string
	}{
		{"all is well", func(*client.Cluster, []answerOf) {}, "", true, ""},
		{"a broker is down", func(_ *client.Cluster, x []answerOf) { x[2] = answerOf{err: errors.New("a:1: refused")} }, "3 broker does not answer: refused", false, "without broker 1, 2 groups"},
		{"two brokers are down", func(_ *client.Cluster, x []answerOf) {
			x[1], x[2] = answerOf{err: errors.New("x")}, answerOf{err: errors.New("x")}
		}, "t/0 no leader", false, "2 groups have no leader already"},
		{"a replica is behind", func(_ *client.Cluster, x []answerOf) { x[1].states[1].Match[13] = 3000 }, "t/0 node 3 2000 entries behind", false, "without broker 1, 1 groups"},
		{"a replica is halted", func(_ *client.Cluster, x []answerOf) { x[0].states[1].Problem = "halted: because" }, "t/0 node 1 halted: because", false, "without broker 2, 1 groups"},
		{"a broker that is up tells nothing of a replica", func(_ *client.Cluster, x []answerOf) { x[2].states = x[2].states[:1] }, "t/0 node 3 its broker does not know this replica", false, "without broker 1, 1 groups"},
		{"entries are damaged", func(_ *client.Cluster, x []answerOf) {
			x[0].states[1].Faulty = []client.FaultyRange{{From: 7, To: 9, Reason: "crc"}}
		}, "t/0 node 1 entries 7 to 9 are damaged", true, ""},
		{"one replica only", func(d *client.Cluster, x []answerOf) {
			d.Topics[0].Partitions[0].Replicas = []uint64{2}
			x[0].states, x[2].states = x[0].states[:1], x[2].states[:1]
		}, "", false, "without broker 2, 1 groups"},
		{"a lost directory is replaced", func(d *client.Cluster, x []answerOf) {
			d.Topics[0].Partitions[0].ReplicaIDs = []uint64{11, 12, 13}
			x[2].states[1].ReplicaID = 21
			x[1].states[1].Match[21] = 4900
		}, "t/0 node 3 its replica was lost with its directory", false, "without broker 1, 1 groups"},
		{"a replica is on its way to another broker", func(d *client.Cluster, x []answerOf) {
			d.Topics[0].Partitions[0].Replicas, d.Topics[0].Partitions[0].ReplicaIDs = []uint64{1, 2}, []uint64{11, 12}
			x[1].states[1].Match[13] = 0
		}, "", false, "without broker 1, 1 groups"},
		{"the disk is full", func(_ *client.Cluster, x []answerOf) { x[0].http["lograft_disk_free_bytes"] = 4 }, "node 1 4.0 % of the disk is free", true, ""},
		{"the disk fails", func(_ *client.Cluster, x []answerOf) { x[0].http["lograft_disk_errors_total"] = 2 }, "node 1 2 writes or syncs failed", true, ""},
		{"the disk hangs", func(_ *client.Cluster, x []answerOf) { x[0].http["lograft_sync_under_way_seconds"] = 2.5 }, "node 1 a sync has been under way for 2.5 s", true, ""},
		{"no HTTP", func(_ *client.Cluster, x []answerOf) { x[0].http = nil }, "", true, ""},
		{"an old leader still believes", func(_ *client.Cluster, x []answerOf) {
			x[0].states[1].Leader, x[0].states[1].LeaderEpoch = 1, 2
			x[0].states[1].Match = map[uint64]uint64{}
		}, "", true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, answers := threeBrokers()
			c.change(d, answers)
			h := judge(d, answers)
			var said []string
			for _, p := range h.Problems {
				text := ""
				if p.Topic != "" {
					text = groupKey(p.Topic, p.Partition) + " "
				}
				if p.Node != 0 {
					text += "node " + string(rune('0'+p.Node)) + " "
				}
				said = append(said, text+p.Problem)
			}
			all := strings.Join(said, "\n")
			if h.Healthy != (c.says == "") || !strings.Contains(all, c.says) {
				t.Errorf("healthy %t, said %q, want %q", h.Healthy, all, c.says)
			}
			if h.CanLoseOne != c.canLose || !strings.HasPrefix(h.WhyNot, c.why) {
				t.Errorf("can lose one more: %t %q, want %t %q", h.CanLoseOne, h.WhyNot, c.canLose, c.why)
			}
		})
	}
}

// The text has one line per broker and one per problem; JSON has the same and nothing is null that is a list.
func TestHealthScreen(t *testing.T) {
	d, answers := threeBrokers()
	answers[2] = answerOf{err: errors.New("refused")}
	h := judge(d, answers)
	var out bytes.Buffer
	a := &app{Streams: Streams{Out: &out}, format: "text"}
	if err := a.showHealth(&h); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"UNHEALTHY: cluster c, 3 brokers", "under-replicated 2", "can lose one more broker: NO:", "SYNC-MS", "5.0", "DOWN", "broker does not answer: refused"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	d, answers = threeBrokers()
	h = judge(d, answers)
	out.Reset()
	a.format = "json"
	if err := a.showHealth(&h); err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(out.Bytes(), &fields); err != nil || fields["healthy"] != true || fields["problems"] == nil || len(fields["nodes"].([]any)) != 3 {
		t.Errorf("%v in %s", err, out.String())
	}
}

// A group's lag is that of its partitions together; its age is the oldest. What is not known counts for nothing.
func TestGroupLag(t *testing.T) {
	x := lagOf(&client.Group{Name: "g", State: "stable", Partitions: []client.GroupLag{{Lag: 5, LagTime: time.Second, LagTimeKnown: true}, {Lag: -1}, {Lag: 7, LagTime: 3 * time.Second, LagTimeKnown: true}}})
	if x.Lag != 12 || x.LagSeconds == nil || *x.LagSeconds != 3 {
		t.Errorf("%+v", x)
	}
	if x := lagOf(&client.Group{Partitions: []client.GroupLag{{Lag: -1}}}); x.Lag != 0 || x.LagSeconds != nil {
		t.Errorf("%+v", x)
	}
}

func TestParseNumbers(t *testing.T) {
	m := parseNumbers([]byte("# HELP a b\n# TYPE a counter\na{x=\"1 2\"} 1\na{x=\"y\"} 2.5\n\nbroken\nb 1e3\n"))
	if len(m) != 2 || m["a"] != 3.5 || m["b"] != 1000 {
		t.Errorf("%v", m)
	}
}

// Replicas that share a rack are told of, and are no fault: only while another rack has a broker that is up and stays, counting where the
// replicas are on their way to.
func TestHealthRacks(t *testing.T) {
	for _, c := range []struct {
		name   string
		racks  []string
		change func(*client.Cluster, []answerOf)
		shared int
	}{
		{"no racks", []string{"", "", "", ""}, nil, 0},
		{"a rack each", []string{"a", "b", "c", "d"}, nil, 0},
		{"two in one, another one is free", []string{"a", "a", "b", "c"}, nil, 1},
		{"the other one has no rack", []string{"a", "a", "b", ""}, nil, 1},
		{"all racks are used", []string{"a", "a", "b", "b"}, nil, 0},
		{"the free one is down", []string{"a", "a", "b", "c"}, func(_ *client.Cluster, x []answerOf) { x[3] = answerOf{err: errors.New("x")} }, 0},
		{"on its way there", []string{"a", "a", "b", "c"}, func(d *client.Cluster, _ []answerOf) { d.Topics[0].Partitions[0].Wanted = []uint64{1, 4, 3} }, 0},
	} {
		d, answers := threeBrokers()
		d.Brokers, answers = append(d.Brokers, client.Broker{Node: 4, ClientAddr: "a:1"}), append(answers, answerOf{})
		for i := range d.Brokers {
			d.Brokers[i].Rack = c.racks[i]
		}
		if c.change != nil {
			c.change(d, answers)
		}
		h := judge(d, answers)
		if h.RackShared != c.shared || (h.RackExample != "") != (c.shared > 0) {
			t.Errorf("%s: %d partitions share a rack (%s), want %d", c.name, h.RackShared, h.RackExample, c.shared)
		}
		for _, p := range h.Problems {
			if strings.Contains(p.Problem, "rack") {
				t.Errorf("%s: a shared rack is a fault: %s", c.name, p.Problem)
			}
		}
	}
}

// An upgrade that is not finished is told of, with who it waits for; one that no broker has begun is none.
func TestHealthUpgrade(t *testing.T) {
	for _, c := range []struct {
		active uint32
		known  []uint32
		says   string
	}{
		{1, []uint32{1, 1, 1}, ""},
		{2, []uint32{2, 2, 2}, ""},
		{1, []uint32{2, 1, 2}, "commands of version 2 wait for an upgrade: node 2 (v) knows 1"},
		{2, []uint32{3, 3, 3}, ""},
	} {
		d, _ := threeBrokers()
		d.Commands = c.active
		for i := range d.Brokers {
			d.Brokers[i].Commands = c.known[i]
		}
		if got := upgradeWaits(d); got != c.says {
			t.Errorf("active %d, known %v: %q, want %q", c.active, c.known, got, c.says)
		}
	}
}
