package cluster

import (
	"slices"
	"strconv"
)

// Where replicas go, from FeatureRacks on: never to a broker that is away while another one can take them, then to a rack that has none
// of the partition's (Kafka's broker.rack), then to the rack and the broker that hold least. A broker that names no rack is one by itself.

// rackBytesMax bounds a rack's name.
const rackBytesMax = 249

// rackOf is the broker's rack, no other broker's if it names none.
func rackOf(b *Broker) string {
	if b.Rack != "" {
		return "rack " + b.Rack
	}
	return "node " + strconv.FormatUint(b.NodeID, 10)
}

// rackLoad is what the brokers of a rack that are here hold together.
type rackLoad struct{ brokers, replicas int }

// racksOf sums loads up by rack. Its order is never looked at.
func racksOf(loads []*load) map[string]*rackLoad {
	racks := map[string]*rackLoad{}
	for _, l := range loads {
		name := rackOf(l.broker)
		if racks[name] == nil {
			racks[name] = &rackLoad{}
		}
		if l.rack = racks[name]; !l.broker.Away {
			l.rack.brokers++
			l.rack.replicas += l.replicas
		}
	}
	return racks
}

// take notes one replica more.
func (l *load) take() {
	l.replicas++
	if !l.broker.Away {
		l.rack.replicas++
	}
}

// compareSpots orders two places of one more replica: the better one first. sharing is how many replicas of the partition each rack has.
func compareSpots(a, b *load, sharing map[string]int) int {
	return compare(btoi(a.broker.Away), btoi(b.broker.Away), sharing[rackOf(a.broker)], sharing[rackOf(b.broker)],
		a.rack.replicas*max(b.rack.brokers, 1), b.rack.replicas*max(a.rack.brokers, 1), a.replicas, b.replicas, a.leaders, b.leaders,
		int(a.broker.NodeID), int(b.broker.NodeID))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// best is the best place of those that are allowed, nil if none is.
func best(loads []*load, sharing map[string]int, allowed func(*load) bool) (found *load) {
	for _, l := range loads {
		if allowed(l) && (found == nil || compareSpots(l, found, sharing) < 0) {
			found = l
		}
	}
	return found
}

// placeInRacks puts new partitions [from, to) of a topic on brokers; the one of a partition's that leads least is its preferred leader.
func (s *State) placeInRacks(index uint64, seed ID, from, to int32, replication int, born Settings) []Partition {
	loads := s.loads()
	racksOf(loads)
	list := make([]Partition, to-from)
	for i := range list {
		p, n := &list[i], from+int32(i)
		p.Number, p.Group, p.Born = n, derive(seed, "group", n), born
		sharing := map[string]int{}
		var chosen []*load
		for range replication {
			l := best(loads, sharing, func(l *load) bool { return !slices.Contains(chosen, l) })
			l.take()
			sharing[rackOf(l.broker)]++
			chosen = append(chosen, l)
		}
		leader := slices.MinFunc(chosen, func(a, b *load) int {
			return compare(btoi(a.broker.Away), btoi(b.broker.Away), a.leaders, b.leaders, a.replicas, b.replicas, int(a.broker.NodeID), int(b.broker.NodeID))
		})
		leader.leaders++
		chosen = slices.Insert(slices.DeleteFunc(chosen, func(l *load) bool { return l == leader }), 0, leader)
		for _, l := range chosen {
			p.Voters = append(p.Voters, s.nextReplica)
			p.Replicas = append(p.Replicas, s.newReplica(l.broker.NodeID, l.broker.DirID))
		}
		p.Version, p.Settled, p.Current, p.BornVoters = index, index, p.Voters, p.Voters
	}
	return list
}

// sharing counts the replicas of a partition in each rack, but for one of them; added are those that it does not have yet.
func (s *State) sharing(p *Partition, voters []uint64, added []Replica, but int) map[string]int {
	count := map[string]int{}
	for i, id := range voters {
		if i == but {
			continue
		}
		r, ok := p.Replica(id)
		if at := slices.IndexFunc(added, func(a Replica) bool { return a.ID == id }); !ok && at >= 0 {
			r = added[at]
		}
		if at, ok := findBroker(s.brokers, r.NodeID); ok {
			count[rackOf(&s.brokers[at])]++
		}
	}
	return count
}

// free reports whether a broker may get a replica of a partition: it is here, has none, and has removed the one that it had.
func (s *State) free(p *Partition, l *load) bool {
	_, buried := findTombstone(s.tombstones, p.Group, l.broker.DirID)
	return !l.broker.Away && !buried && !slices.ContainsFunc(p.Replicas, func(r Replica) bool { return r.NodeID == l.broker.NodeID })
}

// spreadOne starts the move of one replica that shares its rack, while another rack has none of its partition's and a broker for it.
func (s *State) spreadOne(index uint64, loads []*load) bool {
	for _, t := range s.topics {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			if p.Moving() {
				continue
			}
			sharing := s.sharing(p, p.Voters, nil, -1)
			target := best(loads, sharing, func(l *load) bool { return sharing[rackOf(l.broker)] == 0 && s.free(p, l) })
			if at := s.crowded(p, sharing, loads); target != nil && at >= 0 {
				s.move(index, movingRef{t.ID, p.Number}, p, at, target.broker)
				return true
			}
		}
	}
	return false
}

