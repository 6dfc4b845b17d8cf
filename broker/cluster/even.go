package cluster

import "slices"

// evenOut starts moves from the brokers that hold most to those that hold least, until no two of them differ by more than one replica;
// then it does so for preferred leaders, which costs no move, and the rebalance is over. Every step lowers the sum of the squares of the
// loads, so it ends.
func (s *State) evenOut(index uint64) {
	for len(s.moving) < MovesMax {
		loads := s.loads()
		if s.commands >= FeatureRacks.Since() {
			if racksOf(loads); s.spreadOne(index, loads) {
				continue
			}
			loads = slices.DeleteFunc(loads, func(l *load) bool { return l.broker.Away })
		}
		slices.SortFunc(loads, func(a, b *load) int {
			return compare(b.replicas, a.replicas, int(a.broker.NodeID), int(b.broker.NodeID))
		})
		if !s.moveOne(index, loads) {
			break
		}
	}
	if len(s.moving) > 0 {
		return
	}
	s.evenLeaders(index)
	s.rebalancing = false
	s.changed(index)
}

// moveOne moves one replica between two brokers whose loads differ by two or more. loads are sorted, the highest first.
func (s *State) moveOne(index uint64, loads []*load) bool {
	for _, from := range loads {
		for j := len(loads) - 1; j >= 0 && from.replicas-loads[j].replicas >= 2; j-- {
			to := loads[j].broker
			ref, at, ok := s.movable(from.broker.NodeID, to)
			if !ok {
				continue
			}
			s.move(index, ref, s.partition(ref), at, to)
			return true
		}
	}
	return false
}

// movable finds a partition at rest that has a voter on one broker and can get one on the other; the first one that the former does not
// lead by preference, else the first one.
func (s *State) movable(from uint64, to *Broker) (ref movingRef, at int, ok bool) {
	for _, t := range s.topics {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			here, there := -1, false
			for j, id := range p.Voters {
				r, _ := p.Replica(id)
				there = there || r.NodeID == to.NodeID
				if r.NodeID == from {
					here = j
				}
			}
			_, buried := findTombstone(s.tombstones, p.Group, to.DirID)
			if here < 0 || there || p.Moving() || buried || ok && here == 0 || !s.keepsRacks(p, here, to) {
				continue
			}
			ref, at, ok = movingRef{t.ID, p.Number}, here, true
			if here > 0 {
				return ref, at, true
			}
		}
	}
	return ref, at, ok
}

// leading is the state of evenLeaders: who leads each partition by preference, and what else could.
type leading struct {
	orders map[movingRef][]uint64 // nodes of the voters, the preferred leader first
	edges  map[[2]uint64][]movingRef
	count  map[uint64]int // leaderships by node
	nodes  []uint64       // brokers that can lead, by node id
}

// evenLeaders changes preferred leaders until no two brokers differ by more than one, or no chain of changes could bring them closer.
func (s *State) evenLeaders(index uint64) {
	l := leading{orders: map[movingRef][]uint64{}, edges: map[[2]uint64][]movingRef{}, count: map[uint64]int{}}
	for _, x := range s.loads() {
		l.nodes = append(l.nodes, x.broker.NodeID)
	}
	for _, t := range s.topics {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			var nodes []uint64
			for _, id := range p.Voters {
				r, _ := p.Replica(id)
				nodes = append(nodes, r.NodeID)
			}
			ref := movingRef{t.ID, p.Number}
			l.orders[ref] = nodes
			l.count[nodes[0]]++
			l.link(ref)
		}
	}
	for l.improve() {
	}
	for _, old := range slices.Clone(s.topics) {
		t := *old
		t.Partitions = slices.Clone(t.Partitions)
		changed := false
		for i := range t.Partitions {
			p := &t.Partitions[i]
			var voters []uint64
			for _, node := range l.orders[movingRef{t.ID, p.Number}] {
				for _, id := range p.Voters {
					if r, _ := p.Replica(id); r.NodeID == node {
						voters = append(voters, id)
					}
				}
			}
			if !slices.Equal(voters, p.Voters) {
				p.Voters, p.Version, changed = voters, index, true
				s.settled(p)
			}
		}
		if changed {
			at, _ := findName(s.topics, t.Name)
			s.replaceTopic(index, at, &t)
		}
	}
}

func (l *leading) link(ref movingRef) {
	nodes := l.orders[ref]
	for _, n := range nodes[1:] {
		e := [2]uint64{nodes[0], n}
		l.edges[e] = append(l.edges[e], ref)
	}
}

// edge is a partition that the first node leads by preference and the second one could.
func (l *leading) edge(from, to uint64) (movingRef, bool) {
	e := [2]uint64{from, to}
	for list := l.edges[e]; len(list) > 0; list = list[:len(list)-1] {
		if ref := list[len(list)-1]; l.orders[ref][0] == from {
			l.edges[e] = list
			return ref, true
		}
	}
	delete(l.edges, e)
	return movingRef{}, false
}

// improve passes one leadership on, along a chain of brokers, from one that leads at least two more than the last one of the chain.
func (l *leading) improve() bool {
	order := slices.Clone(l.nodes)
	slices.SortFunc(order, func(a, b uint64) int { return compare(l.count[b], l.count[a], int(a), int(b)) })
	for _, from := range order {
		before := map[uint64]uint64{from: from}
		for queue := []uint64{from}; len(queue) > 0; queue = queue[1:] {
			x := queue[0]
			for _, y := range l.nodes {
				if _, seen := before[y]; seen {
					continue
				}
				if _, ok := l.edge(x, y); !ok {
					continue
				}
				before[y] = x
				queue = append(queue, y)
				if l.count[from]-l.count[y] >= 2 {
					for to := y; to != from; to = before[to] {
						l.pass(before[to], to)
					}
					return true
				}
			}
		}
	}
	return false
}

func (l *leading) pass(from, to uint64) {
	ref, _ := l.edge(from, to)
	nodes := slices.Clone(l.orders[ref])
	at := slices.Index(nodes, to)
	nodes[0], nodes[at] = nodes[at], nodes[0]
	l.orders[ref] = nodes
	l.count[from]--
	l.count[to]++
	l.link(ref)
}
