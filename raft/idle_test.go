package raft_test

import (
	"cmp"
	"flag"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"lograft/raft"
)

var idleSeed = flag.Uint64("idle-seed", 0, "replays one run of TestIdleTicksAndCalmStepsChangeNothing")

// lazyGroup is a group whose apps keep idle ticks and take calm messages apart, beside one that does neither.
type lazyGroup struct {
	*group
	lazy  bool
	owed  []int // ticks kept, by id-1
	taken int   // calm messages
	kept  int   // ticks
}

// at hands over the ticks that a node is owed: something else is about to be called.
func (l *lazyGroup) at(id uint64) *raft.RawNode {
	raw := l.n(id).raw
	if k := l.owed[id-1]; k > 0 {
		raw.TickN(k)
		l.owed[id-1] = 0
	}
	return raw
}

func (l *lazyGroup) tickOne(id uint64) {
	raw := l.n(id).raw
	switch {
	case !l.lazy:
		raw.Tick()
	case l.owed[id-1] < raw.IdleTicks():
		l.owed[id-1]++
		l.kept++
	default:
		raw.TickN(l.owed[id-1] + 1)
		l.owed[id-1] = 0
	}
	l.drive(id)
}

// deliver carries what is on the wire, without what lose takes, one wave in an order that does not depend on who drives.
func (l *lazyGroup) deliver(lose func(*raft.Message) bool) {
	wire := l.wire
	l.wire = nil
	slices.SortStableFunc(wire, func(a, b raft.Message) int {
		return cmp.Or(cmp.Compare(a.To, b.To), cmp.Compare(a.From, b.From), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Index, b.Index), cmp.Compare(len(a.Context), len(b.Context)))
	})
	for i := range wire {
		m := &wire[i]
		if lose(m) {
			continue
		}
		raw := l.at(m.To)
		if l.lazy {
			calm := raw.Calm()
			answer, taken := raw.StepCalm(m)
			if own := raw.BasicStatus(); calm && !taken && len(m.Context) == 0 && m.Term == own.HardState.Term &&
				(m.Type == raft.MsgHeartbeatResponse || m.Type == raft.MsgHeartbeat && m.Commit <= own.HardState.Commit) {
				l.t.Fatalf("a calm node does not take %+v", m)
			}
			if taken {
				if l.taken++; answer.To != 0 {
					l.send([]raft.Message{answer})
				}
				if raw.HasReady() {
					l.t.Fatalf("a calm %v left a Ready", m.Type)
				}
				continue
			}
		}
		_ = raw.Step(*m)
		l.drive(m.To)
	}
}

// Ticks kept while they are idle, and heartbeats taken by StepCalm, lead to the same messages and states at the same ticks as Tick and
// Step do: elections, reads, transfers and snapshots included.
func TestIdleTicksAndCalmStepsChangeNothing(t *testing.T) {
	runs := 60
	seed := *idleSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	} else {
		runs = 1
	}
	taken, kept := 0, 0
	for run := range uint64(runs) {
		a, b := idleRun(t, seed+run)
		if a != nil {
			t.Fatalf("replay: go test ./raft -run TestIdleTicks -idle-seed %d: %v", seed+run, a)
		}
		taken, kept = taken+b.taken, kept+b.kept
	}
	if *idleSeed == 0 && (taken < 1000 || kept < 1000) {
		t.Fatalf("seeds from %d: only %d calm messages and %d kept ticks: the test shows nothing", seed, taken, kept)
	}
}

// idleRun drives both groups by the same choices; difference says where they part, nil if they don't.
func idleRun(t *testing.T, seed uint64) (difference any, lazy *lazyGroup) {
	var gs [2]*lazyGroup
	for i := range gs {
		rng := rand.New(rand.NewPCG(seed, 7))
		cs := raft.ConfState{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}}
		g := newGroupOf(t, cs, func(c *raft.Config) {
			c.PreVote, c.EagerElections, c.HeartbeatTick, c.SnapshotTimeoutTick = seed%2 == 0, seed/2%2 == 0, 1+int(seed%3), 7
			c.Rand = func(n int) int { return rng.IntN(n) }
		})
		gs[i] = &lazyGroup{group: g, lazy: i == 1, owed: make([]int, 4)}
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	cut := uint64(0)
	for step := range 400 {
		kind, id, lossSeed := rng.IntN(40), 1+rng.Uint64N(4), rng.Uint64()
		if rng.IntN(60) == 0 {
			cut = rng.Uint64N(5)
		}
		for _, g := range gs {
			loss := rand.New(rand.NewPCG(lossSeed, 2))
			g.act(kind, id, step)
			g.deliver(func(m *raft.Message) bool { return m.From == cut || m.To == cut || loss.IntN(20) == 0 })
		}
		if d := apart(gs[0], gs[1]); d != nil {
			return []any{step, kind, id, d}, gs[1]
		}
	}
	return nil, gs[1]
}

// act does one thing to a node; most of the time everybody ticks.
func (l *lazyGroup) act(kind int, id uint64, step int) {
	switch kind {
	case 0, 1:
		_ = l.at(id).Propose(nil, []byte{byte(step)})
	case 2, 3:
		_ = l.at(id).ReadIndex([]byte{byte(step), byte(step >> 8)})
	case 4:
		l.at(id).TransferLeader(1 + id%3)
	case 5:
		_ = l.at(id).Campaign()
	case 6:
		l.at(id).SetElectable(step%3 != 0)
	case 7:
		_ = l.at(id).RequestSnapshot()
	case 8:
		l.at(id).ReportUnreachable(1 + id%3)
	default:
		for i := range l.members {
			l.tickOne(uint64(i + 1))
		}
		return
	}
	l.drive(id)
}

// apart is what differs between the two, nil if nothing.
func apart(eager, lazy *lazyGroup) any {
	byWay := func(a, b raft.Message) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Index, b.Index), cmp.Compare(len(a.Context), len(b.Context)))
	}
	for _, g := range []*lazyGroup{eager, lazy} {
		slices.SortStableFunc(g.wire, byWay)
	}
	if a, b := eager.wire, lazy.wire; !reflect.DeepEqual(a, b) && len(a)+len(b) > 0 {
		return []any{"wire", a, b}
	}
	for i := range eager.members {
		a, b := eager.members[i], lazy.members[i]
		if x, y := a.raw.Status(), b.raw.Status(); !reflect.DeepEqual(x, y) {
			return []any{"status", x, y}
		}
		if !reflect.DeepEqual(a.reads, b.reads) || !reflect.DeepEqual(a.dropped, b.dropped) {
			return []any{"reads", a.reads, b.reads, a.dropped, b.dropped}
		}
	}
	return nil
}
