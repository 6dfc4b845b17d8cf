package bench

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"

	etcd "go.etcd.io/raft/v3"
	"lograft/raft"
)

const payloadBytes = 256

// One proposal through commit and apply, by voters and library. cpu-ns/op is processor time, which others on the machine do not move.
func BenchmarkProposeCommitApply(b *testing.B) {
	payload := make([]byte, payloadBytes)
	for _, voters := range []int{1, 3} {
		b.Run(fmt.Sprintf("voters=%d/lib=lograft", voters), func(b *testing.B) {
			c := newOurs(b, voters)
			perOp(b, 1, func() {
				if err := c.nodes[0].Propose(nil, payload); err != nil {
					b.Fatal(err)
				}
				c.settle(b)
			})
		})
		b.Run(fmt.Sprintf("voters=%d/lib=etcd", voters), func(b *testing.B) {
			c := newTheirs(b, voters)
			perOp(b, 1, func() {
				if err := c.nodes[0].Propose(payload); err != nil {
					b.Fatal(err)
				}
				c.settle(b)
			})
		})
	}
}

// perOp measures op, which does so many things at once, by the clock and by processor time.
func perOp(b *testing.B, things int, op func()) {
	b.ReportAllocs()
	begin := cpuTime()
	for b.Loop() {
		op()
	}
	b.ReportMetric(float64((cpuTime()-begin).Nanoseconds())/float64(b.N*things), "cpu-ns/op")
}

const readsWaiting = 100

// One hundred reads wait; beats/op counts the heartbeats they cost two
// followers together (one round is 2).
func BenchmarkReadIndex100(b *testing.B) {
	b.Run("lib=lograft", func(b *testing.B) {
		c := newOurs(b, 3)
		ctx := make([]byte, 8*readsWaiting)
		c.beats, c.reads = 0, 0
		ops := 0
		perOp(b, 1, func() {
			for i := range readsWaiting {
				key := ctx[8*i : 8*i+8]
				binary.BigEndian.PutUint64(key, uint64(ops*readsWaiting+i))
				if err := c.nodes[0].ReadIndex(key); err != nil {
					b.Fatal(err)
				}
			}
			c.settle(b)
			ops++
		})
		if c.reads != ops*readsWaiting {
			b.Fatalf("%d of %d reads answered", c.reads, ops*readsWaiting)
		}
		b.ReportMetric(float64(c.beats)/float64(ops), "beats/op")
	})
	b.Run("lib=etcd", func(b *testing.B) {
		c := newTheirs(b, 3)
		c.beats, c.reads = 0, 0
		ops := 0
		perOp(b, 1, func() {
			for i := range readsWaiting {
				c.nodes[0].ReadIndex(binary.BigEndian.AppendUint64(nil, uint64(ops*readsWaiting+i)))
			}
			c.settle(b)
			ops++
		})
		if c.reads != ops*readsWaiting {
			b.Fatalf("%d of %d reads answered", c.reads, ops*readsWaiting)
		}
		b.ReportMetric(float64(c.beats)/float64(ops), "beats/op")
	})
}

// A thousand idle groups get one tick each: followers, which only count. What
// the leaders send is drained and answered outside the clock, before an
// election is due, so that the groups stay in their roles.
func BenchmarkTickIdleGroups(b *testing.B) {
	b.Run("lib=lograft", func(b *testing.B) {
		var all []*ours
		for range idleGroups {
			all = append(all, newOurs(b, 3))
		}
		tickAll(b, func() {
			for _, c := range all {
				c.nodes[1].Tick()
			}
		}, func() {
			for _, c := range all {
				c.nodes[0].Tick()
				c.settle(b)
			}
		})
	})
	b.Run("lib=etcd", func(b *testing.B) {
		var all []*theirs
		for range idleGroups {
			all = append(all, newTheirs(b, 3))
		}
		tickAll(b, func() {
			for _, c := range all {
				c.nodes[1].Tick()
			}
		}, func() {
			for _, c := range all {
				c.nodes[0].Tick()
				c.settle(b)
			}
		})
	})
}

const idleGroups = 1000

// tickAll measures tick, with rest before every ninth one outside the clock.
func tickAll(b *testing.B, tick, rest func()) {
	b.ReportAllocs()
	var cpu time.Duration
	begin, ticks := cpuTime(), 0
	for b.Loop() {
		if ticks++; ticks%9 == 0 { // an election is due after ten
			b.StopTimer()
			cpu += cpuTime() - begin
			rest()
			begin = cpuTime()
			b.StartTimer()
		}
		tick()
	}
	cpu += cpuTime() - begin
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/idleGroups, "ns/group")
	b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N)/idleGroups, "cpu-ns/group")
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Memory of an idle node of three voters beside its storage, as B/node.
func BenchmarkIdleNodeMemory(b *testing.B) {
	const nodes = 2000
	b.Run("lib=lograft", func(b *testing.B) {
		for b.Loop() {
			stores := make([]*raft.MemoryStorage, nodes)
			for i := range stores {
				stores[i] = oursStore(b, 3)
			}
			all := make([]*raft.RawNode, nodes)
			before := heap()
			for i := range all {
				n, err := raft.NewRawNode(oursConfig(2), stores[i])
				if err != nil {
					b.Fatal(err)
				}
				if err := n.Step(raft.Message{Type: raft.MsgHeartbeat, From: 1, To: 2, Term: 2}); err != nil {
					b.Fatal(err)
				}
				n.Advance(n.Ready())
				all[i] = n
			}
			b.ReportMetric(float64(int64(heap()-before))/nodes, "B/node")
			runtime.KeepAlive(all)
			runtime.KeepAlive(stores)
		}
	})
	b.Run("lib=etcd", func(b *testing.B) {
		for b.Loop() {
			stores := make([]*etcd.MemoryStorage, nodes)
			for i := range stores {
				stores[i] = etcdStore(b, 3)
			}
			all := make([]*etcd.RawNode, nodes)
			before := heap()
			for i := range all {
				n, err := etcd.NewRawNode(etcdConfig(2, stores[i]))
				if err != nil {
					b.Fatal(err)
				}
				n.Advance(n.Ready())
				all[i] = n
			}
			b.ReportMetric(float64(int64(heap()-before))/nodes, "B/node")
			runtime.KeepAlive(all)
			runtime.KeepAlive(stores)
		}
	})
}
