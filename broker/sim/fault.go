package sim

import (
	"fmt"
	"slices"
	"strings"

	"lograft/broker/partition"
	"lograft/segment/vfs"
)

// Fault is one way to hurt a cluster. Do draws everything from the world's chance and reports whether it could be done.
type Fault struct {
	Name   string
	Weight int // how often it is drawn
	Do     func(w *World) bool
}

// AllFaults are the faults of a run. A new one is a line here, and a floor in floors.
func AllFaults() []Fault {
	return []Fault{
		{"power cut", 6, func(w *World) bool { return w.some().lose((*Node).Crash) }},
		{"power cut armed", 8, func(w *World) bool { w.some().disk.cutAfter = 1 + w.rng.IntN(60); return true }},
		{"power cut of a majority", 2, func(w *World) bool { return w.loseAll(len(w.nodes)/2+1, (*Node).Crash) }},
		{"power cut of all", 2, func(w *World) bool { return w.loseAll(len(w.nodes), (*Node).Crash) }},
		{"all power at once, nothing kept", 1, func(w *World) bool { return w.loseAll(len(w.nodes), (*Node).crashHard) }},
		{"kill -9", 5, func(w *World) bool { return w.some().lose((*Node).Kill) }},
		{"kill -9 of a leader", 6, func(w *World) bool { return w.someLeader().lose((*Node).Kill) }},
		{"kill -9 of all", 2, func(w *World) bool { return w.loseAll(len(w.nodes), (*Node).Kill) }},
		{"long absence", 6, func(w *World) bool { return w.some().absent(w.between(4e9, 12e9)) }},
		{"end of a fill armed", 8, func(w *World) bool { w.cutFill = true; return true }},
		{"pause", 6, func(w *World) bool { return w.pause(1) }},
		{"pause of a leader", 3, func(w *World) bool { return w.someLeader().pauseFor(w.between(500e6, 5e9)) }},
		{"pause of a majority", 2, func(w *World) bool { return w.pause(len(w.nodes)/2 + 1) }},
		{"isolation", 4, func(w *World) bool { w.Isolate(w.some().id); return w.healLater() }},
		{"isolation of a leader", 4, func(w *World) bool { return w.isolateLeader() }},
		{"one-way cut", 5, func(w *World) bool { w.Cut(w.some().id, w.some().id); return w.healLater() }},
		{"deaf or mute broker", 3, func(w *World) bool { return w.deafOrMute() }},
		{"split", 4, func(w *World) bool { w.Split(w.side(), 0); return w.healLater() }},
		{"bridge", 3, func(w *World) bool { w.Split(w.side(), w.some().id); return w.healLater() }},
		{"flapping link", 4, func(w *World) bool { w.flap(w.some().id, w.some().id, 4+w.rng.IntN(20)); return true }},
		{"slow link", 4, func(w *World) bool { return w.slowLink() }},
		{"answers dropped", 3, func(w *World) bool { return w.dropAnswers() }},
		{"loss burst", 3, func(w *World) bool { return w.lossBurst() }},
		{"clock step", 3, func(w *World) bool { return w.some().stepClock() }},
		{"clock speed", 2, func(w *World) bool { return w.some().bendClock() }},
		{"slow disk", 3, func(w *World) bool { return w.some().slowDisk() }},
		{"disk at its reserve", 3, func(w *World) bool { return w.crowd(1) }},
		{"disks of a majority at their reserve", 2, func(w *World) bool { return w.crowd(len(w.nodes)/2 + 1) }},
		{"disk full", 3, func(w *World) bool { return w.some().fillDisk() }},
		{"disk error armed", 5, func(w *World) bool { return w.some().armDisk() }},
		{"directory lost", 4, func(w *World) bool { return w.doomed().loseDirectory() }},
		{"old copy put back", 6, func(w *World) bool { return w.doomed().putBack() }},
		{"bit flip in a sealed segment", 10, (*World).flipSealed},
		{"leadership moved", 5, func(w *World) bool { return w.moveLeader() }},
		{"restart", 4, func(w *World) bool { return w.restartAll() }},
	}
}

