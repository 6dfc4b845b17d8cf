package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// longRun leaves a test to make faults and make faults-short.
func longRun(t *testing.T) {
	if want := os.Getenv("LOGRAFT_FAULTS"); want != "all" && want != "short" {
		t.Skip("run make faults or make faults-short")
	}
}

// memberRun is a cluster under load whose members change: first brokers that it is born with, of all; a topic of so many replicas.
func memberRun(t *testing.T, first, all, replicas int) *faultRun {
	t.Helper()
	f := &faultRun{T: t, ctx: testContext(t), burst: 1}
	c, err := New(Options{Bin: binaries(t), Dir: t.TempDir(), Nodes: all, First: first})
	must(t, err)
	f.c = c
	t.Cleanup(func() {
		c.Close()
		for _, n := range c.Nodes() {
			if _, err := os.Stat(n.LogFile); err == nil {
				checkLog(t, n)
			}
		}
	})
	must(t, c.Start())
	waitReady(t, f.ctx, c)
	f.run("broker", "topic", "create", faultTopic, "--partitions", "2", "--replication-factor", fmt.Sprint(replicas), "-c", "segment.bytes=32768")
	f.load = startLoad(f)
	f.load.await(100)
	return f
}

// verdict ends the load and holds every copy against what was acknowledged: nothing lost, nothing twice, no two copies that differ, and
// the same bytes in the sealed segments of all.
func (f *faultRun) verdict() {
	f.Helper()
	f.load.await(f.load.count() + 100)
	f.load.stop()
	var row faultRow
	f.judge(&row)
	if row.lost+row.duplicates+row.divergent > 0 {
		f.Errorf("%+v", row)
	}
	for i, a := range f.load.acks {
		if a.Failed() {
			f.Errorf("record %d was not acknowledged: %+v", i, a)
			break
		}
	}
	f.run("broker", "cluster", "scrub", faultTopic)
	f.Logf("%d records acknowledged, longest pause %v", row.acked, row.pause.Round(time.Millisecond))
}

// healthy waits until broker cluster health has nothing to complain of and nothing is on the move; arrived waits for the latter alone.
func (f *faultRun) healthy() { f.Helper(); f.awaitHealth(true) }
func (f *faultRun) arrived() { f.Helper(); f.awaitHealth(false) }

func (f *faultRun) awaitHealth(healthy bool) {
	f.Helper()
	var last string
	err := Until(f.ctx, func() (bool, error) {
		r, err := f.c.opts.Bin.Run(f.ctx, f.c.Brokers(), nil, "broker", "cluster", "health", "--format", "json")
		if err != nil {
			return false, err
		}
		last = r.Stdout
		h := struct {
			Healthy bool `json:"healthy"`
			Moving  *int `json:"partitions_moving"`
		}{}
		if json.Unmarshal([]byte(r.Stdout), &h) != nil || h.Moving == nil || *h.Moving > 0 {
			return false, nil
		}
		return h.Healthy && r.Code == 0 || !healthy, nil
	})
	if err != nil {
		f.Fatalf("not there yet: %v\n%s", err, last)
	}
}

// One of three brokers loses its data directory under load and is started with an empty one: it registers, gets new replicas in the place
// of the old ones, and they are filled. Nothing acknowledged is lost, on no copy; the directory that was lost is refused if it turns up.
// A producer notices nothing but a short pause.
func TestWipedBrokerComesBack(t *testing.T) {
	f := memberRun(t, 3, 3, 3)
	n := f.leader() // the worst one to lose
	must(t, n.Kill())
	f.load.await(f.load.count() + 100)
	lost := n.DataDir + ".lost"
	must(t, os.Rename(n.DataDir, lost))
	must(t, os.MkdirAll(n.DataDir, 0o755))
	f.start(n)
	f.healthy()
	f.load.await(f.load.count() + 100)
	f.insteadOf(n, lost, "is registered with data directory")
	f.healthy()
	f.verdict()
}

