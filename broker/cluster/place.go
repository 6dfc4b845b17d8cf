package cluster

import "slices"

// load is how much a broker carries: what placement evens out.
type load struct {
	broker            *Broker
	leaders, replicas int
}

// place puts new partitions [from, to) of a topic on the registered brokers: each partition's preferred leader on the broker that leads
// least, its other replicas on those that hold least. Equal loads are decided by replicas held, then by node id.
func (s *State) place(seed ID, from, to int32, replication int, born Settings) []Partition {
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
	}
	return list
}

func (s *State) assign(p *Partition, l *load) {
	p.Replicas = append(p.Replicas, Replica{ID: s.nextReplica, NodeID: l.broker.NodeID, Dir: l.broker.DirID})
	s.nextReplica++
	l.replicas++
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

func (s *State) loads() []*load {
	loads := make([]*load, len(s.brokers))
	for i := range s.brokers {
		loads[i] = &load{broker: &s.brokers[i]}
	}
	for _, t := range s.topics {
		for i := range t.Partitions {
			for j, r := range t.Partitions[i].Replicas {
				at, ok := findBroker(s.brokers, r.NodeID)
				if !ok {
					continue
				}
				loads[at].replicas++
				if j == 0 {
					loads[at].leaders++
				}
			}
		}
	}
	return loads
}
