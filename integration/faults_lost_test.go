package integration

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// lostCases take whole files, or what makes a log readable at all, from one broker. It fetches them from the others under its own replica
// ids; what can't be opened is set aside first.
var lostCases = []faultCase{
	{name: "segment-file-missing", hurt: func(f *faultRun) {
		f.load.await(4000)
		n := f.follower()
		must(f.T, n.Kill())
		removed := 0
		for _, group := range f.groups(n) {
			if sealed := sealedSegments(f.T, group); len(sealed) > 1 {
				must(f.T, os.Remove(sealed[len(sealed)/2]))
				removed++
			}
		}
		if removed == 0 {
			f.Fatal("no sealed segment to remove")
		}
		f.start(n)
		f.awaitSays(n, "damaged entries were repaired")
		f.awaitHealthy()
	}, gapMax: 5e9},
	{name: "log-refused", short: true, hurt: func(f *faultRun) {
		f.load.await(4000)
		n := f.follower()
		must(f.T, n.Kill())
		wrecked := 0
		for _, group := range f.groups(n) {
			if logs := segmentsOf(f.T, group); len(logs) > 2 {
				flipAt(f, logs[len(logs)-1], 20)  // a header
				flipAt(f, logs[len(logs)-2], -20) // the footer of the one before, and a frame of it: nothing says what the header was
				flipAt(f, logs[len(logs)-2], 128+60)
				wrecked++
			}
		}
		if wrecked == 0 {
			f.Fatal("no log to wreck")
		}
		f.start(n)
		f.awaitSays(n, "set aside")
		f.awaitSays(n, "the replica votes and serves again")
		f.awaitHealthy()
	}, gapMax: 5e9},
}

// flipAt turns bits of the byte at off; a negative one counts from the end.
func flipAt(f *faultRun, name string, off int) {
	f.Helper()
	b, err := os.ReadFile(name)
	must(f.T, err)
	if off < 0 {
		off += len(b)
	}
	b[off] ^= 0x55
	must(f.T, os.WriteFile(name, b, 0o644))
}

// awaitSays waits until a broker's log contains the words.
func (f *faultRun) awaitSays(n *Node, words string) {
	f.Helper()
	if err := Until(f.ctx, func() (bool, error) {
		b, err := os.ReadFile(n.LogFile)
		return strings.Contains(string(b), words), err
	}); err != nil {
		f.Fatalf("node %d never says %q: %v", n.ID, words, err)
	}
}

// awaitHealthy waits until cluster health finds nothing wrong.
func (f *faultRun) awaitHealthy() {
	f.Helper()
	if err := Until(f.ctx, func() (bool, error) {
		_, err := f.c.Run(f.ctx, strings.NewReader(""), "broker", "cluster", "health")
		return err == nil, nil
	}); err != nil {
		r, _ := f.c.Run(f.ctx, strings.NewReader(""), "broker", "cluster", "health")
		f.Fatalf("cluster health: %v\n%s", err, r.Stdout)
	}
}

// recoverCase takes the logs of a partition from two of three brokers: nobody can lead it until an operator accepts the loss.
var recoverCase = faultCase{name: "majority-lost-logs", hurt: func(f *faultRun) {
	f.load.await(4000)
	nodes := f.c.Nodes()
	for _, n := range nodes {
		must(f.T, n.Kill())
	}
	for _, n := range nodes[:2] {
		for _, group := range f.groups(n) {
			if logs := segmentsOf(f.T, group); len(logs) > 2 {
				flipAt(f, logs[len(logs)-1], 20)
				flipAt(f, logs[len(logs)-2], -20)
				flipAt(f, logs[len(logs)-2], 128+60)
			}
		}
	}
	must(f.T, f.c.Start(nodes...))
	for _, n := range nodes[:2] {
		f.awaitSays(n, "set aside")
	}
	f.sleep(4 * time.Second)
	for p := range 2 {
		at := fmt.Sprintf("%s/%d", faultTopic, p)
		plan := f.run("broker", "cluster", "recover", at)
		if !strings.Contains(plan.Stdout, "no other replica holds") || !strings.Contains(plan.Stderr, "nothing was changed") {
			f.Fatalf("what would be lost of %s: %s%s", at, plan.Stdout, plan.Stderr)
		}
		if r, err := f.c.Run(f.ctx, strings.NewReader(""), "broker", "cluster", "recover", at, "--accept-loss"); err == nil || !strings.Contains(r.Stderr, "--yes") {
			f.Fatalf("the loss of %s was accepted by nobody: %v %s", at, err, r.Stderr)
		}
		if r := f.run("broker", "cluster", "recover", at, "--accept-loss", "--yes"); !strings.Contains(r.Stderr, "has a leader again") {
			f.Fatalf("recover %s: %s%s", at, r.Stdout, r.Stderr)
		}
		if r, err := f.c.Run(f.ctx, strings.NewReader(""), "broker", "cluster", "recover", at, "--accept-loss", "--yes"); err == nil || !strings.Contains(r.Stdout, "leads the partition") {
			f.Errorf("%s has a leader and is recovered again: %v %s", at, err, r.Stdout)
		}
	}
	waitReady(f.T, f.ctx, f.c, nodes...)
	f.awaitHealthy()
	for _, n := range nodes {
		f.awaitSays(n, "StorageService/Recover") // the audit log
	}
}}
