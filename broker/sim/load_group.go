package sim

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "lograft/api/lograft/v1"
	"lograft/broker/rpc"
	"lograft/client/core"
)

// groupName is the group of the members.
const groupName = "workers"

// groupLoad is a group that reads the run's topic while its members come, go, pause, die and lose the network, and while somebody asks
// again and again how far it is, and somebody moves it back.
type groupLoad struct {
	r       *Run
	members []*Member
	zombies []*Member // whose instance id another member has now
	born    int
	stopped bool

	owners map[ownership]string // who was told a partition in a generation
	done   map[int32]map[int64]bool
	// prefix is, by partition, below which every record was worked on by some member or given up.
	prefix map[int32]int64
	floor  map[int32]int64 // by partition: the highest committed offset that an answer named
	last   *pb.DescribeGroupResponse
	asked  int64 // when the describe that gave last was begun
	deaths int
	seek   *seek // under way: there are no members; nil: none is
	seeks  int   // beginnings and ends of seeks
}

// ownership is what belongs to one member alone.
type ownership struct {
	generation int64
	tp         core.TP
}

func newGroup() *groupLoad {
	return &groupLoad{owners: map[ownership]string{}, done: map[int32]map[int64]bool{}, prefix: map[int32]int64{}, floor: map[int32]int64{}}
}

// Bounds of the group's timeouts in the simulation.
const (
	groupSession = int64(3e9)
	groupPoll    = int64(6e9)
	membersMax   = 5
	seekPercent  = 6 // of what happens to the members
)

// Start implements Load.
func (l *groupLoad) Start(r *Run) {
	l.r = r
	for range 1 + r.rng.IntN(3) {
		l.join(l.instance())
	}
	l.churn()
	l.watch()
}

// instance is a new instance id, or none: half of the members are static.
func (l *groupLoad) instance() string {
	if l.r.percent(50) {
		return fmt.Sprintf("i%d", l.born+1)
	}
	return ""
}

func (l *groupLoad) join(instance string) {
	l.born++
	m := l.r.newMember(fmt.Sprintf("m%d", l.born), core.GroupOptions{Group: groupName, Topics: []string{topicName}, InstanceID: instance, SessionNs: groupSession, PollNs: groupPoll, CommitNs: 500e6,
		Consumer: core.ConsumerOptions{FetchBytes: 4096, BufferBytes: 16 << 10, WaitNs: 2e9, TimeoutNs: 3600e9}})
	m.took = func(p int32, offset int64, value string) { l.took(m, p, offset, value) }
	m.told = l.told
	l.members = append(l.members, m)
}

// churn does one thing to the members, and again later.
func (l *groupLoad) churn() {
	if l.stopped {
		return
	}
	r := l.r
	if r.percent(seekPercent) {
		l.beginSeek() // which goes on when members are back
		return
	}
	m := l.members[r.rng.IntN(len(l.members))]
	switch r.rng.IntN(8) {
	case 0, 1:
		if len(l.members) < membersMax {
			l.join(l.instance())
		}
	case 2:
		l.end(m, m.Kill)
		if m.instance != "" && r.percent(70) { // started again at once
			l.join(m.instance)
		}
	case 3:
		l.end(m, func() {
			m.Resume()
			m.Mend()
			m.event(&core.GroupEvent{Leave: true})
		})
	case 4, 5:
		if m.Pause(); m.instance != "" && r.percent(40) { // started a second time: the first one is fenced when it goes on
			l.end(m, func() { l.zombies = append(l.zombies, m) })
			l.join(m.instance)
		}
		if r.percent(50) { // shorter than a session, or longer
			r.After(r.between(100e6, groupSession), m.Resume)
		} else {
			r.After(r.between(groupSession, 4*groupSession), m.Resume)
		}
	case 6, 7:
		m.Cut()
		r.After(r.between(100e6, 4*groupSession), m.Mend)
	}
	r.After(r.between(100e6, 2500e6), l.churn)
}

// end takes a member out; there is always another one.
func (l *groupLoad) end(m *Member, how func()) {
	if len(l.members) == 1 {
		l.join(l.instance())
	}
	how()
	l.deaths++
	for i, x := range l.members {
		if x == m {
			l.members = append(l.members[:i], l.members[i+1:]...)
			return
		}
	}
}

// took notes that a member is done with a record. Any record may come again, none may be left out.
func (l *groupLoad) took(m *Member, p int32, offset int64, value string) {
	if l.done[p] == nil {
		l.done[p] = map[int64]bool{}
	}
	l.done[p][offset] = true
	l.advance(p)
	l.r.History.Saw(0, p, offset, value)
}

// advance moves the prefix over what was worked on, and over what somebody asked to give up.
func (l *groupLoad) advance(p int32) {
	for asked := l.r.History.AskedMax(p); l.done[p][l.prefix[p]] || l.prefix[p] < asked; {
		l.prefix[p]++
	}
}

