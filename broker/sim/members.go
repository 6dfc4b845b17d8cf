package sim

import (
	"fmt"
	"slices"

	"lograft/broker"
	"lograft/broker/cluster"
	"lograft/broker/datadir"
	"lograft/broker/engine"
	"lograft/broker/partition"
	"lograft/segment/journal"
)

// What a broker does about who is in a group, as the real driver does (broker/announce.go, roster.go): it tells the metadata which groups
// led here have settled and which removed replicas are gone, learns of other brokers' replicas of the metadata group from their
// greetings, and registers an empty directory.

// seat is what a broker knows of its place and of the others'. It outlives the process, as its data directory does.
type seat struct {
	joined  bool // its directory is registered; else it asks for that before it boots
	joining bool
	lost    int // directories before this one

	roster      []partition.Peer
	rosterIndex uint64
}

// replicaKey names a replica for good.
type replicaKey struct {
	group   partition.GroupID
	replica uint64
}

// view is the newest metadata that any broker has applied.
func (w *World) view() *cluster.View { return w.newest }

func (w *World) sawView(v *cluster.View) {
	if w.newest == nil || v.Version > w.newest.Version {
		w.newest = v
	}
}

// current is a partition of the run's topic as the newest metadata has it.
func (r *Run) current(number int32) *cluster.Partition {
	t, ok := r.view().TopicByName(r.Topic.Name)
	if !ok {
		return &r.Topic.Partitions[number]
	}
	return &t.Partitions[number]
}

// copyKey tells the copies of a partition apart that a broker has had one after the other: a new one may begin before the one that was
// removed did.
func (n *Node) copyKey(g partition.GroupID) uint64 {
	return n.id + 1000*uint64(n.lives[g]) + 1_000_000*uint64(n.era)
}

// shownStart is the log start that one copy of a partition had shown when it was asked again.
type shownStart struct {
	copy  uint64
	floor int64
}

func (r *Run) shown(n *Node, p *cluster.Partition) shownStart {
	k := n.copyKey(p.Group)
	return shownStart{k, r.History.Shown(k, p.Number)}
}

// start notes the log start of an answer, unless it may be another copy's than the one that was asked.
func (r *Run) start(n *Node, p *cluster.Partition, start int64, from shownStart) {
	if n.copyKey(p.Group) == from.copy {
		r.History.Start(from.copy, p.Number, start, from.floor)
	}
}

// opened notes a replica that a broker opens: an id that was retired, or whose directory was lost, never comes back.
func (n *Node) opened(r *partition.Replica) {
	if n.stray {
		return // anything may be in it; nobody listens to it
	}
	k := replicaKey{r.Group(), r.Node().BasicStatus().ID}
	if before := n.ids[k.group]; before != k.replica {
		n.retire(k.group) // a crash came between
	}
	n.ids[k.group] = k.replica
	if n.w.retired[k] {
		n.w.Break("node %d opens replica %d of group %x, which is retired", n.id, k.replica, k.group[:2])
	}
}

// retire notes that a replica is gone for good.
func (n *Node) retire(g partition.GroupID) {
	if id := n.ids[g]; id != 0 {
		n.w.retired[replicaKey{g, id}] = true
		delete(n.ids, g)
		n.lives[g]++
	}
}

// neverAgain holds every message that is a vote, or asks for one, against what is retired.
func (n *Node) neverAgain(g partition.GroupID, from uint64) {
	if !n.stray && n.w.retired[replicaKey{g, from}] {
		n.w.Break("node %d: replica %d of group %x is retired and votes", n.id, from, g[:2])
	}
}

// announce proposes what the metadata does not know yet; again until it does.
func (n *Node) announce() {
	if n.announcing {
		return
	}
	v := n.parts.View()
	var command []byte
	if s, ok := v.Seat(n.id); !ok || s.DirID != n.dir {
		return // the metadata here is older than this broker's seat
	}
	if groups := n.parts.Controller.Unconfirmed(); len(groups) > 0 {
		command = cluster.EncodeConfirmRemoved(cluster.ConfirmRemoved{RequestID: n.w.requestID(), DirID: n.dir, Groups: groups})
	} else if list := n.settledOf(v); len(list) > 0 {
		command = cluster.EncodeSettled(cluster.SettledGroups{RequestID: n.w.requestID(), Groups: list})
	}
	if command == nil {
		return
	}
	n.announcing = true
	inc := n.incarnation
	n.after(inc, 2500e6, func() { n.announcing = false })
	n.Request(partition.Request{Op: partition.OpPropose, Group: n.parts.MetaGroup, Command: command, Deadline: n.w.now + 2e9}, func(partition.Reply) {
		if n.incarnation == inc {
			n.announcing = false
		}
	})
}