// A directory registered twice at once, or while the registered one is connected, is refused: two brokers that say they are the same node.
func TestRegisterWhileConnected(t *testing.T) {
	f := memberRun(t, 3, 3, 3)
	n := f.follower()
	twin := *n
	ports, err := FreePorts(3)
	must(t, err)
	twin.Client, twin.Peer, twin.HTTP = ports[0], ports[1], ports[2]
	twin.DataDir, twin.LogFile, twin.proc = n.DataDir+".twin", n.LogFile+".twin", nil
	must(t, os.MkdirAll(twin.DataDir, 0o755))
	must(t, twin.Start())
	t.Cleanup(func() { twin.proc.kill() })
	if err := Until(f.ctx, func() (bool, error) {
		log, err := os.ReadFile(twin.LogFile)
		return strings.Contains(string(log), "stop that broker first"), err
	}); err != nil {
		t.Fatalf("the twin of node %d is not refused: %v\n%s", n.ID, err, twin.LogTail())
	}
	must(t, twin.Kill())
	f.healthy()
	f.verdict()
}

// A fourth broker is added, replicas are evened out, then a first one is decommissioned and removed, and a dead one likewise, all under
// load. The removed one stops by itself and is refused; a client that knows the others notices nothing.
func TestMembersAddDecommissionRemove(t *testing.T) {
	longRun(t)
	f := memberRun(t, 3, 5, 3)
	for _, id := range []int{4, 5} {
		n := f.c.Node(id)
		f.run("broker", "cluster", "add", fmt.Sprintf("%d=%s", id, n.Peer))
		f.start(n)
	}
	f.run("broker", "cluster", "rebalance", "-w")
	f.healthy()
	if d := f.describe(); len(d.Partitions[0].Replicas) != 3 || len(d.Partitions[1].Replicas) != 3 {
		t.Errorf("after the rebalance: %+v", d)
	}
	r, err := f.c.opts.Bin.Run(f.ctx, f.c.Brokers(), nil, "broker", "cluster", "remove", "1")
	must(t, err)
	if r.Code == 0 || !strings.Contains(r.Stderr, "decommission 1") {
		t.Errorf("a broker with replicas was removed: %d %s", r.Code, r.Stderr)
	}
	f.run("broker", "cluster", "decommission", "1", "-w")
	f.run("broker", "cluster", "remove", "1")
	f.stopsRemoved(f.c.Node(1))
	f.refused(f.c.Node(1), "was removed from the cluster")
	f.load.await(f.load.count() + 100)

	must(t, f.c.Node(2).Kill())
	f.run("broker", "cluster", "decommission", "2", "-w")
	f.run("broker", "cluster", "remove", "2")
	f.healthy()
	f.without = []int{1, 2}
	f.verdict()
}

// stopsRemoved waits until a broker that was removed has stopped by itself, with the code and the reason that say so.
func (f *faultRun) stopsRemoved(n *Node) {
	f.Helper()
	code, err := n.proc.wait(f.ctx)
	if err != nil || code != 5 || !strings.Contains(n.LogTail(), "was removed from the cluster") {
		f.Errorf("node %d was removed: exit code %d, %v\n%s", n.ID, code, err, n.LogTail())
	}
}

// whereabouts is what topic describe says of where things are.
type whereabouts struct {
	Partitions []struct {
		Leader   int
		Replicas []int
	}
}

func (f *faultRun) describe() (d whereabouts) {
	f.Helper()
	must(f.T, json.Unmarshal([]byte(f.run("broker", "topic", "describe", faultTopic, "--format", "json").Stdout), &d))
	return d
}

