package sim

import (
	"encoding/binary"
	"fmt"

	"lograft/broker/cluster"
	"lograft/broker/engine"
	"lograft/broker/partition"
)

func requestEvent(q partition.Request) engine.Event {
	return engine.Event{Requests: []partition.Request{q}}
}

// Propose carries out a metadata command through broker node, as its sessions do: again with the same request id until it is
// applied.
func (w *World) Propose(node uint64, command []byte, d int64) ([]byte, error) {
	var result []byte
	finished := false
	end := w.now + d
	var try func()
	try = func() {
		if finished || w.now >= end {
			return
		}
		n := w.Node(node)
		if n.up {
			n.Request(partition.Request{Op: partition.OpPropose, Group: n.parts.MetaGroup, Command: command, Deadline: w.now + 2e9}, func(r partition.Reply) {
				if r.Err == nil && !finished {
					result, finished = r.Result, true
				}
			})
		}
		w.After(500e6, try)
	}
	try()
	if !w.RunUntil(d, func() bool { return finished }) {
		return nil, fmt.Errorf("metadata command was not applied within %d ms", d/1e6)
	}
	return result, nil
}

func (w *World) requestID() (id cluster.ID) {
	binary.LittleEndian.PutUint64(id[:], w.rng.Uint64())
	binary.LittleEndian.PutUint64(id[8:], w.rng.Uint64())
	return id
}

// Register announces every broker, as each does at its start, and raises the version of commands, as the metadata group's leader does.
func (w *World) Register() error {
	for _, n := range w.nodes {
		cmd := cluster.EncodeRegisterBroker(cluster.RegisterBroker{RequestID: w.requestID(), NodeID: n.id, DirID: n.dir, ClientAddr: address(n.id), Version: cluster.SayKnown("sim", cluster.CommandsKnown)})
		if _, err := w.Propose(n.id, cmd, 60e9); err != nil {
			return err
		}
	}
	_, err := w.Propose(1, cluster.EncodeRaiseCommands(cluster.RaiseCommands{RequestID: w.requestID(), To: cluster.CommandsKnown}), 60e9)
	return err
}

// CreateTopic creates a topic and waits until every replica of it is open and every partition has a leader.
func (w *World) CreateTopic(name string, partitions int32, replication int, config ...cluster.ConfigEntry) (*cluster.Topic, error) {
	cmd := cluster.EncodeCreateTopic(cluster.CreateTopic{RequestID: w.requestID(), Seed: w.requestID(), Name: name, Partitions: partitions, ReplicationFactor: int32(replication),
		Config: append(config, cluster.ConfigEntry{Key: "segment.bytes", Value: fmt.Sprint(w.opts.SegmentBytes)})})
	if _, err := w.Propose(1, cmd, 60e9); err != nil {
		return nil, err
	}
	var topic *cluster.Topic
	ready := func() bool {
		t, ok := w.Node(1).parts.View().TopicByName(name)
		if !ok {
			return false
		}
		topic = t
		for i := range t.Partitions {
			if !w.hasLeader(&t.Partitions[i]) {
				return false
			}
		}
		return true
	}
	if !w.RunUntil(60e9, ready) {
		return nil, fmt.Errorf("topic %s got no leaders within 60 s", name)
	}
	return topic, nil
}

func (w *World) hasLeader(p *cluster.Partition) bool { return w.Leader(p) != 0 }

// Leader is the node that believes that it leads a partition, 0 if none does.
func (w *World) Leader(p *cluster.Partition) (node uint64) {
	var term uint64
	for _, n := range w.nodes {
		if c := n.leads[p.Group]; n.up && c.Local && c.Term > term {
			node, term = n.id, c.Term
		}
	}
	return node
}

// Replica is the replica of a group on a node, nil if there is none.
func (n *Node) Replica(g partition.GroupID) (found *partition.Replica) {
	if !n.up {
		return nil
	}
	n.workers[engine.WorkerOf(g, len(n.workers))].Replicas(func(r *partition.Replica) {
		if r.Group() == g {
			found = r
		}
	})
	return found
}