// reported takes a leader's word that a membership is in effect, and holds it against the configuration that is applied there.
func (n *Node) reported(x partition.Settled) {
	if n.w.onSettled != nil {
		n.w.onSettled(n, x)
	}
	n.settled[x.Group] = max(n.settled[x.Group], x.Version)
	n.w.Counts.Faults["membership settled"]++
	v := n.w.view()
	groups := []cluster.Partition{v.Metadata}
	for _, t := range v.Topics() {
		groups = append(groups, t.Partitions...)
	}
	for i := range groups {
		if p := &groups[i]; p.Group == x.Group && p.Version == x.Version {
			if err := asWanted(p, n.Replica(x.Group)); err != nil {
				n.w.Break("node %d reports version %d of group %x: %v", n.id, x.Version, x.Group[:2], err)
			}
		}
	}
}

// settledOf are the groups led here that the metadata waits for.
func (n *Node) settledOf(v *cluster.View) (list []cluster.Moving) {
	for _, m := range v.Moving() {
		if n.settled[m.Group] == m.Version {
			list = append(list, m)
		}
	}
	return list
}

// whole reports whether a broker's directory is the registered one and nothing is on the move: no group counts on a replica that is lost.
func (w *World) whole(n *Node) bool {
	v := w.view()
	s, ok := v.Seat(n.id)
	return ok && s.DirID == n.dir && len(v.Moving()) == 0
}

// join asks the metadata group's leader, again and again, to register this broker's empty directory; then the broker starts.
func (n *Node) join() {
	if n.seat.joining {
		return
	}
	n.seat.joining = true
	n.askToJoin(n.dir)
}

func (n *Node) askToJoin(dir cluster.ID) {
	w := n.w
	if n.dir != dir || n.seat.joined {
		return
	}
	w.After(w.between(300e6, 1500e6), func() { n.askToJoin(dir) })
	for _, l := range w.nodes {
		if !l.up || l.paused || !l.leads[l.parts.MetaGroup].Local || w.cuts[link{n.id, l.id}] || w.cuts[link{l.id, n.id}] {
			continue
		}
		s, ok := l.parts.View().Seat(n.id)
		if !ok {
			continue
		}
		birth, meta, told := l.birth, l.parts.MetaGroup, broker.SeatsOf(l.parts.View())
		cmd := cluster.EncodeJoinBroker(cluster.JoinBroker{RequestID: w.requestID(), NodeID: n.id, DirID: dir, OldDirID: s.DirID, PeerAddr: address(n.id)})
		l.Request(partition.Request{Op: partition.OpPropose, Group: meta, Command: cmd, Deadline: w.now + 2e9}, func(reply partition.Reply) {
			if reply.Err != nil || n.dir != dir || n.seat.joined {
				return
			}
			x, err := cluster.DecodeResult(reply.Result)
			if err != nil || x.Reason != cluster.ReasonNone {
				w.Log("node %d is not registered: %s %s", n.id, x.Reason, x.Message)
				return
			}
			n.registered(birth, meta, uint64(x.First), told)
		})
		return
	}
}

// registered starts a broker whose directory is registered: its replica of the metadata group is empty.
func (n *Node) registered(birth *cluster.Birth, meta partition.GroupID, replica uint64, told []datadir.Seat) {
	n.w.Log("node %d is registered with directory %x, metadata replica %d", n.id, n.dir[:4], replica)
	n.w.Counts.Faults["directory registered"]++
	n.birth, n.told = birth, told
	n.disk.restart()
	err := n.openDir()
	if err == nil {
		err = n.recordBirth(engine.Birth{Birth: journal.Birth{Group: meta, ReplicaID: replica, Settings: append([]byte{'M'}, birth.Encode()...)}})
	}
	if err == nil {
		n.seat.joined = true
		err = n.Boot()
	}
	switch {
	case err == nil:
	case !n.disk.hit && !n.disk.full:
		n.w.Break("node %d does not begin in an empty directory although its disk is well: %v", n.id, err)
	case n.seat.joined:
		n.bootLater(n.w.between(500e6, 2e9))
	}
}

