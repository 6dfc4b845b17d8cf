package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"lograft/broker/cluster"
	"lograft/broker/engine"
	"lograft/broker/partition"
	"lograft/segment"
	"lograft/segment/journal"
)

// moves stands in for the metadata: it tells every broker again and again who shall be in a group, and notes what leaders report.
type moves struct {
	w       *World
	part    *cluster.Partition
	want    partition.Membership
	stopped bool
}

// newMoves begins with the replicas that a partition was born with.
func newMoves(w *World, part *cluster.Partition) *moves {
	m := &moves{w: w, part: part, want: partition.Membership{Version: 1 << 40}}
	for _, r := range part.Replicas {
		m.want.Peers = append(m.want.Peers, partition.Peer{ReplicaID: r.ID, Node: r.NodeID})
		m.want.Voters = append(m.want.Voters, r.ID)
	}
	m.tell()
	return m
}

func (m *moves) tell() {
	if m.stopped {
		return
	}
	for _, n := range m.w.nodes {
		if n.up && n.Replica(m.part.Group) != nil {
			n.postGroup(m.part.Group, engine.Event{Members: &engine.GroupMembers{Group: m.part.Group, Members: m.want}})
		}
	}
	m.w.After(300e6, m.tell)
}

// join opens a replica that was not born with the group on a broker that has none: no log, no configuration. It is a peer from now on.
func (m *moves) join(t *testing.T, node, id uint64) {
	t.Helper()
	n, g := m.w.Node(node), m.part.Group
	m.want.Peers = append(slices.Clone(m.want.Peers), partition.Peer{ReplicaID: id, Node: node})
	birth := cluster.PartitionBirth{Number: m.part.Number, Settings: m.part.Born}
	for _, r := range m.part.Replicas {
		birth.Replicas = append(birth.Replicas, r)
		birth.Voters = append(birth.Voters, r.ID)
	}
	b := journal.Birth{Group: g, ReplicaID: id, Settings: append([]byte{'P'}, birth.Encode()...)}
	n.syncer.Add(&engine.SyncRequest{Births: []engine.Birth{{Birth: b}}})
	n.startSync()
	m.w.RunFor(1e9)
	log, _, err := segment.Open(segment.Options{FS: n.files(), Dir: groupPath(g), Group: segment.GroupID(g), SegmentBytes: m.part.Born.SegmentBytes,
		LimitOf: partition.SegmentLimit, TailCacheBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(m.w.rng.Uint64(), id))
	r, err := partition.New(partition.Options{Group: g, ReplicaID: id, Peers: m.want.Peers, Log: log, ElectionTicks: 10, HeartbeatTicks: 1, Rand: rng.IntN,
		CatchUpBytes: m.w.opts.CatchUpBytes, FillBytesPerTick: m.w.opts.FillBytesPerTick, BytesPerMessage: m.w.opts.MessageBytes})
	if err != nil {
		t.Fatal(err)
	}
	n.adopt(r)
}

// vote says which replicas shall vote from now on.
func (m *moves) vote(ids ...uint64) {
	m.want.Version++
	m.want.Voters = ids
	m.w.Log("wanted voters of group %x: %v", m.part.Group[:2], ids)
}

// done reports whether the group's leader, one of the wanted, has brought the configuration there.
func (m *moves) done() bool {
	n := m.w.Leader(m.part)
	if n == 0 || m.w.Node(n).Replica(m.part.Group) == nil {
		return false
	}
	conf := m.w.Node(n).Replica(m.part.Group).Node().Status().Conf
	a, b := slices.Sorted(slices.Values(conf.Voters)), slices.Sorted(slices.Values(m.want.Voters))
	return slices.Equal(a, b) && len(conf.VotersOutgoing) == 0 && len(conf.Learners) == 0
}

// idOf is the replica of a partition that a broker was born with.
func idOf(part *cluster.Partition, node uint64) uint64 {
	for _, r := range part.Replicas {
		if r.NodeID == node {
			return r.ID
		}
	}
	return 0
}

// A partition moves to a broker that never had it, and from there to others, while clients write: the new replicas are filled, vote only
// then, and hold in the end the same bytes.
func TestSimMove(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		o := fillOptions(seed)
		o.Brokers = 5
		w, topic := newCluster(t, o)
		part := &topic.Partitions[0]
		var home, away []uint64
		for _, n := range w.nodes {
			if idOf(part, n.id) != 0 {
				home = append(home, n.id)
			} else {
				away = append(away, n.id)
			}
		}
		writers := startWriters(w, topic, 600)
		w.RunFor(w.between(100e6, 3e9))
		m := newMoves(w, part)
		m.join(t, away[0], 1001)
		m.vote(idOf(part, home[0]), idOf(part, home[1]), 1001)
		if !w.RunUntil(60e9, m.done) {
			failure(t, w, seed, "the third replica was not replaced within 60 s")
		}
		m.join(t, away[1], 1002)
		m.vote(1001, 1002, idOf(part, home[1]))
		if !w.RunUntil(60e9, m.done) {
			failure(t, w, seed, "the first replica was not replaced within 60 s")
		}
		part.Replicas = []cluster.Replica{{ID: 1001, NodeID: away[0]}, {ID: 1002, NodeID: away[1]}, {ID: idOf(part, home[1]), NodeID: home[1]}}
		finishWriters(t, w, seed, writers)
		var first []got
		for _, r := range part.Replicas {
			all, err := w.ReadAll(r.NodeID, part, 30e9)
			if err != nil {
				failure(t, w, seed, "node %d: %v", r.NodeID, err)
			}
			if first == nil {
				first = all
				checkAcked(t, w, seed, part, writers, all)
			}
			if fmt.Sprint(all) != fmt.Sprint(first) {
				failure(t, w, seed, "node %d differs", r.NodeID)
			}
		}
		m.stopped = true
	}
}

