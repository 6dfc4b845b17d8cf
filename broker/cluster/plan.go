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
// committed command deleted its topic (a tombstone), never because it is missing from a view.
func Plan(node uint64, dir ID, v *View, have []GroupHave) (actions []Action) {
	held := make(map[ID]uint64, len(have))
	for _, h := range have {
		held[h.Group] = h.ReplicaID
	}
	for _, t := range v.topics {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			for _, r := range p.Replicas {
				if r.NodeID != node || r.Dir != dir {
					continue
				}
				if _, ok := held[p.Group]; !ok {
					actions = append(actions, Action{Group: p.Group, ReplicaID: r.ID, Create: t.birth(p)})
				}
			}
		}
	}
	for i := range v.tombstones {
		if id, ok := held[v.tombstones[i].group]; ok {
			actions = append(actions, Action{Group: v.tombstones[i].group, ReplicaID: id, Delete: true})
		}
	}
	return actions
}

// Unconfirmed are the deleted groups of which this directory has not said yet that it holds nothing.
func (v *View) Unconfirmed(dir ID) (groups []ID) {
	for i := range v.tombstones {
		for _, d := range v.tombstones[i].dirs {
			if d == dir {
				groups = append(groups, v.tombstones[i].group)
			}
		}
	}
	return groups
}

func (t *Topic) birth(p *Partition) *PartitionBirth {
	b := &PartitionBirth{Topic: t.ID, Number: p.Number, Groups: t.Name == GroupsTopic, Settings: p.Born, Replicas: p.Replicas}
	for _, r := range p.Replicas {
		b.Voters = append(b.Voters, r.ID)
	}
	return b
}