// A partition is sent elsewhere and back, its leadership is handed over by name, and what can't be is refused with a reason.
func TestMembersReassignAndTransfer(t *testing.T) {
	longRun(t)
	f := memberRun(t, 3, 4, 3)
	n := f.c.Node(4)
	f.run("broker", "cluster", "add", fmt.Sprintf("4=%s", n.Peer))
	f.start(n)
	f.run("broker", "topic", "reassign", faultTopic+"/0", "--replicas", "4,2,3", "-w")
	if d := f.describe(); fmt.Sprint(d.Partitions[0].Replicas) != "[4 2 3]" {
		t.Errorf("reassigned to 4,2,3: %+v", d)
	}
	for _, to := range []int{4, 2, 3} {
		f.run("broker", "cluster", "transfer-leader", faultTopic+"/0", fmt.Sprint(to))
		if leader, err := f.c.Leader(f.ctx, faultTopic, 0); err != nil || leader != to {
			t.Errorf("leadership was handed to node %d, node %d leads (%v)", to, leader, err)
		}
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"topic", "reassign", faultTopic + "/0", "--replicas", "4,4"}, "twice"},
		{[]string{"topic", "reassign", faultTopic + "/0", "--replicas", "1,2,9"}, "node 9"},
		{[]string{"topic", "reassign", faultTopic + "/7", "--replicas", "1,2,3"}, "partition 7"},
		{[]string{"topic", "reassign", faultTopic, "--replicas", "1,2,3"}, "TOPIC/NUMBER"},
		{[]string{"cluster", "transfer-leader", faultTopic + "/0", "1"}, "no voting replica"},
		{[]string{"cluster", "decommission", "9"}, "node 9"},
		{[]string{"cluster", "add", "4=127.0.0.1:1"}, "is a broker of this cluster"},
	} {
		r, err := f.c.opts.Bin.Run(f.ctx, f.c.Brokers(), nil, "broker", c.args...)
		must(t, err)
		if r.Code == 0 || !strings.Contains(r.Stderr, c.says) {
			t.Errorf("%v: exit code %d, want a refusal with %q: %s", c.args, r.Code, c.says, r.Stderr)
		}
	}
	f.run("broker", "topic", "reassign", faultTopic+"/0", "--replicas", "1,2,3", "-w") // an id that was on node 1 does not come back: a new one does
	f.run("broker", "cluster", "decommission", "4", "-w")
	f.run("broker", "cluster", "remove", "4")
	f.stopsRemoved(n)
	f.without = []int{4}
	f.healthy()
	f.verdict()
}

// Every broker is restarted with SIGTERM, one after the other, under load: not one record fails, each is there once.
func TestMembersRollingRestart(t *testing.T) {
	longRun(t)
	f := memberRun(t, 3, 3, 3)
	for _, n := range f.c.Nodes() {
		if !n.Running() {
			t.Fatal(errors.New("a broker is gone"))
		}
		must(t, n.proc.signal(syscall.SIGTERM))
		if code, err := n.proc.wait(f.ctx); err != nil || code != 0 {
			t.Errorf("node %d: exit code %d, %v", n.ID, code, err)
		}
		f.start(n)
		f.healthy()
		f.load.await(f.load.count() + 50)
	}
	f.verdict()
}

// A broker is away while another one loses its directory and registers a new one, and a further one is added; these two lead when it comes
// back. It knows neither, hears of both from the ones that it knew, and catches up with them.
func TestMembersAwayWhileOthersChange(t *testing.T) {
	longRun(t)
	f := memberRun(t, 5, 6, 5)
	away, wiped, added := f.c.Node(5), f.c.Node(4), f.c.Node(6)
	must(t, away.Kill())
	must(t, wiped.Kill())
	must(t, os.RemoveAll(wiped.DataDir))
	must(t, os.MkdirAll(wiped.DataDir, 0o755))
	f.start(wiped)
	f.arrived()
	f.run("broker", "cluster", "add", fmt.Sprintf("6=%s", added.Peer))
	f.start(added)
	f.run("broker", "topic", "reassign", faultTopic+"/0", "--replicas", "6,1,2,3,5", "-w")
	f.run("broker", "topic", "reassign", faultTopic+"/1", "--replicas", "4,1,2,3,5", "-w")
	f.run("broker", "cluster", "transfer-leader", faultTopic+"/0", "6")
	f.run("broker", "cluster", "transfer-leader", faultTopic+"/1", "4")
	f.load.await(f.load.count() + 100)
	f.start(away)
	f.healthy()
	f.without = []int{4, 6}
	f.verdict()
}