// A replica that can't be reached gets no vote, whatever the metadata wants: with a broker down besides, the group could commit nothing
// any more. It is a voter once it keeps up.
func TestSimNoVoteBeforeCatchUp(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		o := fillOptions(seed)
		o.Brokers = 4
		w, topic := newCluster(t, o)
		part := &topic.Partitions[0]
		var home []uint64
		away := uint64(0)
		for _, n := range w.nodes {
			if idOf(part, n.id) != 0 {
				home = append(home, n.id)
			} else {
				away = n.id
			}
		}
		writers := startWriters(w, topic, 400)
		m := newMoves(w, part)
		m.join(t, away, 1001)
		w.Isolate(away)
		m.vote(idOf(part, home[0]), idOf(part, home[1]), 1001)
		for range 20 {
			w.RunFor(500e6)
			l := w.Leader(part)
			if l == 0 {
				continue
			}
			if conf := w.Node(l).Replica(part.Group).Node().Status().Conf; slices.Contains(conf.Voters, 1001) {
				failure(t, w, seed, "replica 1001 hears nothing and votes: %+v", conf)
			}
		}
		w.Node(home[0]).Kill()
		w.RunFor(5e9)
		w.Heal()
		if !w.RunUntil(60e9, m.done) {
			failure(t, w, seed, "the replica did not become a voter within 60 s with one of the others down")
		}
		boot(t, w, home[0], seed)
		finishWriters(t, w, seed, writers)
		m.stopped = true
	}
}

// At the moment at which a leader reports that a move is done, all power goes, and that leader is lost for good, as is the replica that
// was removed. The two others know for sure who votes: they elect a leader and take appends.
func TestSimSettledSurvivesALoss(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		o := DefaultOptions(seed)
		o.Brokers = 7
		w := NewWorld(o)
		if err := errors.Join(w.Start(), w.Register()); err != nil {
			failure(t, w, seed, "start: %v", err)
		}
		topic, err := w.CreateTopic("t", 1, 3)
		if err != nil {
			failure(t, w, seed, "create: %v", err)
		}
		part := &topic.Partitions[0]
		nodes := []uint64{part.Replicas[0].NodeID, part.Replicas[1].NodeID}
		gone, stays := part.Replicas[2].NodeID, map[uint64]bool{}
		for id := uint64(1); len(nodes) < 3; id++ {
			if idOf(part, id) == 0 {
				nodes = append(nodes, id)
			}
		}
		w.onSettled = func(n *Node, x partition.Settled) {
			if p := &w.view().Topics()[0].Partitions[0]; x.Group != part.Group || x.Version != p.Version || !p.Moving() {
				return
			}
			w.onSettled = nil
			w.Log("node %d reports and is lost", n.id)
			w.After(0, func() {
				for _, o := range w.nodes {
					if stays[o.id] = o != n && o.id != gone; o.up {
						o.crashHard()
					}
				}
			})
		}
		cmd := cluster.EncodeReassign(cluster.Reassign{RequestID: w.requestID(), Name: "t", Nodes: nodes})
		if _, err := w.Propose(nodes[0], cmd, 30e9); err != nil {
			failure(t, w, seed, "reassign: %v", err)
		}
		if !w.RunUntil(60e9, func() bool { return len(stays) > 0 }) {
			failure(t, w, seed, "no leader reported the move within 60 s")
		}
		w.RunFor(1e9) // nothing is on its way any more
		for _, n := range w.nodes {
			if stays[n.id] {
				boot(t, w, n.id, seed)
			}
		}
		if !w.RunUntil(30e9, func() bool { return stays[w.Leader(part)] }) {
			failure(t, w, seed, "no leader within 30 s")
		}
		done := false
		for tries := 0; !done; tries++ {
			w.appendNow(part, fmt.Sprint(tries), func(r partition.Reply) { done = r.Err == nil })
			if w.RunFor(1e9); tries == 20 {
				failure(t, w, seed, "no append within 20 s")
			}
		}
	}
}

