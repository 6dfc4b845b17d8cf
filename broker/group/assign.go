package group

import "slices"

// settle makes the group true again after a change: new targets if who is there or what there is changed, grants of what nobody
// holds, and what each member is to be told.
func (g *Group) settle(retarget bool) {
	if retarget {
		g.retarget()
	}
	next, changed := g.Generation+1, retarget
	held := map[TP]bool{}
	for _, m := range g.Members {
		for _, h := range m.Held {
			held[h.TP] = true
		}
	}
	for _, m := range g.Members {
		for _, tp := range m.Target {
			if !held[tp] {
				held[tp] = true
				i, _ := slices.BinarySearchFunc(m.Held, tp, func(h Grant, tp TP) int { return compareTP(h.TP, tp) })
				m.Held = slices.Insert(m.Held, i, Grant{TP: tp, Since: next})
			}
		}
		told := m.told()
		waiting := len(m.Target) - len(told)
		if m.Generation == 0 || waiting != m.Waiting || !slices.Equal(told, m.Told) {
			m.Told, m.Waiting, m.Generation = told, waiting, next
			changed = true
		}
	}
	if changed {
		g.Generation = next
	}
}

// told is what the member holds and keeps.
func (m *Member) told() (list []Grant) {
	for _, h := range m.Held {
		if _, ok := slices.BinarySearchFunc(m.Target, h.TP, compareTP); ok {
			list = append(list, h)
		}
	}
	return list
}

// place is a partition while the target is computed.
type place struct {
	TP
	topic int // index in Group.Topics
	owner int // index in Group.Members, -1: none yet
}

// retarget computes every member's target: sticky (a partition stays with the member that holds it, else with the one it was meant
// for), as even as the subscriptions allow, and the same for the same state.
func (g *Group) retarget() {
	candidates := make([][]int, len(g.Topics)) // by topic: indexes of its subscribers
	for i, m := range g.Members {
		for _, name := range m.Topics {
			if t, ok := g.findTopic(name); ok {
				candidates[t] = append(candidates[t], i)
			}
		}
	}
	places, count := g.places(candidates)
	least := func(topic int) int {
		best := -1
		for _, i := range candidates[topic] {
			if best < 0 || count[i] < count[best] {
				best = i
			}
		}
		return best
	}
	for i := range places {
		if p := &places[i]; p.owner < 0 {
			if p.owner = least(p.topic); p.owner >= 0 {
				count[p.owner]++
			}
		}
	}
	even(places, count, least)
	for _, m := range g.Members {
		m.Target = nil
	}
	for i := range places {
		if p := &places[i]; p.owner >= 0 {
			g.Members[p.owner].Target = append(g.Members[p.owner].Target, p.TP)
		}
	}
}

// even moves partitions one by one from who has most to who has least. Each move makes the sum of squares of the counts smaller, so
// this ends.
func even(places []place, count []int, least func(topic int) int) {
	owned := make([][]int, len(count)) // by member: indexes of places
	order := make([]int, len(count))
	for i := range count {
		order[i] = i
	}
	for i := range places {
		if o := places[i].owner; o >= 0 {
			owned[o] = append(owned[o], i)
		}
	}
	move := func(from int) bool {
		for k := len(owned[from]) - 1; k >= 0; k-- { // from the end: the first partitions stay
			p := &places[owned[from][k]]
			to := least(p.topic)
			if count[to]+1 >= count[from] {
				continue
			}
			owned[to] = append(owned[to], owned[from][k])
			owned[from] = slices.Delete(owned[from], k, k+1)
			count[from]--
			count[to]++
			p.owner = to
			return true
		}
		return false
	}
	for {
		slices.SortStableFunc(order, func(a, b int) int { return count[b] - count[a] })
		if !slices.ContainsFunc(order, move) {
			return
		}
	}
}

// places lists every partition of the subscribed topics, in order, with the member that keeps it if there is one, and how many each
// member keeps.
func (g *Group) places(candidates [][]int) (list []place, count []int) {
	count = make([]int, len(g.Members))
	before := map[TP]int{}
	for i, m := range g.Members {
		for _, tp := range m.Target {
			before[tp] = i
		}
	}
	for i, m := range g.Members {
		for _, h := range m.Held { // who holds it goes before who was to have it
			before[h.TP] = i
		}
	}
	for t := range g.Topics {
		if len(candidates[t]) == 0 {
			continue
		}
		for n := range g.Topics[t].Partitions {
			p := place{TP: TP{Topic: g.Topics[t].Name, Partition: n}, topic: t, owner: -1}
			if i, ok := before[p.TP]; ok && slices.Contains(candidates[t], i) {
				p.owner = i
				count[i]++
			}
			list = append(list, p)
		}
	}
	return list, count
}