// crowded is the voter that should leave a rack which has several: not the preferred leader if that can be, then that of the broker that
// holds most; -1 if each has a rack for itself.
func (s *State) crowded(p *Partition, sharing map[string]int, loads []*load) (at int) {
	at = -1
	most := 0
	for i, id := range p.Voters {
		r, _ := p.Replica(id)
		b, ok := findBroker(s.brokers, r.NodeID)
		if !ok || sharing[rackOf(&s.brokers[b])] < 2 {
			continue
		}
		holds := 0
		for _, l := range loads {
			if l.broker.NodeID == r.NodeID {
				holds = l.replicas
			}
		}
		if at <= 0 || holds > most {
			at, most = i, holds
		}
	}
	return at
}

// keepsRacks reports whether moving a partition's voter to a broker makes no more replicas share a rack.
func (s *State) keepsRacks(p *Partition, at int, to *Broker) bool {
	if s.commands < FeatureRacks.Since() {
		return true
	}
	r, _ := p.Replica(p.Voters[at])
	from, ok := findBroker(s.brokers, r.NodeID)
	sharing := s.sharing(p, p.Voters, nil, at)
	return sharing[rackOf(to)] == 0 || ok && sharing[rackOf(to)] <= sharing[rackOf(&s.brokers[from])]
}

// move starts the move of one voter of a partition at rest to a broker.
func (s *State) move(index uint64, ref movingRef, p *Partition, at int, to *Broker) {
	r, isNew, _ := s.spot(p, to.NodeID, to.DirID)
	voters := slices.Clone(p.Voters)
	voters[at] = r.ID
	if isNew {
		s.want(index, ref, voters, r)
	} else {
		s.want(index, ref, voters)
	}
}

// SetAway says which brokers are away: they can't be reached, and get no replica that another one can take. A broker that registers is
// here.
type SetAway struct {
	RequestID ID
	Nodes     []uint64
}

// EncodeSetAway makes the command's bytes. Proposed from FeatureRacks on.
func EncodeSetAway(c SetAway) []byte {
	w := newCommand(kindSetAway, c.RequestID)
	w.ids(c.Nodes)
	return w.Data()
}

func (s *State) setAway(index uint64, nodes []uint64) Result {
	list, changed := slices.Clone(s.brokers), false
	for i := range list {
		if away := slices.Contains(nodes, list[i].NodeID); away != list[i].Away {
			list[i].Away, changed = away, true
		}
	}
	if changed {
		s.brokers = list
		s.changed(index)
		s.advance(index) // replicas may have waited for one that is here again
	}
	return Result{}
}