// wanted reports whether the leaders have brought every group to what the newest metadata wants, and everybody knows that metadata.
func (r *Run) wanted() error {
	v := r.view()
	if m := v.Moving(); len(m) > 0 {
		return fmt.Errorf("%d groups are on the move, as group %x to version %d:%s", len(m), m[0].Group[:2], m[0].Version, r.where(m[0].Group))
	}
	for _, n := range r.nodes {
		switch {
		case !n.up:
			return fmt.Errorf("node %d is not up", n.id)
		case n.parts.View().Version != v.Version:
			return fmt.Errorf("node %d knows metadata %d of %d", n.id, n.parts.View().Version, v.Version)
		case len(v.Unconfirmed(n.dir)) > 0:
			return fmt.Errorf("node %d has not confirmed that the replica of group %x is gone", n.id, v.Unconfirmed(n.dir)[0].Group[:2])
		}
	}
	return nil
}

// where is how far the replicas of a group are, for a person to read.
func (r *Run) where(g partition.GroupID) (all string) {
	for _, n := range r.nodes {
		if replica := n.Replica(g); replica != nil {
			st := replica.Node().Status()
			all += fmt.Sprintf(" node %d: replica %d, %s, term %d, leader %d, log [%d, %d], commit %d, applied %d, %+v;", n.id, st.ID, st.SoftState.RaftState, st.HardState.Term, st.SoftState.LeaderID,
				replica.FirstIndex(), st.LastIndex, st.HardState.Commit, st.Applied, st.Conf)
		}
	}
	return all
}

// asWanted compares a replica's configuration with the wanted one.
func asWanted(p *cluster.Partition, replica *partition.Replica) error {
	conf := replica.Node().Status().Conf
	for _, c := range []struct{ got, want []uint64 }{{conf.Voters, p.Voters}, {conf.Learners, p.Learners}, {conf.VotersOutgoing, nil}, {conf.LearnersNext, nil}} {
		if got, want := slices.Sorted(slices.Values(c.got)), slices.Sorted(slices.Values(c.want)); !slices.Equal(got, want) {
			return fmt.Errorf("group %x: configuration %+v, wanted voters %v and learners %v", p.Group[:2], conf, p.Voters, p.Learners)
		}
	}
	return nil
}

// spares reports whether a group has a majority of its voters without the brokers that are away. One that is on the move spares none of
// its brokers: which configuration is in effect, only its leader knows.
func (r *Run) spares(p *cluster.Partition, away map[uint64]bool) bool {
	missing, moving := 0, p.Moving() || r.mayMove(p)
	for _, m := range p.Replicas {
		switch {
		case moving && away[m.NodeID]:
			return false
		case slices.Contains(p.Current, m.ID) && (away[m.NodeID] || r.Node(m.NodeID).dir != m.Dir):
			missing++
		}
	}
	return p.Moving() || 2*missing < len(p.Current)
}

// mayMove reports whether the admin of members has asked for what moves a group and has no answer yet: the move may begin while who has
// just gone still counts as heard (partition's majorityUp looks back up to two election timeouts).
func (r *Run) mayMove(p *cluster.Partition) bool {
	return slices.ContainsFunc(r.loads, func(l Load) bool {
		m, ok := l.(*memberLoad)
		return ok && m.busy != "" && (m.moves == partition.GroupID{} || m.moves == p.Group)
	})
}

// groups are the groups that must serve after the faults, as the newest metadata has them.
func (r *Run) mustServe() []*cluster.Partition {
	v := r.view()
	meta := v.Metadata
	all := []*cluster.Partition{&meta}
	for i := range r.Topic.Partitions {
		all = append(all, r.current(int32(i)))
	}
	return all
}

// steady are the replicas of a partition that vote now and shall go on voting, on the directories that they were made for.
func (r *Run) steady(p *cluster.Partition) (all []cluster.Replica) {
	for _, m := range p.Replicas {
		if slices.Contains(p.Current, m.ID) && slices.Contains(p.Voters, m.ID) && r.Node(m.NodeID).dir == m.Dir {
			all = append(all, m)
		}
	}
	return all
}
