package integration

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"time"
)

var hostileCases = []faultCase{
	{name: "hostile-bytes", short: true, hurt: hostileBytes, gapMax: 5 * time.Second},
	{name: "half-open", hurt: halfOpen, gapMax: 5 * time.Second},
	{name: "topic-names", hurt: topicNames, gapMax: 5 * time.Second},
}

// memoryGrowMax is what hostile clients may cost a broker.
const memoryGrowMax = 64 << 20

// resident is the memory of a broker's process, bytes.
func (f *faultRun) resident(n *Node) (bytes int64) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.Pid()))
	if err != nil {
		f.Skipf("no /proc here: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &bytes); err == nil {
			return bytes << 10
		}
	}
	f.Fatal("no VmRSS")
	return 0
}

// http2 begins a connection as a gRPC client does: preface, settings, and the headers of a call of a method.
const http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// hostileBytes sends what no client sends to every port: random bytes, frames that say that they are 4 GiB or 16 MiB long, endless
// headers. The broker's memory stays, its good clients do not notice.
func hostileBytes(f *faultRun) {
	n := f.leader()
	before := f.resident(n)
	rng := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 1<<16)
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	messages := [][]byte{
		random,
		append([]byte(http2Preface), random...),
		append([]byte(http2Preface), "\xff\xff\xff\x00\x00\x00\x00\x00\x01"...),                                                 // DATA of 16 MiB
		append([]byte(http2Preface), "\x00\x00\x05\x00\x00\x00\x00\x00\x01\x00\xff\xff\xff\xff"...),                             // gRPC message of 4 GiB
		append([]byte(http2Preface), strings.Repeat("\x00\x40\x00\x09\x00\x00\x00\x00\x01"+strings.Repeat("a", 0x4000), 64)...), // endless headers
		[]byte("GET / HTTP/1.1\r\nHost: " + strings.Repeat("a", 1<<20)),
		[]byte(strings.Repeat("\x00", 1<<16)),
	}
	for range 20 {
		for _, address := range []string{n.Client, n.Peer, n.HTTP} {
			for _, m := range messages {
				c, err := net.DialTimeout("tcp", address, time.Second)
				if err != nil {
					continue // refused for now: that is an answer
				}
				_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
				_, _ = c.Write(m) // the broker may hang up at any byte
				_, _ = c.Read(make([]byte, 1024))
				c.Close()
			}
		}
	}
	if grown := f.resident(n) - before; grown > memoryGrowMax {
		f.Errorf("node %d took %d MiB more memory", n.ID, grown>>20)
	}
	if !n.Running() {
		f.Errorf("node %d has ended", n.ID)
	}
}

// halfOpen opens connections that say nothing, and some that stop after a few bytes, and leaves them open.
func halfOpen(f *faultRun) {
	n := f.leader()
	before := f.resident(n)
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for i := range 1500 {
		c, err := net.DialTimeout("tcp", []string{n.Client, n.Peer, n.HTTP}[i%3], time.Second)
		if err != nil {
			continue
		}
		open = append(open, c)
		if i%2 == 0 {
			_, _ = c.Write([]byte(http2Preface)[:i%len(http2Preface)])
		}
	}
	f.sleep(3 * time.Second)
	f.load.await(f.load.count() + 50)
	if grown := f.resident(n) - before; grown > memoryGrowMax {
		f.Errorf("node %d took %d MiB more memory for %d idle connections", n.ID, grown>>20, len(open))
	}
}

// topicNames asks for topics whose names are not names: each is refused, and nothing appears outside the data directories.
func topicNames(f *faultRun) {
	for _, name := range []string{"../../x", ".", "..", "a/b", strings.Repeat("n", 10_000), "a b", "\x01", ""} {
		r, err := f.c.opts.Bin.Run(f.ctx, f.c.Brokers(), nil, "broker", "topic", "create", "--", name)
		must(f.T, err)
		if r.Code == 0 {
			f.Errorf("topic %.40q was created", name)
		}
	}
	if r, err := f.c.opts.Bin.Run(f.ctx, f.c.Brokers(), nil, "broker", "topic", "create", "many", "--partitions", "1000000"); err != nil || r.Code == 0 {
		f.Errorf("a topic of a million partitions: exit code %d, %v", r.Code, err)
	}
	entries, err := os.ReadDir(f.c.opts.Dir)
	must(f.T, err)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "node-") {
			f.Errorf("%s appeared beside the data directories", e.Name())
		}
	}
}