// Inflict does one fault, drawn by weight, and counts it.
func (w *World) Inflict(faults []Fault) {
	total := 0
	for _, f := range faults {
		total += f.Weight
	}
	at := w.rng.IntN(total)
	for _, f := range faults {
		if at -= f.Weight; at < 0 {
			w.Log("fault: %s", f.Name)
			if f.Do(w) {
				w.Counts.Faults[f.Name]++
			}
			return
		}
	}
}

// Tally is the faults of a run or of many, one a line, by name.
func Tally(faults map[string]int) string {
	names := make([]string, 0, len(faults))
	for name := range faults {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "%-34s %9d\n", name, faults[name])
	}
	return b.String()
}

func (w *World) some() *Node { return w.nodes[w.rng.IntN(len(w.nodes))] }

// someLeader is the leader of some group that is up, or any broker.
func (w *World) someLeader() *Node {
	n := w.some()
	for i := range w.nodes {
		c := w.nodes[(int(n.id)+i)%len(w.nodes)]
		if c.up && c.leadsAny() {
			return c
		}
	}
	return n
}

func (n *Node) leadsAny() bool {
	for _, c := range n.leads {
		if c.Local && c.Group != n.parts.MetaGroup {
			return true
		}
	}
	return false
}

// shuffled are the brokers in an order drawn anew.
func (w *World) shuffled() []*Node {
	all := slices.Clone(w.nodes)
	w.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// lose ends a broker in some way; most come back by themselves, as under a supervisor.
func (n *Node) lose(how func(*Node)) bool {
	if !n.up {
		return false
	}
	how(n)
	if n.w.percent(80) {
		n.bootLater(n.w.between(100e6, 4e9))
	}
	return true
}

// absent ends a broker for so long that the others are segments ahead when it is back.
func (n *Node) absent(d int64) bool {
	if !n.up {
		return false
	}
	n.Kill()
	n.bootLater(d)
	return true
}

// filling ends one end of a fill that has just begun, in its middle, if that was armed.
func (w *World) filling(receiver, source uint64) {
	if !w.cutFill || w.calm {
		return
	}
	w.cutFill = false
	n := w.Node([]uint64{receiver, source}[w.rng.IntN(2)])
	inc := n.incarnation
	w.After(w.between(0, 800e6), func() {
		if !n.up || n.incarnation != inc || w.calm {
			return
		}
		w.Log("node %d ends while node %d is filled from node %d", n.id, receiver, source)
		w.Counts.Faults["end of a fill"]++
		n.lose([]func(*Node){(*Node).Kill, (*Node).Crash}[w.rng.IntN(2)])
	})
}

func (w *World) loseAll(count int, how func(*Node)) bool {
	done := false
	for _, n := range w.shuffled()[:count] {
		done = n.lose(how) || done
	}
	return done
}

// crashHard is a power cut that keeps nothing but what was synced.
func (n *Node) crashHard() {
	n.w.Log("node %d power cut, nothing unsynced is kept", n.id)
	n.w.Counts.PowerCuts++
	synced := n.fs.Synced()
	n.stop()
	n.fs = synced
}

// bootLater starts the broker after a while unless it runs then. A boot that an injected fault stops is tried again.
func (n *Node) bootLater(delay int64) {
	n.w.After(delay, func() { n.boot() })
}

func (n *Node) boot() {
	if n.up || n.w.calm {
		return
	}
	if err := n.Boot(); err != nil {
		n.w.Log("node %d does not boot: %v", n.id, err)
		if !n.disk.hit && !n.disk.full {
			n.w.Break("node %d does not boot although its disk is well: %v", n.id, err)
			return
		}
		n.bootLater(n.w.between(500e6, 2e9))
	}
}

func (w *World) restartAll() bool {
	done := false
	for _, n := range w.nodes {
		if !n.up {
			n.boot()
			done = true
		}
	}
	return done
}

func (n *Node) pauseFor(d int64) bool {
	if !n.up || n.paused {
		return false
	}
	n.Pause()
	inc := n.incarnation
	n.w.After(d, func() {
		if n.incarnation == inc && n.up {
			n.Resume()
		}
	})
	return true
}

func (w *World) pause(count int) bool {
	done := false
	for _, n := range w.shuffled()[:count] {
		done = n.pauseFor(w.between(100e6, 5e9)) || done
	}
	return done
}

// healLater restores all links after a while.
func (w *World) healLater() bool {
	if w.percent(70) {
		w.After(w.between(200e6, 5e9), w.Heal)
	}
	return true
}

func (w *World) isolateLeader() bool {
	w.Isolate(w.someLeader().id)
	return w.healLater()
}

func (w *World) deafOrMute() bool {
	n, deaf := w.some(), w.percent(50)
	for _, o := range w.nodes {
		if deaf {
			w.Cut(o.id, n.id)
		} else {
			w.Cut(n.id, o.id)
		}
	}
	return w.healLater()
}

// side is a random part of the brokers, neither empty nor all.
func (w *World) side() map[uint64]bool {
	side := map[uint64]bool{}
	for _, n := range w.shuffled()[:1+w.rng.IntN(len(w.nodes)-1)] {
		side[n.id] = true
	}
	return side
}

// flap cuts and restores both directions between two brokers, times times.
func (w *World) flap(a, b uint64, times int) {
	if times == 0 || w.calm || a == b {
		return
	}
	l, back := link{a, b}, link{b, a}
	if w.cuts[l] {
		delete(w.cuts, l)
		delete(w.cuts, back)
	} else {
		w.cuts[l], w.cuts[back] = true, true
	}
	w.After(w.between(20e6, 400e6), func() { w.flap(a, b, times-1) })
}

func (w *World) slowLink() bool {
	l := link{w.some().id, w.some().id}
	w.slow[l] = w.between(10e6, 800e6)
	w.Log("link %d->%d slow by up to %d ms", l.from, l.to, w.slow[l]/1e6)
	return w.healLater()
}

// dropAnswers loses half of the answers to single requests for a while.
func (w *World) dropAnswers() bool {
	w.opts.AnswerLossPercent = 50
	w.After(w.between(500e6, 4e9), func() { w.opts.AnswerLossPercent = 0 })
	return true
}

// lossBurst loses a third of all frames for a while.
func (w *World) lossBurst() bool {
	old := w.opts.LossPercent
	if old > 10 {
		return false
	}
	w.opts.LossPercent = 30
	w.After(w.between(500e6, 4e9), func() { w.opts.LossPercent = old })
	return true
}

const hourMs = 3_600_000

func (n *Node) stepClock() bool {
	step := []int64{hourMs, -hourMs, 60_000, -60_000, 5_000, -5_000}[n.w.rng.IntN(6)]
	n.clock.offset += step
	n.w.Log("node %d: clock steps by %d ms", n.id, step)
	return true
}

func (n *Node) bendClock() bool {
	n.clock.setRate(n.w.now, []int64{10, 50, 100, 100, 200, 1000}[n.w.rng.IntN(6)])
	n.w.Log("node %d: clock runs at %d percent", n.id, n.clock.rate)
	return true
}

func (n *Node) slowDisk() bool {
	n.disk.slow = n.w.between(20e6, 1500e6)
	n.w.Log("node %d: disk slower by up to %d ms", n.id, n.disk.slow/1e6)
	n.w.After(n.w.between(500e6, 5e9), func() { n.disk.slow = 0 })
	return true
}

func (n *Node) fillDisk() bool {
	n.disk.setFull(true)
	n.w.Log("node %d: disk full", n.id)
	n.w.After(n.w.between(500e6, 5e9), func() {
		n.w.Log("node %d: disk has room", n.id)
		n.disk.setFull(false)
		n.boot()
	})
	return true
}

// crowd leaves so many brokers less room than their reserve for a while. None of them may end for that.
func (w *World) crowd(count int) bool {
	for _, n := range w.shuffled()[:count] {
		n.disk.setRoom(w.opts.DiskReserve * w.between(70, 95) / 100)
		w.Log("node %d: disk at its reserve", n.id)
		w.After(w.between(500e6, 5e9), func() {
			w.Log("node %d: disk has room", n.id)
			n.disk.setFull(false)
		})
	}
	return true
}

// armDisk fails one of the next calls of the disk.
func (n *Node) armDisk() bool {
	op := []vfs.Op{vfs.OpSync, vfs.OpSync, vfs.OpWrite, vfs.OpSyncDir, vfs.OpRename, vfs.OpRead, vfs.OpCreate, vfs.OpTruncate}[n.w.rng.IntN(8)]
	n.disk.armed = append(n.disk.armed, diskFault{op: op, skip: n.w.rng.IntN(10)})
	n.w.After(n.w.between(3e9, 8e9), func() { n.boot() })
	return true
}

// flipSealed turns one bit of a sealed segment of a group, always on the same broker of a run: a minority. What the broker has in
// memory stays right; reading the file again finds it.
func (w *World) flipSealed() bool {
	n := w.doomed()
	if !n.seat.joined || n.stray || n.seat.lost > 0 && !w.whole(n) {
		return false // what else it held is lost already
	}
	groups, err := n.fs.List(dataDir + "/groups")
	if err != nil || len(groups) == 0 {
		return false
	}
	group := groups[w.rng.IntN(len(groups))]
	dir := dataDir + "/groups/" + group
	names, err := n.fs.List(dir)
	if err != nil {
		return false
	}
	logs := slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, ".log") })
	sealed := slices.DeleteFunc(slices.Clone(logs), func(name string) bool {
		_, _, err := n.fs.Stat(dir + "/" + strings.TrimSuffix(name, ".log") + ".state")
		return err != nil || name == logs[len(logs)-1]
	})
	if len(sealed) == 0 {
		return false
	}
	name := dir + "/" + sealed[w.rng.IntN(len(sealed))]
	size, _, err := n.fs.Stat(name)
	if err != nil || size <= segmentHead {
		return false
	}
	off := segmentHead + w.rng.Int64N(size-segmentHead)
	mask := byte(1) << w.rng.IntN(8)
	if err := n.fs.Corrupt(name, off, mask); err != nil {
		return false
	}
	w.victim = n
	w.rot = append(w.rot, rotten{name, off, mask})
	w.Log("node %d: bit of byte %d in %s turned", n.id, off, name)
	return true
}

