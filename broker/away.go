package broker

import (
	"slices"
	"time"

	"lograft/broker/cluster"
)

// awayAfter is how many election timeouts a broker is not reached before it counts as away.
const awayAfter = 10

// absent is since when the metadata group's leader has not reached each broker. The goroutine of register owns it.
type absent map[uint64]time.Time

// away are the brokers that shall count as away, by node id: not reached for long, or away already and still not reached. changed says
// that the metadata says otherwise. Only the metadata group's leader judges; others forget what they saw.
func (a absent) away(v *cluster.View, leads bool, up func(node uint64) bool, now time.Time, patience time.Duration) (nodes []uint64, changed bool) {
	if !leads {
		clear(a)
		return nil, false
	}
	for _, b := range v.Brokers() {
		since, missing := a[b.NodeID]
		switch {
		case up(b.NodeID):
			delete(a, b.NodeID)
			changed = changed || b.Away
			continue
		case !missing:
			since = now
			a[b.NodeID] = now
		}
		if gone := now.Sub(since) >= patience; b.Away || gone {
			nodes = append(nodes, b.NodeID)
			changed = changed || !b.Away
		}
	}
	for node := range a { // each is judged alone
		if _, ok := v.BrokerByID(node); !ok {
			delete(a, node)
		}
	}
	slices.Sort(nodes)
	return nodes, changed
}

// awayCommand says which brokers are away, where the metadata does not know it yet; nil if it does.
func (n *node) awayCommand(v *cluster.View) []byte {
	if ok, _, _ := v.Allows(cluster.FeatureRacks); !ok {
		return nil
	}
	leader, _, _ := n.dir.Leader(n.parts.MetaGroup)
	up := func(node uint64) bool { return node == n.opts.NodeID || n.mesh.Up(node) }
	nodes, changed := n.absent.away(v, leader == n.opts.NodeID, up, time.Now(), awayAfter*n.opts.ElectionTimeout)
	if !changed {
		return nil
	}
	return cluster.EncodeSetAway(cluster.SetAway{RequestID: randomID(), Nodes: nodes})
}
