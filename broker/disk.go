package broker

import (
	"context"
	"time"

	"lograft/broker/cluster"
	"lograft/broker/engine"
	"lograft/broker/rpc"
	"lograft/segment/vfs"
)

// spaceEvery is how often a broker looks how much room its disk has.
const spaceEvery = 100 * time.Millisecond

// reserveOf is how many bytes this broker keeps free on a disk of size bytes: what was configured, or what its groups need.
func (n *node) reserveOf(size int64) int64 {
	if n.opts.DiskReserve > 0 {
		return n.opts.DiskReserve
	}
	v, inFlight := n.parts.View(), n.opts.BytesInFlight
	if inFlight == 0 {
		inFlight = rpc.BudgetBytesDefault
	}
	return engine.Reserve(groupsOn(v, n.opts.NodeID), max(1, len(v.Brokers())), inFlight, size)
}

// groupsOn counts the groups with a replica on a broker, the metadata group included.
func groupsOn(v *cluster.View, node uint64) int {
	count := 1
	for _, t := range v.Topics() {
		for i := range t.Partitions {
			for _, r := range t.Partitions[i].Replicas {
				if r.NodeID == node {
					count++
				}
			}
		}
	}
	return count
}

// watchSpace looks at the disk until ctx is done, tells the workers what room there is, and the peers at once when that changes.
func (n *node) watchSpace(ctx context.Context) {
	var watch engine.Space
	blind := false
	fs := vfs.OS()
	tick := time.NewTicker(spaceEvery)
	defer tick.Stop()
	for {
		free, size, err := fs.Space(n.data.Path())
		if err != nil && !blind {
			n.log.Warn("the free space of the data directory can't be told: appends go on until a write fails", "err", err)
		}
		blind = err != nil
		watch.Reserve = n.reserveOf(size)
		was := watch.Full()
		share := watch.Look(free, size, n.engine.Workers())
		n.engine.PostAll(engine.Event{Space: &share})
		n.reserve.Store(watch.Reserve)
		n.diskFull.Store(watch.Full())
		if watch.Full() != was {
			n.sayFull(watch.Full(), free, watch.Reserve)
			_, wall := n.now()
			n.mesh.SendClock(wall, watch.Full())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (n *node) sayFull(full bool, free, reserve int64) {
	if full {
		n.log.Error("the disk is at its reserve: appends wait where a majority has no room, everything else goes on; make room and it resumes by itself",
			"free_bytes", free, "reserve_bytes", reserve)
		return
	}
	n.log.Info("the disk has room again: appends go on", "free_bytes", free, "reserve_bytes", reserve)
}
