package engine

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"lograft/broker/partition"
	"lograft/raft"
	"lograft/segment"
	"lograft/segment/vfs"
)

var dueSeed = flag.Uint64("due-seed", 0, "replays one run of TestDueTicksAreLikeEveryTick")

// trio is three brokers with a worker each, and groups on all of them, driven in one loop on disks that sync at once.
type trio struct {
	t       *testing.T
	workers [4]*Worker // by node id
	every   bool       // every replica is ticked each tick
	wire    []letter
	log     []string // what happened in this tick
	groups  int
	now     int64
	kept    int // ticks that replicas were not visited for
}

type letter struct {
	to uint64
	m  Message
}

// trioOut is what one worker's replicas send.
type trioOut struct {
	w    *trio
	from uint64
}

func (o trioOut) Send(node uint64, g partition.GroupID, m *raft.Message) {
	c := *m
	c.Entries, c.Context = slices.Clone(m.Entries), slices.Clone(m.Context)
	o.w.log = append(o.w.log, fmt.Sprintf("%d->%d g%d %v t%d i%d c%d %v n%d x%x", o.from, node, g[0], m.Type, m.Term, m.Index, m.Commit, m.Reject, len(m.Entries), m.Context))
	o.w.wire = append(o.w.wire, letter{node, Message{From: o.from, Group: g, Raft: c}})
}

func newTrio(t *testing.T, seed uint64, every bool) *trio {
	w := &trio{t: t, every: every, groups: 5, now: 1}
	for node := uint64(1); node <= 3; node++ {
		w.workers[node] = NewWorker(0, node, trioOut{w, node})
		for g := range w.groups {
			w.step(node, Event{Adopt: trioReplica(t, seed, GroupID{byte(g)}, node)})
		}
	}
	return w
}

func trioReplica(t *testing.T, seed uint64, g GroupID, node uint64) *partition.Replica {
	t.Helper()
	log, _, err := segment.Open(segment.Options{FS: vfs.NewMem(), Dir: "g", Group: segment.GroupID(g), Start: segment.Start{Index: 1, Term: 1}, SegmentBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed+uint64(g[0]), node))
	r, err := partition.New(partition.Options{Group: g, ReplicaID: node, Peers: []partition.Peer{{ReplicaID: 1, Node: 1}, {ReplicaID: 2, Node: 2}, {ReplicaID: 3, Node: 3}},
		Birth: raft.ConfState{Voters: []uint64{1, 2, 3}}, Born: 1, Log: log, Hard: raft.HardState{Term: 1, Commit: 1}, FirstLeader: node == 1+uint64(g[0])%3,
		ElectionTicks: 10, HeartbeatTicks: 1 + int(seed%2), Rand: rng.IntN, PreferWindows: 3})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// step lets a worker take one event, syncs what it left and hands that back.
func (w *trio) step(node uint64, ev Event) {
	w.t.Helper()
	var eff Effects
	for events := []Event{ev}; events != nil; {
		w.workers[node].Step(w.now, w.now/1e6, events, &eff)
		events = nil
		for _, r := range eff.Replies {
			w.log = append(w.log, fmt.Sprintf("%d: reply %d: %v", node, r.Token, r.Err))
		}
		for _, l := range eff.Leads {
			w.log = append(w.log, fmt.Sprintf("%d: g%d led by %d in %d", node, l.Group[0], l.Leader, l.Term))
		}
		for _, h := range eff.Sync.Lazy {
			w.log = append(w.log, fmt.Sprintf("%d: g%d journals %v", node, h.Group[0], h.Hard))
		}
		if len(eff.Halted) > 0 {
			w.t.Fatalf("node %d: %v", node, eff.Halted)
		}
		if items := slices.Clone(eff.Sync.Items); len(items) > 0 {
			for i := range items {
				if items[i].Log != nil {
					if err := items[i].Log.Do(); err != nil {
						w.t.Fatal(err)
					}
				}
			}
			events = []Event{{Synced: &Completion{Items: items}}}
		}
	}
}

// tick lets 100 ms pass on a broker.
func (w *trio) tick(node uint64) {
	k := w.workers[node]
	queued := 0
	for _, s := range k.order {
		if w.every && s.due != k.wheel.ticks+1 {
			s.due = k.wheel.ticks + 1
			k.wheel.buckets[s.due%wheelTicks] = append(k.wheel.buckets[s.due%wheelTicks], s)
		}
		if s.due != k.wheel.ticks+1 {
			queued++
		}
	}
	w.kept += queued
	w.step(node, Event{Tick: true})
}

// deliver carries what is on the wire until nothing moves, sorted so that it does not matter in which order a step sent it.
func (w *trio) deliver(lost func(*letter) bool) {
	for len(w.wire) > 0 {
		wire := w.wire
		w.wire = nil
		slices.SortStableFunc(wire, func(a, b letter) int {
			return slices.Compare(a.key(), b.key())
		})
		for i := range wire {
			if !lost(&wire[i]) {
				w.step(wire[i].to, Event{Messages: []Message{wire[i].m}})
			}
		}
	}
}

func (l *letter) key() []uint64 {
	m := &l.m.Raft
	return []uint64{l.to, l.m.From, uint64(l.m.Group[0]), uint64(m.Type), m.Term, m.Index, uint64(len(m.Context))}
}

// Replicas that are ticked when they are due, and handed the ticks between when somebody calls them, do the same at the same tick as
// replicas that are ticked each time: they send the same, elect the same leaders, answer the same and journal the same.
func TestDueTicksAreLikeEveryTick(t *testing.T) {
	runs, seed := uint64(12), *dueSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	} else {
		runs = 1
	}
	kept := 0
	for run := range runs {
		kept += dueRun(t, seed+run)
	}
	if kept < 100 {
		t.Errorf("seeds from %d: %d ticks were kept: the test shows nothing", seed, kept)
	}
}

