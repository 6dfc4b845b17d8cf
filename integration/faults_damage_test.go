package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

var damageCases = []faultCase{
	{name: "same-record-bad", hurt: sameRecordBad},
	{name: "torn-tail-odd", hurt: tornTailOdd},
	{name: "eio-read", needs: needsStrace, hurt: eioRead},
}

// tornTailOdd lets logs end in what no torn write leaves behind: a hole and then good frames again, a frame that says that it is 4 GiB
// long. Only the tail goes, and opening it takes bounded memory.
func tornTailOdd(f *faultRun) {
	n := f.follower()
	before := f.resident(n)
	for _, odd := range []func(log []byte) []byte{
		func(log []byte) []byte { return append(make([]byte, 8192), log[segmentHeadBytes:]...) },
		func(log []byte) []byte {
			frame := slices.Clone(log[segmentHeadBytes:min(len(log), segmentHeadBytes+512)])
			copy(frame[12:], "\xff\xff\xff\xff") // how long its payload is
			return frame
		},
	} {
		must(f.T, n.Kill())
		for _, group := range f.groups(n) {
			logs := segmentsOf(f.T, group)
			last := logs[len(logs)-1]
			b, err := os.ReadFile(last)
			must(f.T, err)
			if len(b) > segmentHeadBytes {
				appendTo(f.T, last, odd(b))
			}
		}
		f.start(n)
		f.load.await(f.load.count() + 50)
		if grown := f.resident(n) - before; grown > memoryGrowMax {
			f.Errorf("node %d took %d MiB more memory", n.ID, grown>>20)
		}
	}
}

// sameRecordBad damages one byte of one partition on every replica. Nobody can repair it: health names the range, a reader gets
// what is before it, or an error, and nothing behind a gap; the other one serves as if nothing was. When the byte is good again so is all.
func sameRecordBad(f *faultRun) {
	f.load.await(4000)
	f.load.pause()
	name := f.sharedSegment()
	flip := func() {
		for _, n := range f.c.Nodes() {
			must(f.T, n.Kill())
			flipByte(f.T, filepath.Join(n.DataDir, name))
		}
		f.start(f.c.Nodes()...)
	}
	flip()
	bad := -1
	for _, p := range []int{0, 1} {
		for _, n := range f.c.Nodes() {
			r, err := f.c.opts.Bin.Run(f.ctx, f.c.Brokers(), nil, "consume", faultTopic, "-e", "-J", "-p", fmt.Sprint(p), "--replica", fmt.Sprint(n.ID), "--timeout", "8s")
			must(f.T, err)
			got, err := ParseConsumed(r.Stdout)
			must(f.T, err)
			for i, c := range got {
				if c.Offset != int64(i) {
					f.Fatalf("partition %d on node %d: offset %d follows %d", p, n.ID, c.Offset, i-1)
				}
			}
			if r.Code == 0 {
				continue
			}
			if bad >= 0 && bad != p {
				f.Fatalf("partition %d does not serve, the damage is in partition %d:\n%s", p, bad, r.Stderr)
			}
			bad = p
			// The range, or that the end can't be confirmed: a damaged leader gives leadership away.
			if !strings.Contains(r.Stderr, "damaged entries [") && !strings.Contains(r.Stderr, "did not confirm the end") {
				f.Errorf("node %d does not say why it can't be read:\n%s", n.ID, r.Stderr)
			}
		}
	}
	if bad < 0 {
		f.Fatalf("every replica reads %s, which is damaged everywhere", name)
	}
	f.run("produce", faultTopic, "-p", fmt.Sprint(1-bad), "--acks-json", "--delivery-timeout", "10s") // no record: it connects and ends
	health, err := f.c.opts.Bin.Run(f.ctx, f.c.Brokers(), nil, "broker", "cluster", "health")
	must(f.T, err)
	if health.Code == 0 || strings.Count(health.Stdout, " are damaged (file ") != len(f.c.Nodes()) {
		f.Errorf("health does not name the range on every replica (exit code %d):\n%s%s", health.Code, health.Stdout, health.Stderr)
	}
	f.Logf("partition %d names what is damaged; health:\n%s", bad, health.Stdout)
	flip()
	f.load.resume()
}

// sharedSegment is the path, below the data directory, of a sealed segment that every broker holds.
func (f *faultRun) sharedSegment() string {
	for _, group := range f.groups(f.c.Node(1)) {
		for _, log := range sealedSegments(f.T, group) {
			name := filepath.Join("groups", filepath.Base(group), filepath.Base(log))
			all := true
			for _, n := range f.c.Nodes() {
				_, err := os.Stat(filepath.Join(n.DataDir, strings.TrimSuffix(name, ".log")+".state"))
				all = all && err == nil
			}
			if all {
				return name
			}
		}
	}
	f.Fatal("no segment is sealed on every broker")
	return ""
}

// eioRead lets every read of a follower's disk fail. What it returns meanwhile is right or an error, never short; a reader that may go
// elsewhere gets everything.
func eioRead(f *faultRun) {
	f.load.await(4000)
	f.load.pause()
	n := f.follower()
	must(f.T, n.Kill()) // nothing of its segments is in its memory
	f.start(n)
	want := map[int]int64{}
	for _, a := range f.load.acks {
		want[a.Partition] = max(want[a.Partition], a.Offset+1)
	}
	stop := f.strace(n, "pread64:error=EIO")
	refused := 0
	for range 3 {
		r, err := f.c.opts.Bin.Run(f.ctx, f.c.Brokers(), nil, "consume", faultTopic, "-e", "-J", "--replica", fmt.Sprint(n.ID), "--timeout", "3s")
		must(f.T, err)
		got, err := ParseConsumed(r.Stdout)
		must(f.T, err)
		next := map[int]int64{}
		for _, c := range got {
			if c.Offset != next[c.Partition] {
				f.Fatalf("partition %d: offset %d follows %d", c.Partition, c.Offset, next[c.Partition]-1)
			}
			next[c.Partition]++
		}
		if r.Code != 0 {
			refused++
		} else if next[0] != want[0] || next[1] != want[1] {
			f.Errorf("a read of a broker whose disk can't be read ended well and short: %v of %v", next, want)
		}
	}
	any, err := ParseConsumed(f.run("consume", faultTopic, "-e", "-J", "--timeout", "20s").Stdout)
	must(f.T, err)
	if len(any) != int(want[0]+want[1]) {
		f.Errorf("any replica returned %d records, want %d", len(any), want[0]+want[1])
	}
	stop()
	if refused == 0 {
		f.Errorf("no read met the error")
	}
	f.note = fmt.Sprintf("(%d of 3 reads refused)", refused)
	f.load.resume()
	f.sleep(time.Second)
	if !n.Running() {
		f.Logf("node %d had ended: %s", n.ID, lastLine(n.LogTail()))
		f.start(n)
	}
}
