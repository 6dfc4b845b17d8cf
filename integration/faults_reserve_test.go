package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// reserveCases leave so little room that brokers are at their reserve (architecture D19), on file systems of their own. No broker may
// end, and none is restarted: everything goes on by itself when there is room again.
var reserveCases = []faultCase{
	{name: "disk-reserve-one", needs: needsImages, images: true, hurt: func(f *faultRun) {
		n := f.leader()
		free := f.images.crowd(n)
		f.awaitFull(n)
		f.load.await(f.load.count() + 300) // led elsewhere, by brokers that have room
		if now := f.leader(); now == n {
			f.Errorf("node %d leads although it has no room", n.ID)
		}
		f.upAndReadable("committed") // it does not get to the end that the others have reached
		free()
	}, gapMax: 10 * time.Second},
	{name: "disk-reserve-all", short: true, needs: needsImages, images: true, hurt: func(f *faultRun) {
		var free []func()
		for _, n := range f.c.Nodes() {
			free = append(free, f.images.crowd(n))
		}
		f.awaitFull(f.c.Nodes()...)
		f.sleep(time.Second)
		before := f.load.count()
		f.sleep(3 * time.Second)
		if n := f.load.count() - before; n != 0 {
			f.Errorf("%d records acknowledged although no broker has room", n)
		}
		f.upAndReadable("linearizable")
		for _, give := range free {
			give()
		}
	}},
}

// crowdLeft is the room that crowd leaves: less than the reserve of such a disk (4.2 MiB), and more than the half of it that nothing
// accepted may use, so that those who became full first can take what the others had committed by then.
const crowdLeft = 7 << 19

// space is the free room of a broker's disk, as brokers see it.
func (m *images) space(n *Node) int64 {
	out, err := exec.Command("stat", "-f", "-c", "%a %S", m.mountPoint(n.ID)).Output()
	must(m.t, err)
	var blocks, bytes int64
	_, err = fmt.Sscan(string(out), &blocks, &bytes)
	must(m.t, err)
	return blocks * bytes
}

// crowd takes nearly all of the room of a broker's disk; free gives it back.
func (m *images) crowd(n *Node) (free func()) {
	name := filepath.Join(m.mountPoint(n.ID), "crowd")
	file, err := os.Create(name)
	must(m.t, err)
	for {
		left := m.space(n)
		if left <= crowdLeft {
			break
		}
		_, err := file.Write(make([]byte, min(left-crowdLeft+4096, 4<<20)))
		must(m.t, errors.Join(err, file.Sync()))
	}
	must(m.t, file.Close())
	return func() { must(m.t, os.Remove(name)) }
}

// awaitFull waits until cluster health names each of the brokers and what to do.
func (f *faultRun) awaitFull(nodes ...*Node) {
	f.Helper()
	err := Until(f.ctx, func() (bool, error) {
		r, _ := f.c.Run(f.ctx, strings.NewReader(""), "broker", "cluster", "health", "--format", "json") // exit code 3 says that something is wrong
		var h struct {
			Problems []struct {
				Node    int
				Problem string
			}
		}
		if json.Unmarshal([]byte(r.Stdout), &h) != nil {
			return false, nil
		}
		named := map[int]bool{}
		for _, p := range h.Problems {
			if strings.Contains(p.Problem, "at its reserve") && strings.Contains(p.Problem, "make room") {
				named[p.Node] = true
			}
		}
		for _, n := range nodes {
			if !named[n.ID] {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		f.Fatalf("cluster health does not name the full disks: %v", err)
	}
}

// upAndReadable demands that every broker runs and answers reads.
func (f *faultRun) upAndReadable(consistency string) {
	f.Helper()
	for _, n := range f.c.Nodes() {
		if !n.Running() {
			f.Fatalf("node %d ended at its reserve:\n%s", n.ID, n.LogTail())
		}
		if r := f.run("consume", faultTopic, "-e", "--replica", fmt.Sprint(n.ID), "--consistency", consistency); len(r.Stdout) == 0 {
			f.Errorf("node %d answers no reads", n.ID)
		}
	}
}