func dueRun(t *testing.T, seed uint64) (kept int) {
	worlds := [2]*trio{newTrio(t, seed, true), newTrio(t, seed, false)}
	rng := rand.New(rand.NewPCG(seed, 1))
	cut := uint64(0)
	for tick := range 250 {
		kind, node, g, lossSeed := rng.IntN(12), 1+rng.Uint64N(3), GroupID{byte(rng.IntN(5))}, rng.Uint64()
		if rng.IntN(25) == 0 {
			cut = rng.Uint64N(4)
		}
		for _, w := range worlds {
			loss := rand.New(rand.NewPCG(lossSeed, 2))
			w.log = w.log[:0]
			w.now += 100e6
			switch q := (partition.Request{From: 1, Token: uint64(tick) + 1, Group: g, Deadline: w.now + 1e9}); kind {
			case 0, 1:
				q.Op = partition.OpBarrier
				w.step(node, Event{Requests: []partition.Request{q}})
			case 2:
				q.Op = partition.OpTransfer
				w.step(node, Event{Requests: []partition.Request{q}})
			case 3:
				w.step(node, Event{Lost: []Lost{{Group: g, To: 1 + node%3}}})
			}
			for n := uint64(1); n <= 3; n++ {
				if kind != 4 || n != node { // now and then a broker's clock stands still for a tick
					w.tick(n)
				}
			}
			w.deliver(func(l *letter) bool { return l.to == cut || l.m.From == cut || loss.IntN(50) == 0 })
			slices.Sort(w.log)
		}
		if a, b := worlds[0].log, worlds[1].log; !slices.Equal(a, b) {
			t.Fatalf("tick %d differs: replay with go test ./broker/engine -run TestDueTicks -due-seed %d\nticked each time: %q\nticked when due: %q", tick, seed, a, b)
		}
	}
	return worlds[1].kept
}
