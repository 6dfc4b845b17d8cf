package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

var fillCases = []faultCase{
	{name: "fill-interrupted", hurt: fillInterrupted},
}

// Shape of what a follower misses: more than the 64 MiB from which on it is sent files instead of entries.
const (
	fillTopic        = "big"
	fillBytes        = 96 << 20
	fillSegmentBytes = 4 << 20
)

// fillInterrupted kills both ends of a fill in its middle, one after the other. The replica goes on with what it has, takes the rest,
// and holds the same bytes as the others.
func fillInterrupted(f *faultRun) {
	f.run("broker", "topic", "create", fillTopic, "--partitions", "1", "--replication-factor", "3", "-c", fmt.Sprintf("segment.bytes=%d", fillSegmentBytes))
	leader, err := f.c.WaitLeader(f.ctx, fillTopic, 0)
	must(f.T, err)
	receiver := f.c.Others(leader)[0]
	must(f.T, receiver.Kill())
	f.run("broker", "bench", "produce", "--topic", fillTopic, "--records", fmt.Sprint(fillBytes/1024), "--data", "random", "-z", "none")
	began := f.fillsOf(receiver)
	must(f.T, receiver.Start())
	f.midFill(receiver, began+1)
	must(f.T, receiver.Kill())
	must(f.T, receiver.Start())
	f.midFill(receiver, began+2)
	if leader, err = f.c.WaitLeader(f.ctx, fillTopic, 0, receiver.ID); err != nil {
		f.Fatal(err)
	}
	source := f.c.Node(leader)
	must(f.T, source.Kill())
	f.sleep(500 * time.Millisecond)
	f.start(source)
	waitReady(f.T, f.ctx, f.c, receiver)
	must(f.T, Until(f.ctx, func() (bool, error) { return f.said(receiver, "snapshot is installed") > 0, nil }))
	f.sameSealed()
	f.note = fmt.Sprintf("(%d fills begun, %d installed)", f.fillsOf(receiver)-began, f.said(receiver, "snapshot is installed"))
}

// said counts lines of a broker's log.
func (f *faultRun) said(n *Node, what string) int {
	log, err := os.ReadFile(n.LogFile)
	must(f.T, err)
	return strings.Count(string(log), what)
}

func (f *faultRun) fillsOf(n *Node) int { return f.said(n, "it fetches a snapshot's segments") }

// midFill returns when a replica has begun to fetch a snapshot for the nth time and some of it is there.
func (f *faultRun) midFill(n *Node, nth int) {
	f.Helper()
	must(f.T, Until(f.ctx, func() (bool, error) { return f.fillsOf(n) >= nth, nil }))
	f.sleep(300 * time.Millisecond)
	if got := f.said(n, "snapshot is installed"); got > 0 {
		f.Logf("node %d had installed %d snapshots already", n.ID, got)
	}
}

// sameSealed waits until the brokers hold the same sealed segments of their largest group, and compares them byte by byte.
func (f *faultRun) sameSealed() {
	f.Helper()
	sealed := func(n *Node) map[string]bool {
		all := map[string]bool{}
		for _, group := range f.groups(n) {
			logs := segmentsOf(f.T, group) // a replica that was filled has the newest checkpoint only
			for _, log := range logs[:max(0, len(logs)-1)] {
				if info, err := os.Stat(log); err == nil && info.Size() > fillSegmentBytes/2 {
					all[filepath.Join("groups", filepath.Base(group), filepath.Base(log))] = true
				}
			}
		}
		return all
	}
	first := f.c.Node(1)
	must(f.T, Until(f.ctx, func() (bool, error) {
		want := len(sealed(first))
		return want > 10 && len(sealed(f.c.Node(2))) == want && len(sealed(f.c.Node(3))) == want, nil
	}))
	for name := range sealed(first) {
		a, err := os.ReadFile(filepath.Join(first.DataDir, name))
		must(f.T, err)
		for _, n := range f.c.Others(first.ID) {
			b, err := os.ReadFile(filepath.Join(n.DataDir, name))
			must(f.T, err)
			if string(a) != string(b) {
				f.Errorf("C7: %s differs between nodes %d and %d", name, first.ID, n.ID)
			}
		}
	}
}
