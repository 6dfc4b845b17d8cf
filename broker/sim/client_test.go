package sim

import (
	"fmt"
	"testing"
)

// drive hands random records with keys to a producer, a few at a time, until total are given.
func drive(w *World, p *Producer, name string, total int) {
	given := 0
	var more func()
	more = func() {
		var records []*Sent
		for n := 1 + w.rng.IntN(20); n > 0 && given < total; n-- {
			given++
			records = append(records, &Sent{Key: fmt.Sprintf("%s-key-%d", name, w.rng.IntN(5)), Value: fmt.Sprintf("%s/%d", name, given)})
		}
		p.Produce("t", records...)
		if given < total {
			w.After(w.between(0, 20e6), more)
		}
	}
	more()
}

// Three brokers with their sessions, two producers and a consumer per replica run under one loop from one seed, twice: every step is
// the same.
func TestSimClientsSameTrace(t *testing.T) {
	seed := seeds(t)[0]
	t.Logf("seed %d", seed)
	if a, b := clientsRun(t, seed, false), clientsRun(t, seed, false); a != b {
		t.Fatalf("seed %d: traces %x and %x", seed, a, b)
	}
}

// The real client's cores talk to the real sessions while brokers lose power, links break and streams end: afterwards each
// acknowledged record is there once, at its offset, in order per key, and every replica returns the same.
func TestSimClients(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		clientsRun(t, seed, true)
	}
}

func clientsRun(t *testing.T, seed uint64, faults bool) uint64 {
	t.Helper()
	o := DefaultOptions(seed)
	if faults {
		o.StreamBreakPermille = 5
	}
	w, topic := newCluster(t, o)
	producers := []*Producer{w.NewProducer(), w.NewProducer()}
	for i, p := range producers {
		drive(w, p, fmt.Sprint("p", i), 400)
	}
	if faults {
		hurtFor(t, w, seed, 20e9)
	}
	done := func() bool {
		for _, p := range producers {
			if p.Waiting() > 0 || len(p.Sent) < 400 {
				return false
			}
		}
		return true
	}
	if !w.RunUntil(300e9, done) {
		failure(t, w, seed, "producers wait for %d and %d results after 300 s of simulated time", producers[0].Waiting(), producers[1].Waiting())
	}
	var first []Read
	for node := range w.nodes {
		c := w.NewConsumer(topic.Name, uint64(node+1))
		if !w.RunUntil(120e9, c.Done) || c.Err != nil {
			failure(t, w, seed, "consumer of node %d: done %t, %v", node+1, c.Done(), c.Err)
		}
		got := byPartition(c.Read, len(topic.Partitions))
		if node == 0 {
			first = got
			checkReads(t, w, seed, producers, got)
			continue
		}
		if fmt.Sprint(got) != fmt.Sprint(first) {
			failure(t, w, seed, "node 1 and node %d return different records", node+1)
		}
	}
	t.Logf("%+v", w.Counts)
	return w.Trace()
}

// byPartition puts the records of each partition together, in the order in which they came.
func byPartition(reads []Read, partitions int) (out []Read) {
	for n := range partitions {
		for _, r := range reads {
			if r.Partition == int32(n) {
				out = append(out, r)
			}
		}
	}
	return out
}

type place struct {
	partition int32
	offset    int64
}

func checkReads(t *testing.T, w *World, seed uint64, producers []*Producer, got []Read) {
	t.Helper()
	at := map[string]place{}
	next := map[int32]int64{}
	for _, r := range got {
		if _, twice := at[r.Value]; twice {
			failure(t, w, seed, "record %s is there twice", r.Value)
		}
		if r.Offset != next[r.Partition] {
			failure(t, w, seed, "partition %d: offset %d where %d is next", r.Partition, r.Offset, next[r.Partition])
		}
		next[r.Partition]++
		at[r.Value] = place{r.Partition, r.Offset}
	}
	for _, p := range producers {
		last := map[string]int64{} // by key
		for _, s := range p.Sent {
			where, there := at[s.Value]
			switch {
			case s.Result.Err != nil:
				failure(t, w, seed, "record %s ended with %v: nothing here lasts as long as the delivery timeout", s.Value, s.Result.Err)
			case !there:
				failure(t, w, seed, "record %s was acknowledged at %d/%d and is not there", s.Value, s.Result.Partition, s.Result.Offset)
			case where != place{s.Result.Partition, s.Result.Offset}:
				failure(t, w, seed, "record %s was acknowledged at %d/%d and is at %v", s.Value, s.Result.Partition, s.Result.Offset, where)
			}
			if l, ok := last[s.Key]; ok && where.offset <= l {
				failure(t, w, seed, "key %s: record %s at offset %d is behind one at %d", s.Key, s.Value, where.offset, l)
			}
			last[s.Key] = where.offset
			delete(at, s.Value)
		}
	}
	for v := range at {
		failure(t, w, seed, "record %s is there and was never sent", v)
	}
}