// doomed is the one broker of a run whose files rot or are lost: a minority.
func (w *World) doomed() *Node { return w.nodes[w.opts.Seed%uint64(len(w.nodes))] }

// rotten is a bit that was turned.
type rotten struct {
	file string
	off  int64
	mask byte
}

// segmentHead is the header of a segment's file. It is rebuilt from the segment before, unless that is damaged too: then the whole log
// is refused, which is a case of its own (TestSimDamage...).
const segmentHead = 128

// moveLeader asks the leader of a group to hand over.
func (w *World) moveLeader() bool {
	n := w.someLeader()
	if !n.up {
		return false
	}
	for _, g := range n.groups() {
		if n.leads[g].Local {
			n.Request(partition.Request{Op: partition.OpTransfer, Group: g, Deadline: w.now + 1e9}, func(partition.Reply) {})
			return true
		}
	}
	return false
}

// groups are the groups whose leaders a broker has heard of, in order.
func (n *Node) groups() []partition.GroupID {
	all := make([]partition.GroupID, 0, len(n.leads))
	for g := range n.leads {
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b partition.GroupID) int { return slices.Compare(a[:], b[:]) })
	return all
}

// Calm ends all faults: what is down stays down, what is cut stays cut, but nothing new happens. Recover and Heal do the rest.
func (w *World) Calm(base Options) {
	w.calm = true
	w.opts.LossPercent, w.opts.AnswerLossPercent, w.opts.StreamBreakPermille = base.LossPercent, 0, 0
	for _, n := range w.nodes {
		n.endStray()
		n.disk.heal()
	}
}

// Recover brings one broker back: up, awake, with a good disk and a steady clock.
func (n *Node) Recover() error {
	n.Resume()
	n.disk.heal()
	n.clock.setRate(n.w.now, 100)
	if n.up && (n.quarantined() || n == n.w.victim) {
		n.Kill() // an operator restarts a broker that could not open everything, or whose files nobody has read since they rotted
	}
	return n.Boot()
}

// quarantined reports whether this start of the broker could not open a group.
func (n *Node) quarantined() bool {
	for i := range n.parts.Recovered {
		if n.parts.Recovered[i].Err != nil {
			return true
		}
	}
	return false
}
