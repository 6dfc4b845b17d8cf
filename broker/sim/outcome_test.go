package sim

import (
	"fmt"
	"testing"

	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// shot is one append without a producer id, tried once.
type shot struct {
	value  string
	reply  *partition.Reply // nil: none came
	offset int64
}

// shoot appends a batch of one record through a random replica, once.
func shoot(w *World, part *cluster.Partition, value string) *shot {
	s := &shot{value: value}
	node := 1 + uint64(w.rng.IntN(len(w.nodes)))
	if l := w.Leader(part); l != 0 && w.percent(80) {
		node = l
	}
	w.append(w.Node(node), part, value, noCondition, func(r partition.Reply) {
		s.reply = &r
		s.offset = r.BaseOffset
	})
	return s
}

// What an append was answered is what became of it: acknowledged ones are there once at their offset, failed ones never, unknown ones
// at most once, while leaders lose power and links break in the middle of appends.
func TestSimOutcomes(t *testing.T) {
	var ok, failed, unknown int
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		w, topic := newCluster(t, DefaultOptions(seed))
		part := &topic.Partitions[0]
		var shots []*shot
		var fire func()
		fire = func() {
			for range 1 + w.rng.IntN(8) {
				shots = append(shots, shoot(w, part, fmt.Sprint(len(shots))))
			}
			if len(shots) < 2000 {
				w.After(w.between(0, 40e6), fire)
			}
		}
		fire()
		hurtFor(t, w, seed, 20e9)
		w.RunFor(20e9)
		all, err := w.ReadAll(1, part, 30e9)
		if err != nil {
			failure(t, w, seed, "read: %v", err)
		}
		at := map[string][]int64{}
		for _, g := range all {
			at[g.value] = append(at[g.value], g.offset)
		}
		for _, s := range shots {
			where := at[s.value]
			switch {
			case s.reply != nil && s.reply.Err == nil:
				ok++
				if len(where) != 1 || where[0] != s.offset {
					failure(t, w, seed, "record %s was acknowledged at %d and is at %v", s.value, s.offset, where)
				}
			case s.reply != nil && s.reply.Err.Outcome == partition.OutcomeFailed:
				failed++
				if len(where) > 0 {
					failure(t, w, seed, "record %s was said to have failed (%v) and is at %v", s.value, s.reply.Err, where)
				}
			default:
				unknown++
				if len(where) > 1 {
					failure(t, w, seed, "record %s was sent once and is at %v", s.value, where)
				}
			}
		}
	}
	t.Logf("%d acknowledged, %d failed, %d unknown", ok, failed, unknown)
	if n := len(seeds(t)); ok < 100*n || failed < 10*n || unknown < n {
		t.Errorf("%d acknowledged, %d failed, %d unknown: too gentle", ok, failed, unknown)
	}
}
