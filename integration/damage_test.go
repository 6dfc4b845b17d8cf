package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// damageRecords is small: a few segments of 16 KiB.
const (
	damageRecords      = 600
	damageSegmentBytes = 16 << 10
	segmentHeadBytes   = 128
)

// damageCluster is three brokers with one topic of small segments in which every record was acknowledged.
func damageCluster(t *testing.T, ctx context.Context) (c *Cluster, sent []Record, acks []Ack) {
	t.Helper()
	c = startCluster(t, ctx, 3)
	run(t, ctx, c, "", "broker", "topic", "create", "t", "--partitions", "1", "--replication-factor", "3", "-c", fmt.Sprintf("segment.bytes=%d", damageSegmentBytes))
	lines := strings.Split(generatedLogs()["plain"], "\n")[:damageRecords]
	sent = KeyedLines(strings.Join(lines, "\n")+"\n", logsKeys)
	return c, sent, produceAll(t, ctx, c, "t", sent, "-z", "none", "--batch-bytes", "1024")
}

// topicLogs are the segment files of the topic's one group on a broker, oldest first.
func topicLogs(t *testing.T, n *Node) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(n.DataDir, "groups", "*"))
	must(t, err)
	var logs []string
	for _, d := range dirs {
		files, err := filepath.Glob(filepath.Join(d, "*.log"))
		must(t, err)
		if len(files) > len(logs) { // the metadata group has one
			logs = files
		}
	}
	slices.Sort(logs)
	if len(logs) < 3 {
		t.Fatalf("node %d has %d segments of the topic, want some sealed ones: %v", n.ID, len(logs), logs)
	}
	return logs
}

// flipBit turns one bit of a file.
func flipBit(t *testing.T, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	must(t, err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b[:], at)
	must(t, err)
}

// scrubReport is the part of `broker cluster scrub --format json` that these tests read.
type scrubReport struct {
	Healthy  bool `json:"healthy"`
	Replicas []struct {
		Topic    string   `json:"topic"`
		Node     int      `json:"node"`
		Found    int      `json:"damaged_found"`
		Repaired int      `json:"entries_repaired"`
		Problems []string `json:"problems"`
	} `json:"replicas"`
}

// scrub checks every file of the topic; it must find all in order in the end.
func scrub(t *testing.T, ctx context.Context, c *Cluster) {
	t.Helper()
	var r scrubReport
	var out Result
	err := Until(ctx, func() (bool, error) {
		var err error
		if out, err = c.opts.Bin.Run(ctx, c.Brokers(), nil, "broker", "cluster", "scrub", "t", "--format", "json"); err != nil {
			return false, err
		}
		r = scrubReport{}
		if err := json.Unmarshal([]byte(out.Stdout), &r); err != nil {
			return false, fmt.Errorf("%w in %s\n%s", err, out.Stdout, out.Stderr)
		}
		return out.Code == 0 && r.Healthy && len(r.Replicas) == 3, nil
	})
	if err != nil {
		t.Fatalf("scrub: %v, last: exit code %d\n%s", err, out.Code, out.Stdout)
	}
}

func wantCopies(t *testing.T, ctx context.Context, c *Cluster, sent []Record, acks []Ack) {
	t.Helper()
	for _, n := range c.Nodes() {
		if err := CheckCopy(sent, acks, consumeAll(t, ctx, c, "t", n.ID)); err != nil {
			t.Errorf("replica %d: %v", n.ID, err)
		}
	}
}

// sameLogs compares the sealed segments on all brokers, byte by byte.
func sameLogs(t *testing.T, c *Cluster) {
	t.Helper()
	first := topicLogs(t, c.Node(1))
	for _, n := range c.Others(1) {
		for i, name := range topicLogs(t, n) {
			if i >= len(first)-1 {
				break // not sealed
			}
			a, err := os.ReadFile(first[i])
			must(t, err)
			b, err := os.ReadFile(name)
			must(t, err)
			if string(a) != string(b) {
				t.Errorf("%s differs from %s", name, first[i])
			}
		}
	}
}

