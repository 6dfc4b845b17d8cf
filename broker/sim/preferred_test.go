package sim

import "testing"

// A broker that was away leads again what it leads by preference, by itself, once everything is caught up; not while another replica of
// the group is away, and never if that is switched off. Clients that write meanwhile lose nothing.
func TestSimPreferredLeadersComeBack(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		for _, windows := range []int{0, 8} {
			o := DefaultOptions(seed)
			o.PreferWindows = windows
			w, topic := newCluster(t, o)
			at := func() (n int) {
				for i := range topic.Partitions {
					if p := &topic.Partitions[i]; w.Leader(p) == p.Replicas[0].NodeID {
						n++
					}
				}
				return n
			}
			all := len(topic.Partitions)
			home := func() bool { return at() == all }
			writers := startWriters(w, topic, 300)
			first := topic.Partitions[0].Replicas[0].NodeID
			other := topic.Partitions[0].Replicas[1].NodeID
			w.RunFor(w.between(1e9, 2e9))
			w.Node(first).Crash()
			led := func() bool { l := w.Leader(&topic.Partitions[0]); return l != 0 && l != first }
			if !w.RunUntil(20e9, led) {
				failure(t, w, seed, "nobody took over within 20 s")
			}
			leader := w.Leader(&topic.Partitions[0])
			if leader == other {
				other = topic.Partitions[0].Replicas[2].NodeID
			}
			w.Node(other).Crash()
			boot(t, w, first, seed)
			w.RunFor(5e9) // whoever leads after the crash
			leader = w.Leader(&topic.Partitions[0])
			w.RunFor(20e9)
			if l := w.Leader(&topic.Partitions[0]); l != leader {
				failure(t, w, seed, "node %d was handed leadership while node %d is away", l, other)
			}
			boot(t, w, other, seed)
			if windows == 0 {
				w.RunFor(20e9)
				if l := w.Leader(&topic.Partitions[0]); l != leader {
					failure(t, w, seed, "switched off, and node %d leads in the place of node %d", l, leader)
				}
			} else if !w.RunUntil(60e9, home) {
				failure(t, w, seed, "%d of %d partitions are led by their preferred leaders 60 s after all is well", at(), all)
			}
			finishWriters(t, w, seed, writers)
			checkAll(t, w, seed, topic, writers)
		}
	}
}