// A transfer is answered when the replica named leads, and at its deadline with what is in the way: here the replica's broker is down.
func TestSimTransferAnswers(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		w, topic := newCluster(t, DefaultOptions(seed))
		part := &topic.Partitions[0]
		ask := func(to uint64, d int64) (answer *partition.Reply) {
			l := w.Leader(part)
			w.Node(l).Request(partition.Request{Op: partition.OpTransfer, Group: part.Group, Offset: int64(to), Deadline: w.now + d}, func(r partition.Reply) { answer = &r })
			w.RunUntil(d+1e9, func() bool { return answer != nil })
			return answer
		}
		w.RunFor(2e9)
		for _, r := range part.Replicas {
			if a := ask(r.ID, 10e9); a == nil || a.Err != nil || w.Leader(part) != r.NodeID {
				failure(t, w, seed, "transfer to node %d was answered %+v, node %d leads", r.NodeID, a, w.Leader(part))
			}
		}
		if a := ask(999, 10e9); a == nil || a.Err == nil || a.Err.Reason != partition.ReasonInvalid {
			failure(t, w, seed, "transfer to a replica that is none was answered %+v", a)
		}
		down := part.Replicas[0]
		w.Node(down.NodeID).Kill()
		w.RunFor(3e9)
		if a := ask(down.ID, 3e9); a == nil || a.Err == nil || a.Err.Reason != partition.ReasonTimeout || w.Leader(part) == 0 {
			failure(t, w, seed, "transfer to a broker that is down was answered %+v, node %d leads", a, w.Leader(part))
		}
	}
}

// A broker is away while the others write, give everything up and drop the files: when it is back, its log ends before the leader's
// begins. It is filled with what is sealed, also where nothing is, and the files are the same again.
func TestSimBehindLogStart(t *testing.T) {
	installs := 0
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		w, topic := newCluster(t, DefaultOptions(seed))
		part := &topic.Partitions[0]
		writers := startWriters(w, topic, 1_000_000)
		for range 2 {
			w.RunFor(500e6)
			victim := 1 + uint64(w.rng.IntN(3))
			w.Isolate(victim)
			w.RunFor(w.between(100e6, 2e9))
			first := w.Node(victim).Replica(part.Group).Node().BasicStatus().LastIndex
			for tries := 0; ; tries++ {
				w.trimAllNow(part)
				if l := w.Leader(part); l != 0 && l != victim && w.describe(l, part).FirstIndex > first+1 {
					break
				}
				if tries == 60 {
					failure(t, w, seed, "the leader's log does not begin behind the log of node %d, %d", victim, first)
				}
			}
			w.Heal()
			w.RunFor(1e9)
		}
		for _, p := range writers {
			p.limit = p.next // the batch in flight is the last
		}
		finishWriters(t, w, seed, writers)
		healed(t, w, seed, topic)
		checkFrom(t, w, seed, part, writers, w.describe(w.Leader(part), part).LogStart)
		quiet(w)
		for i := range topic.Partitions {
			sameSegments(t, w, seed, &topic.Partitions[i])
		}
		installs += w.Counts.Installs
	}
	if installs < len(seeds(t)) {
		t.Errorf("%d installs: too gentle", installs)
	}
}

// trimAllNow asks the leader of a partition to give up everything that is there.
func (w *World) trimAllNow(part *cluster.Partition) {
	if l := w.Leader(part); l != 0 {
		w.Node(l).Request(partition.Request{Op: partition.OpTrim, Group: part.Group, Offset: partition.TrimAll, Deadline: w.now + 2e9}, func(partition.Reply) {})
	}
	w.RunFor(500e6)
}

// describe is a replica's view of itself; zero if it does not answer within a second.
func (w *World) describe(node uint64, part *cluster.Partition) (d partition.Description) {
	answered := false
	w.Node(node).Request(partition.Request{Op: partition.OpDescribe, Group: part.Group, Deadline: w.now + 1e9}, func(r partition.Reply) {
		if answered = true; r.Describe != nil {
			d = *r.Describe
		}
	})
	w.RunUntil(1e9, func() bool { return answered })
	return d
}