// One broker is killed and comes back with flipped bits in its sealed segments, its active segment and one copy of its journal. It
// repairs them from the others; no record is missing anywhere and the files are the same bytes.
func TestDamagedBroker(t *testing.T) {
	ctx := testContext(t)
	c, sent, acks := damageCluster(t, ctx)
	time.Sleep(500 * time.Millisecond) // the last persist marks: what they do not cover may look like a torn write
	victim := c.Node(3)
	must(t, victim.Kill())
	logs := topicLogs(t, victim)
	for i, name := range logs {
		st, err := os.Stat(name)
		must(t, err)
		end := st.Size()
		if i == len(logs)-1 {
			end = end * 3 / 4
		}
		for at := int64(segmentHeadBytes + 100*i); at < end; at += 5000 {
			flipBit(t, name, at)
		}
	}
	journals, err := filepath.Glob(filepath.Join(victim.DataDir, "journal", "a", "*"))
	must(t, err)
	if len(journals) == 0 {
		t.Fatal("no file in journal/a")
	}
	flipBit(t, journals[0], 40)
	must(t, c.Start(victim))
	waitReady(t, ctx, c)
	scrub(t, ctx, c)
	wantCopies(t, ctx, c, sent, acks)
	run(t, ctx, c, "", "broker", "cluster", "health")
	if log, err := os.ReadFile(victim.LogFile); err != nil || !strings.Contains(string(log), "repaired") {
		t.Errorf("the log of node %d does not say that anything was repaired (%v)", victim.ID, err)
	}
	must(t, c.Stop(ctx))
	sameLogs(t, c)
}

// All brokers are killed, and each chunk of the log is damaged on exactly one of them. Together they still have everything.
func TestDamageSpreadOverBrokers(t *testing.T) {
	ctx := testContext(t)
	c, sent, acks := damageCluster(t, ctx)
	time.Sleep(500 * time.Millisecond)
	for _, n := range c.Nodes() {
		must(t, n.Kill())
	}
	const chunk = 2048
	for k, n := range c.Nodes() {
		logs := topicLogs(t, n)
		for i, name := range logs {
			st, err := os.Stat(name)
			must(t, err)
			end := st.Size()
			if i == len(logs)-1 {
				end = end * 3 / 4
			}
			for at := int64(0); at < end; at += chunk {
				if pos := at + 200 + int64(i*10); (int(at/chunk)+i)%3 == k && pos < end {
					flipBit(t, name, pos)
				}
			}
		}
	}
	must(t, c.Start())
	waitReady(t, ctx, c)
	scrub(t, ctx, c)
	wantCopies(t, ctx, c, sent, acks)
	must(t, c.Stop(ctx))
	sameLogs(t, c)
}

// A broker whose directory was replaced by an old copy of it takes no part and says why, however often it is started; with its own directory it does again. (A wiped
// one: TestWipedBrokerComesBack.)
func TestOldCopyTakesNoPart(t *testing.T) {
	ctx := testContext(t)
	c, sent, acks := damageCluster(t, ctx)
	victim := c.Node(2)
	must(t, c.Stop(ctx, victim))
	old, right := victim.DataDir+"-old", victim.DataDir+"-right"
	must(t, os.CopyFS(old, os.DirFS(victim.DataDir)))
	for range 2 { // each start raises the boot number, which the others remember
		must(t, c.Start(victim))
		waitReady(t, ctx, c)
		must(t, c.Stop(ctx, victim))
	}
	must(t, os.Rename(victim.DataDir, right))
	must(t, os.Rename(old, victim.DataDir))
	for range 3 { // its boot number is lower than the one that was seen, then the same, then higher
		if victim.Running() {
			must(t, victim.Kill())
		}
		must(t, os.Truncate(victim.LogFile, 0))
		must(t, c.Start(victim))
		must(t, Until(ctx, func() (bool, error) {
			log, err := os.ReadFile(victim.LogFile)
			return strings.Contains(string(log), "old copy") || strings.Contains(string(log), "stop the copy"), err
		}))
	}
	more := []Record{{Key: "more", Value: "while an old copy waits"}}
	acks = append(acks, produceAll(t, ctx, c, "t", more)...)
	sent = append(sent, more...)
	if victim.Running() {
		must(t, victim.Kill())
	}
	must(t, os.RemoveAll(victim.DataDir))
	must(t, os.Rename(right, victim.DataDir))
	must(t, c.Start(victim))
	waitReady(t, ctx, c)
	wantCopies(t, ctx, c, sent, acks)
}