// told checks that nobody else was told the same partition in the same generation.
func (l *groupLoad) told(m *Member) {
	g := m.core.Generation()
	for _, tp := range m.core.Owned() {
		key := ownership{g, tp}
		if other, ok := l.owners[key]; ok && other != m.name {
			l.r.Break("generation %d: %v belongs to member %s and to %s", g, tp, other, m.name)
		}
		l.owners[key] = m.name
	}
}

// watch asks a random broker how far the group is. What is committed never goes back but in a seek, whoever is asked, and is never ahead
// of what the members are done with. Only the loss of committed records may take it back besides, and in no run with loads anything is
// lost: TestSimGroupAfterLoss has that.
func (l *groupLoad) watch() {
	r := l.r
	if r.quit {
		return
	}
	floor := map[int32]int64{}
	for p, o := range l.floor {
		floor[p] = o
	}
	begun, seeks := r.now, l.seeks
	r.call(r.anyAddress(), &pb.DescribeGroupRequest{Name: groupName}, func(e *rpc.Env) rpc.Session { return rpc.NewDescribeGroup(e) }, func(out proto.Message, err *core.Error) {
		if g, ok := out.(*pb.DescribeGroupResponse); ok && err == nil {
			l.described(g, floor, begun, seeks)
		}
	})
	r.After(r.between(300e6, 2e9), l.watch)
}

func (l *groupLoad) described(g *pb.DescribeGroupResponse, floor map[int32]int64, begun int64, seeks int) {
	for _, p := range g.GetPartitions() {
		if seeks != l.seeks {
			break // from before a seek, or after it
		}
		n, at := p.GetPartition(), p.GetCommitted()
		if before, ok := floor[n]; ok && !l.allowed(n, at, before) {
			l.r.Break("group: partition %d: committed %d, an answer that came before this question named %d, seek: %+v", n, at, before, l.seek)
		}
		if l.advance(n); at > l.prefix[n] {
			l.r.Break("group: partition %d: committed %d, but record %d was given to nobody", n, at, l.prefix[n])
		}
		if at >= 0 {
			l.floor[n] = max(l.floor[n], at)
		}
	}
	if begun >= l.asked {
		l.last, l.asked = g, begun
	}
}

// Quit ends every member.
func (l *groupLoad) Quit() {
	for _, m := range l.members {
		m.Kill()
	}
}

// Stop implements Load: the members stay and have to read to the end.
func (l *groupLoad) Stop() {
	l.stopped = true
	for _, m := range l.zombies { // one whose successor was expired may be a member again
		m.Kill()
	}
	for _, m := range l.members {
		m.Mend()
		m.Resume()
	}
}

// Waiting implements Load: every record must be committed, and the group must be at rest.
func (l *groupLoad) Waiting() string {
	if l.seek != nil {
		return fmt.Sprintf("the group waits for a seek, done: %t", l.seek.done)
	}
	for _, m := range slices.Clone(l.members) {
		if m.Err != nil && m.Err.Reason == core.ReasonFencedInstance && slices.ContainsFunc(l.zombies, func(z *Member) bool { return z.instance == m.instance }) {
			// Its predecessor went on, found it expired, and joined after it: of two that run, the last one that joins counts.
			l.end(m, m.Kill)
			l.join(m.instance)
			return "a member was fenced and is started again"
		}
		if m.Err != nil {
			return fmt.Sprintf("member %s ended: %v", m.name, m.Err)
		}
	}
	for _, n := range sortedKeys(l.r.ends32()) {
		if end := l.r.ends[int32(n)]; max(l.floor[int32(n)], l.r.starts[int32(n)]) < end {
			return fmt.Sprintf("the group has committed %d of %d of partition %d", l.floor[int32(n)], end, n)
		}
	}
	if l.last == nil || l.last.GetState() != "stable" || len(l.last.GetMembers()) != len(l.members) {
		return fmt.Sprintf("the group of %d is %s with %d members", len(l.members), l.last.GetState(), len(l.last.GetMembers()))
	}
	return ""
}

// ends32 is ends with keys that can be sorted.
func (r *Run) ends32() map[int64]int64 {
	m := map[int64]int64{}
	for n, end := range r.ends {
		m[int64(n)] = end
	}
	return m
}

// Check implements Load.
func (l *groupLoad) Check(r *Run) error {
	for _, n := range sortedKeys(r.ends32()) {
		p := int32(n)
		for at := r.History.Begins(p); at < r.ends[p]; at++ {
			if !l.done[p][at] {
				return fmt.Errorf("group: record %d of partition %d, which begins at %d, was given to no member", at, p, r.History.Begins(p))
			}
		}
	}
	return nil
}
