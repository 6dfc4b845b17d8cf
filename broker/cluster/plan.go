package cluster

// GroupHave is a replica that a broker holds.
type GroupHave struct {
	Group     ID
	ReplicaID uint64
}

// Action is one thing that a broker must do to match a view: open a new replica (Create), or remove one (Delete).
type Action struct {
	Group     ID
	ReplicaID uint64
	Create    *PartitionBirth
	Delete    bool
}

// Plan compares what the broker with this data directory holds with what the view says. A replica is removed only because a
// committed command took it from its group: a tombstone says so, or a view that has given its id away and does not place it any more. (Ids
// are never used again, so such a view is newer than the command; the tombstone was confirmed before the replica was born from an older
// view, after a restart.) It is never removed because a view is too old to know it. A new replica of a group that is still held waits
// until the old one is gone.
func Plan(node uint64, dir ID, v *View, have []GroupHave) (actions []Action) {
	held := make(map[ID]uint64, len(have))
	for _, h := range have {
		held[h.Group] = h.ReplicaID
	}
	placed := make(map[ID]bool, len(have)) // groups whose held replica the view places here
	for _, t := range v.topics {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			for _, r := range p.Replicas {
				if r.NodeID != node || r.Dir != dir {
					continue
				}
				if id, ok := held[p.Group]; !ok {
					actions = append(actions, Action{Group: p.Group, ReplicaID: r.ID, Create: t.birth(p)})
				} else if id == r.ID {
					placed[p.Group] = true
				}
			}
		}
	}
	for i := range v.tombstones {
		t := &v.tombstones[i]
		if id, ok := held[t.group]; ok && t.dir == dir && (t.replica == id || t.replica == 0) {
			actions = append(actions, Action{Group: t.group, ReplicaID: id, Delete: true})
			placed[t.group] = true
		}
	}
	for _, h := range have {
		if !placed[h.Group] && h.ReplicaID < v.nextReplica {
			actions = append(actions, Action{Group: h.Group, ReplicaID: h.ReplicaID, Delete: true})
		}
	}
	return actions
}

// Unconfirmed are the removed replicas of which this directory has not said yet that it holds nothing.
func (v *View) Unconfirmed(dir ID) (list []GroupHave) {
	for i := range v.tombstones {
		if t := &v.tombstones[i]; t.dir == dir {
			list = append(list, GroupHave{Group: t.group, ReplicaID: t.replica})
		}
	}
	return list
}

// birth is what every replica of a partition is born with, whenever it comes: one that is not among the first voters begins empty.
func (t *Topic) birth(p *Partition) *PartitionBirth {
	return &PartitionBirth{Topic: t.ID, Number: p.Number, Groups: t.Name == GroupsTopic, Settings: p.Born, Replicas: p.Replicas, Voters: p.BornVoters}
}
