package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"

	"lograft/broker/cluster"
	"lograft/broker/partition"
	"lograft/broker/sim/check"
)

// Run is one seed from birth to judgement: a cluster, the loads on it, faults for a while, then a random majority is healed and must
// serve, then all is healed and must agree.
type Run struct {
	*World
	Topic   *cluster.Topic
	History *check.History
	base    Options
	faults  []Fault
	loads   []Load
	ends    map[int32]int64 // where each partition ends after the loads, set when it is known
	starts  map[int32]int64 // and where it begins
	acks    map[int32][]int64
	unread  map[rotten]bool // turned bits that nothing read
	quit    bool            // every client has gone
}

// Result is what is left of a run.
type Result struct {
	Seed   uint64
	Err    error
	Hash   uint64 // of every step
	Now    int64  // simulated ns
	Counts Counts
	Lines  []string
}

// Draw is the world of a seed: 3 to 7 brokers, roughness as chance has it.
func Draw(seed uint64) Options {
	o := DefaultOptions(seed)
	rng := rand.New(rand.NewPCG(seed, 0xd4a3))
	o.Brokers = []int{3, 3, 3, 3, 4, 4, 5, 5, 6, 7}[rng.IntN(10)]
	o.Workers = 1 + rng.IntN(3)
	o.LossPercent, o.DupPercent = rng.IntN(4), rng.IntN(4)
	o.StreamBreakPermille = rng.IntN(6)
	o.NetDelayMax = []int64{1e6, 3e6, 20e6}[rng.IntN(3)]
	o.DiskDelayMax = []int64{1e6, 5e6, 30e6}[rng.IntN(3)]
	if rng.IntN(3) > 0 { // who is a few segments behind is sent files, slowly enough that much happens meanwhile
		o.SegmentBytes, o.TailCacheBytes, o.MessageBytes = 4<<10, 4<<10, 1<<10
		o.CatchUpBytes, o.FillBytesPerTick = 4<<10, 2<<10<<rng.IntN(4)
	}
	return o
}

// Simulate runs a seed with all faults and loads. Every step is written to steps, if it is not nil.
func Simulate(seed uint64, steps io.Writer) Result { return simulate(seed, AllFaults(), Loads, steps) }

func simulate(seed uint64, faults []Fault, loads func(*Run) []Load, steps io.Writer) Result {
	o := Draw(seed)
	r := &Run{World: NewWorld(o), base: o, faults: faults, History: check.NewHistory(), ends: map[int32]int64{}, starts: map[int32]int64{}, acks: map[int32][]int64{}, unread: map[rotten]bool{}}
	r.steps = steps
	err := r.live(loads)
	if err == nil {
		err = r.Broken()
	}
	r.tally()
	return Result{Seed: seed, Err: err, Hash: r.Trace(), Now: r.now, Counts: r.Counts, Lines: r.Lines()}
}

// phases of a run, in order. A contradiction ends it at once.
func (r *Run) live(loads func(*Run) []Load) error {
	if err := r.birth(); err != nil {
		return err
	}
	r.loads = loads(r)
	for _, l := range r.loads {
		l.Start(r)
	}
	for _, phase := range []struct {
		name string
		do   func() error
	}{
		{"the brokers suffer", r.suffer}, {"a majority is healed and must serve", r.healMajority}, {"all is healed", r.healAll},
		{"what rotted is read", r.patrol}, {"all must agree", r.settle}, {"everything is judged", r.judge}, {"the clients go", r.farewell},
	} {
		r.Log("== %s", phase.name)
		if err := phase.do(); err != nil {
			return err
		}
		if err := r.Broken(); err != nil {
			return err
		}
		if err := r.History.Broken(); err != nil {
			return err
		}
	}
	return nil
}

// topicName is the topic of the loads.
const topicName = "t"

func (r *Run) birth() error {
	if err := r.Start(); err != nil {
		return err
	}
	for _, n := range r.nodes {
		n.clock.ticks = r.between(80, 125)
	}
	if err := r.Register(); err != nil {
		return err
	}
	replication := 3
	if r.opts.Brokers >= 5 && r.percent(30) {
		replication = 5
	}
	if err := r.createRetained(); err != nil {
		return err
	}
	topic, err := r.CreateTopic(topicName, int32(1+r.rng.IntN(3)), replication)
	r.Topic = topic
	return err
}

// suffer lets the faults happen.
func (r *Run) suffer() error {
	var next func()
	next = func() {
		if r.calm || r.Broken() != nil {
			return
		}
		r.Inflict(r.faults)
		r.After(r.between(50e6, 2e9), next)
	}
	r.After(r.between(0, 2e9), next)
	r.RunFor(r.between(10e9, 40e9))
	r.Calm(r.base)
	return nil
}

// Bounds of the liveness phase: from healing to service, and to agreement.
const (
	serveMax  = int64(30e9)
	drainMax  = int64(90e9)
	settleMax = int64(60e9)
)

// healMajority brings back a random set of brokers that holds a majority of every group, and keeps the others away. Every partition
// must take an append, and every replica that is back must answer where it ends, within serveMax.
func (r *Run) healMajority() error {
	away := r.expendable()
	r.Heal()
	for _, n := range r.nodes {
		switch {
		case !away[n.id]:
			if err := n.Recover(); err != nil {
				return fmt.Errorf("node %d does not boot on a healed disk: %w", n.id, err)
			}
		case r.percent(50):
			n.Kill()
		default:
			r.Isolate(n.id)
		}
	}
	r.Log("healed all but %v", keys(away))
	from := r.now
	for i := range r.Topic.Partitions {
		p := r.current(int32(i))
		if err := r.served(p, away, from+serveMax); err != nil {
			return fmt.Errorf("C8: with %v away: %w", keys(away), err)
		}
	}
	return nil
}

