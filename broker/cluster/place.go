package cluster

import "slices"

// load is how much a broker carries: what placement evens out.
type load struct {
	broker            *Broker
	leaders, replicas int
	rack              *rackLoad // set by racksOf
}

// place puts new partitions [from, to) of a topic on the registered brokers. Before FeatureRacks, as older builds do it: each partition's preferred leader on the broker that leads
// least, its other replicas on those that hold least. Equal loads are decided by replicas held, then by node id.
func (s *State) place(index uint64, seed ID, from, to int32, replication int, born Settings) []Partition {
	if s.commands >= FeatureRacks.Since() {
		return s.placeInRacks(index, seed, from, to, replication, born)
	}
	loads := s.loads()
	list := make([]Partition, to-from)
	for i := range list {
		p, n := &list[i], from+int32(i)
		p.Number, p.Group, p.Born = n, derive(seed, "group", n), born
		slices.SortFunc(loads, func(a, b *load) int {
			return compare(a.leaders, b.leaders, a.replicas, b.replicas, int(a.broker.NodeID), int(b.broker.NodeID))
		})
		leader := loads[0]
		leader.leaders++
		s.assign(p, leader)
		rest := slices.Clone(loads[1:])
		slices.SortFunc(rest, func(a, b *load) int {
			return compare(a.replicas, b.replicas, int(a.broker.NodeID), int(b.broker.NodeID))
		})
		for _, l := range rest[:replication-1] {
			s.assign(p, l)
		}
		p.Version, p.Settled, p.Current, p.BornVoters = index, index, p.Voters, p.Voters
	}
	return list
}

// assign gives a new partition one more replica.
func (s *State) assign(p *Partition, l *load) {
	p.Voters = append(p.Voters, s.nextReplica)
	p.Replicas = append(p.Replicas, s.newReplica(l.broker.NodeID, l.broker.DirID))
	l.replicas++
}

func (s *State) newReplica(node uint64, dir ID) Replica {
	r := Replica{ID: s.nextReplica, NodeID: node, Dir: dir}
	s.nextReplica++
	return r
}

// compare orders pairs: the first pair that differs decides.
func compare(pairs ...int) int {
	for i := 0; i < len(pairs); i += 2 {
		if d := pairs[i] - pairs[i+1]; d != 0 {
			return d
		}
	}
	return 0
}

// loads are the brokers that may get replicas, by node id, with what is wanted on each: registered ones that do not leave.
func (s *State) loads() []*load {
	var loads []*load
	byNode := map[uint64]*load{}
	for i := range s.brokers {
		if b := &s.brokers[i]; s.settledSeat(b.NodeID) {
			l := &load{broker: b}
			loads, byNode[b.NodeID] = append(loads, l), l
		}
	}
	for _, t := range s.topics {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			for j, id := range p.Voters {
				r, _ := p.Replica(id)
				if l := byNode[r.NodeID]; l != nil {
					l.replicas++
					if j == 0 {
						l.leaders++
					}
				}
			}
		}
	}
	return loads
}
