package broker

import (
	"sync"
	"sync/atomic"

	"lograft/broker/cluster"
	"lograft/broker/engine"
	"lograft/broker/partition"
)

// directory is what sessions look up: the applied metadata, and who leads what as far as this broker's replicas know. It is written
// by workers and read by every session.
type directory struct {
	node       uint64
	view       func() *cluster.View
	autoCreate bool

	changes atomic.Uint64 // of leads

	mu    sync.RWMutex
	leads map[partition.GroupID]partition.LeaderChange

	// [producerNext, producerEnd) are ids of this broker's block that were not handed out.
	producerNext, producerEnd int64
}

func newDirectory(node uint64, view func() *cluster.View, autoCreate bool) *directory {
	return &directory{node: node, view: view, autoCreate: autoCreate, leads: map[partition.GroupID]partition.LeaderChange{}}
}

// NodeID is this broker's node id.
func (d *directory) NodeID() uint64 { return d.node }

// View is the metadata that this broker has applied: immutable.
func (d *directory) View() *cluster.View { return d.view() }

// Leader is who leads a group as far as a replica here knows; zero if there is none here or none is known.
func (d *directory) Leader(g partition.GroupID) (node, replica uint64, epoch int32) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	c := d.leads[g]
	return c.LeaderNode, c.Leader, int32(c.Term)
}

// Changes implements rpc.Directory.
func (d *directory) Changes() uint64 { return d.changes.Load() }

// AutoCreate implements rpc.Directory.
func (d *directory) AutoCreate() bool { return d.autoCreate }

// TakeProducerID implements rpc.Directory.
func (d *directory) TakeProducerID() (id int64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.producerNext == d.producerEnd {
		return 0, false
	}
	d.producerNext++
	return d.producerNext - 1, true
}

// AddProducerIDs implements rpc.Directory. What is left of the old block is never handed out.
func (d *directory) AddProducerIDs(first int64, count int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.producerNext, d.producerEnd = first, first+int64(count)
}

// update takes what the workers' replicas believe; an older term never replaces a newer one.
func (d *directory) update(changes []partition.LeaderChange) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changes.Add(1)
	for _, c := range changes {
		if old, ok := d.leads[c.Group]; !ok || c.Term >= old.Term {
			d.leads[c.Group] = c
		}
	}
}

func (d *directory) forget(groups []partition.GroupID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range groups {
		delete(d.leads, g)
	}
}

// led counts the groups with a replica here, those that this broker leads and those without a known leader.
func (d *directory) led() (all, mine, leaderless int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, c := range d.leads {
		all++
		switch {
		case c.Leader == 0:
			leaderless++
		case c.Local:
			mine++
		}
	}
	return all, mine, leaderless
}

// split sorts requests to the workers that own their groups, keeping the order per worker.
func split(reqs []partition.Request, workers int, post func(worker int, ev engine.Event)) {
	if workers == 1 {
		post(0, engine.Event{Requests: reqs})
		return
	}
	byWorker := make([][]partition.Request, workers)
	for i := range reqs {
		w := engine.WorkerOf(reqs[i].Group, workers)
		byWorker[w] = append(byWorker[w], reqs[i])
	}
	for w, rs := range byWorker {
		if len(rs) > 0 {
			post(w, engine.Event{Requests: rs})
		}
	}
}