// expendable is a set of brokers without which every group still has its majority.
func (r *Run) expendable() map[uint64]bool {
	away := map[uint64]bool{}
	for _, n := range r.shuffled() {
		if r.victim != nil && n != r.victim {
			continue // what is damaged may be the only thing that is missing
		}
		if !n.seat.joined {
			continue
		}
		away[n.id] = true
		for _, p := range r.mustServe() {
			if !r.spares(p, away) {
				delete(away, n.id)
				break
			}
		}
	}
	return away
}

func keys(set map[uint64]bool) (all []uint64) {
	for id := uint64(1); id <= 9; id++ {
		if set[id] {
			all = append(all, id)
		}
	}
	return all
}

// served waits until a partition takes an append and its replicas, but those away, answer where it ends.
func (r *Run) served(p *cluster.Partition, away map[uint64]bool, until int64) error {
	n, done := 0, false
	var try func()
	try = func() {
		if done || r.now > until {
			return
		}
		n++
		a := r.begin("", 0, p.Number, fmt.Sprintf("alive/%d/%d/%d", p.Number, r.now, n), noCondition)
		r.appendOnce(p, a, func(reply partition.Reply) { done = done || reply.Err == nil })
		r.After(500e6, try)
	}
	try()
	if !r.RunUntil(until-r.now, func() bool { return done }) {
		return fmt.Errorf("partition %d took no append within %d s", p.Number, serveMax/1e9)
	}
	for _, m := range r.steady(p) {
		if away[m.NodeID] || r.Node(m.NodeID) == r.victim { // what rotted there is found when it is read, and repaired (patrol)
			continue
		}
		began := r.now
		if _, err := r.ReadAll(m.NodeID, p, until-r.now+1e9); err != nil {
			if slices.Contains(r.steady(r.current(p.Number)), m) {
				return fmt.Errorf("partition %d on node %d: %w", p.Number, m.NodeID, err)
			}
			until += r.now - began // it moved away while it was asked: the others have the time that this took
		}
	}
	return nil
}

// healAll brings everything back and waits until every load has its answers.
func (r *Run) healAll() error {
	r.Heal()
	for _, n := range r.nodes {
		if err := n.Recover(); err != nil {
			return fmt.Errorf("node %d does not boot on a healed disk: %w", n.id, err)
		}
	}
	for _, l := range r.loads {
		l.Stop()
	}
	return r.drain()
}

func (r *Run) drain() error {
	if !r.RunUntil(drainMax, func() bool { return r.waiting() == "" || r.Broken() != nil }) {
		return fmt.Errorf("C8: %d s after everything is well, %s", drainMax/1e9, r.waiting())
	}
	return r.Broken()
}

func (r *Run) waiting() string {
	var all []string
	for _, l := range r.loads {
		if w := l.Waiting(); w != "" {
			all = append(all, w)
		}
	}
	return strings.Join(all, "; ")
}

// patrol reads everything on the broker whose files rotted, until nothing of it is damaged any more.
func (r *Run) patrol() error {
	if r.victim == nil {
		return nil
	}
	until := r.now + settleMax
	r.RunFor(1e9) // its replicas open
	for i := range r.Topic.Partitions {
		p := &r.Topic.Partitions[i]
		if r.victim.Replica(p.Group) == nil {
			continue
		}
		for _, err := r.ReadAll(r.victim.id, p, 30e9); err != nil; _, err = r.ReadAll(r.victim.id, p, 30e9) {
			if r.victim.Replica(p.Group) == nil {
				break // it moved away
			}
			if r.now > until {
				return fmt.Errorf("partition %d on node %d is still damaged %d s after everything is well: %w", p.Number, r.victim.id, settleMax/1e9, err)
			}
			r.RunFor(500e6)
		}
	}
	return nil
}

// settle waits until every replica of every group has applied the same and its files are the same.
func (r *Run) settle() error {
	var last error
	var look func() bool
	next := int64(0)
	look = func() bool {
		if r.now < next {
			return false
		}
		next = r.now + 500e6
		last = r.agree()
		return last == nil
	}
	if !r.RunUntil(settleMax, look) {
		return fmt.Errorf("%d s after everything is well: %w", settleMax/1e9, last)
	}
	return nil
}

// judge reads every copy to its end, lets the consumers read as far, and holds all of it against the history.
func (r *Run) judge() error {
	var copies []check.Copy
	for i := range r.Topic.Partitions {
		p := r.current(int32(i))
		for _, m := range p.Replicas {
			all, err := r.ReadAll(m.NodeID, p, 30e9)
			if err != nil {
				return fmt.Errorf("C8: partition %d on node %d: %w", p.Number, m.NodeID, err)
			}
			n := r.Node(m.NodeID)
			start := n.Replica(p.Group).LogStart()
			r.start(n, p, start, r.shown(n, p))
			c := check.Copy{Node: m.NodeID, Partition: p.Number, Start: start}
			r.starts[p.Number], r.ends[p.Number] = start, start
			for _, g := range all {
				c.Records = append(c.Records, check.Record{Offset: g.offset, Value: g.value})
				r.ends[p.Number] = g.offset + 1
			}
			copies = append(copies, c)
		}
	}
	if err := r.drain(); err != nil { // the consumers
		return err
	}
	if err := r.History.Check(copies); err != nil {
		return err
	}
	for _, l := range r.loads {
		if err := l.Check(r); err != nil {
			return err
		}
	}
	return nil
}

// acked notes when an append to a partition was acknowledged.
func (r *Run) acked(p int32) { r.acks[p] = append(r.acks[p], r.now) }
