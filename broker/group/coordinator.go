package group

import (
	"slices"

	"lograft/broker/partition"
)

// Options of a Coordinator.
type Options struct {
	// Metadata is what the broker knows of topics: its version changes when an answer of lookup may. nil: no topic ever changes.
	Metadata func() (version uint64, lookup func(name string) (id ID, partitions int32, ok bool))
	// OffsetsRetentionMs is how long a group without members keeps its offsets. 0: OffsetsRetentionMsDefault.
	OffsetsRetentionMs int64
}

// OffsetsRetentionMsDefault is Kafka's: 7 days after the last member left.
const OffsetsRetentionMsDefault = 7 * 24 * 3600_000

// Timing of the leader.
const (
	expireAgainNs = int64(2e9)  // an expiry that is not applied by then is proposed again
	forgetEveryNs = int64(60e9) // how often groups without members are looked at
	forgetMax     = 100         // at once
	pausedNs      = int64(1e9)  // between ticks: this broker stood still, and what members sent meanwhile was not heard
	topicsAgainNs = int64(1e9)
)

// Beat is heard from a member: it is alive. Answered at once with an Assignment.
type Beat struct {
	Group  string
	Member ID
}

// Watch waits until the member's assignment has another generation than the one named, or the member is gone.
type Watch struct {
	Group      string
	Member     ID
	Generation int64 // 0: answer at once
}

// Assignment answers Beat and Watch: what the member is told. Immutable.
type Assignment struct {
	Known      bool   // false: it is not in the group (any more)
	FencedBy   string // not Known: another member has this instance id now, which was its own
	Generation int64
	Waiting    int // partitions to come, when others have given them up
	Partitions []Assigned
}

// Assigned is a partition that a member may work on.
type Assigned struct {
	Grant
	TopicID   ID
	Committed int64 // offset to go on from; -1: none is committed
	Epoch     int32 // leader epoch of the last record before it; 0: not known
}

// List, Describe, Progress are queries: answered []Summary, a *Group (a copy; nil: there is none), and []Read of as many partitions as
// Max allows, with how many were left out.
type (
	List     struct{}
	Describe struct{ Group string }
	Progress struct{ Max int }
)

// Reads answers Progress.
type Reads struct {
	List    []Read
	LeftOut int
}

// Read is how far a group has read a partition of its topics.
type Read struct {
	Group   string
	Members int
	TP
	TopicID   ID
	Committed int64 // -1: nothing
}

// Summary is a group in a list.
type Summary struct {
	Name, State string
	Members     int
	Generation  int64
}

// live is what the leader alone knows of a member.
type live struct {
	heard    int64 // monotonic ns
	withheld int64 // since when the member holds what was withdrawn; 0: nothing
	expiring int64 // when its expiry was proposed last; 0: never
}

type watcher struct {
	from, token uint64
	member      ID
	generation  int64
}

// Coordinator is the state machine of one partition of the internal topic and, on its leader, who keeps the members alive. It
// implements partition.Coordinator.
type Coordinator struct {
	opts  Options
	state *State

	leads    bool
	now      int64
	tickedAt int64
	live     map[string]map[ID]*live // by group and member
	watchers map[string][]watcher    // by group, in the order of asking

	metadata   uint64 // version that the groups were last compared with
	compare    bool   // they must be compared again
	comparedAt int64
	forgotAt   int64

	answers  []partition.Answer
	commands [][]byte
}

// NewCoordinator makes the machine of a partition without groups.
func NewCoordinator(o Options) *Coordinator {
	if o.OffsetsRetentionMs == 0 {
		o.OffsetsRetentionMs = OffsetsRetentionMsDefault
	}
	return &Coordinator{opts: o, state: NewState(), live: map[string]map[ID]*live{}, watchers: map[string][]watcher{}}
}

// RequestID implements partition.Machine.
func (c *Coordinator) RequestID(command []byte) (ID, bool) { return RequestID(command) }

// Snapshot implements partition.Machine.
func (c *Coordinator) Snapshot() []byte { return c.state.Snapshot() }

// Restore implements partition.Machine.
func (c *Coordinator) Restore(b []byte) error { return c.state.Restore(b) }

// Apply implements partition.Machine.
func (c *Coordinator) Apply(index uint64, appendTime int64, command []byte) []byte {
	result := c.state.Apply(index, appendTime, command)
	if c.leads && c.Fault() == nil && !isCommit(command) { // commits change nothing that a member is told
		c.follow(groupOf(command))
	}
	return result
}

// Fault implements partition.Limited.
func (c *Coordinator) Fault() error { return c.state.Fault() }

var _ partition.Limited = (*Coordinator)(nil) // by that name it is found

// Query implements partition.Coordinator: a List or a Describe.
func (c *Coordinator) Query(ask any) any {
	switch q := ask.(type) {
	case Describe:
		if g := c.state.Group(q.Group); g != nil {
			return g.clone()
		}
		return (*Group)(nil)
	case List:
		list := make([]Summary, 0, len(c.state.groups))
		for _, g := range c.state.groups {
			list = append(list, Summary{Name: g.Name, State: g.State(), Members: len(g.Members), Generation: g.Generation})
		}
		return list
	case Progress:
		return c.progress(q.Max)
	}
	return nil
}

func (c *Coordinator) progress(most int) (out Reads) {
	for _, g := range c.state.groups {
		for _, t := range g.Topics {
			for n := range t.Partitions {
				if len(out.List) >= most {
					out.LeftOut++
					continue
				}
				r := Read{Group: g.Name, Members: len(g.Members), TP: TP{t.Name, n}, TopicID: t.ID, Committed: -1}
				if o, ok := g.Offsets[r.TP]; ok {
					r.Committed = o.Offset
				}
				out.List = append(out.List, r)
			}
		}
	}
	return out
}

// Lead implements partition.Coordinator: every member gets a whole session, because nobody here has heard any.
func (c *Coordinator) Lead(now int64) {
	c.leads, c.now, c.tickedAt, c.forgotAt, c.compare = true, now, now, now, true
	for _, g := range c.state.groups {
		c.follow(g.Name)
	}
}

// Rest implements partition.Coordinator.
func (c *Coordinator) Rest() {
	c.leads = false
	clear(c.live)
	clear(c.watchers)
	c.answers, c.commands = nil, nil
}

// Ask implements partition.Coordinator: a Beat or a Watch.
func (c *Coordinator) Ask(now int64, from, token uint64, ask any) {
	c.now = now
	switch q := ask.(type) {
	case Beat:
		if l := c.live[q.Group][q.Member]; l != nil {
			l.heard = now
		}
		c.answer(from, token, c.assignment(q.Group, q.Member))
	case Watch:
		a := c.assignment(q.Group, q.Member)
		if !a.Known || a.Generation != q.Generation {
			c.answer(from, token, a)
			return
		}
		c.watchers[q.Group] = append(c.watchers[q.Group], watcher{from, token, q.Member, q.Generation})
	default:
		c.answer(from, token, nil)
	}
}

// Forget implements partition.Coordinator.
func (c *Coordinator) Forget(from uint64) {
	for name, list := range c.watchers { // order does not matter: each list is changed alone
		if list = slices.DeleteFunc(list, func(w watcher) bool { return w.from == from }); len(list) == 0 {
			delete(c.watchers, name)
		} else {
			c.watchers[name] = list
		}
	}
}

// Take implements partition.Coordinator.
func (c *Coordinator) Take() (answers []partition.Answer, commands [][]byte) {
	answers, commands = c.answers, c.commands
	c.answers, c.commands = nil, nil
	return answers, commands
}

func (c *Coordinator) answer(from, token uint64, value any) {
	c.answers = append(c.answers, partition.Answer{From: from, Token: token, Value: value})
}

// assignment is what a member is told now.
func (c *Coordinator) assignment(group string, id ID) *Assignment {
	g := c.state.Group(group)
	if g == nil {
		return &Assignment{}
	}
	m := g.Member(id)
	if m == nil {
		if by := g.fenced(id); by != nil {
			return &Assignment{FencedBy: by.InstanceID}
		}
		return &Assignment{}
	}
	a := &Assignment{Known: true, Generation: m.Generation, Waiting: m.Waiting, Partitions: make([]Assigned, len(m.Told))}
	for i, grant := range m.Told {
		t, _ := g.Topic(grant.Topic)
		a.Partitions[i] = Assigned{Grant: grant, TopicID: t.ID, Committed: -1}
		if o, ok := g.Offsets[grant.TP]; ok {
			a.Partitions[i].Committed, a.Partitions[i].Epoch = o.Offset, o.Epoch
		}
	}
	return a
}

// follow brings what the leader knows of a group's members in line with the state after a command, and tells those who wait.
func (c *Coordinator) follow(name string) {
	g := c.state.Group(name)
	c.followMembers(name, g)
	waiting := c.watchers[name]
	if len(waiting) == 0 {
		return
	}
	kept := waiting[:0]
	for _, w := range waiting {
		var m *Member
		if g != nil {
			m = g.Member(w.member)
		}
		if m != nil && m.Generation == w.generation {
			kept = append(kept, w)
			continue
		}
		c.answer(w.from, w.token, c.assignment(name, w.member))
	}
	if len(kept) == 0 {
		delete(c.watchers, name)
	} else {
		c.watchers[name] = kept
	}
}

// followMembers begins to keep members alive that are new, and forgets those that are gone.
func (c *Coordinator) followMembers(name string, g *Group) {
	if g == nil || len(g.Members) == 0 {
		delete(c.live, name)
		return
	}
	before := c.live[name]
	members := make(map[ID]*live, len(g.Members))
	for _, m := range g.Members {
		l := before[m.ID]
		if l == nil {
			l = &live{heard: c.now}
			c.compare = true // what it subscribes to may have changed since its broker looked
		}
		switch withheld := len(m.Held) > len(m.Told); {
		case !withheld:
			l.withheld = 0
		case l.withheld == 0:
			l.withheld = c.now
		}
		members[m.ID] = l
	}
	c.live[name] = members
}

// Tick implements partition.Coordinator.
func (c *Coordinator) Tick(now, appendTime int64) {
	if gap := now - c.tickedAt; gap > pausedNs {
		c.excuse(gap)
	}
	c.now, c.tickedAt = now, now
	for _, g := range c.state.groups {
		for _, m := range g.Members {
			c.expire(now, g.Name, m)
		}
	}
	c.compareTopics(now)
	if now-c.forgotAt >= forgetEveryNs {
		c.forgotAt = now
		c.forget(appendTime)
	}
}

// excuse does not count time against members in which this broker itself stood still.
func (c *Coordinator) excuse(gap int64) {
	for _, members := range c.live { // order does not matter: each is moved alone
		for _, l := range members {
			l.heard += gap
			if l.withheld > 0 {
				l.withheld += gap
			}
		}
	}
}

// expire proposes the end of a member that was not heard for its session timeout, or that holds back a withdrawn partition for
// longer than its poll timeout.
func (c *Coordinator) expire(now int64, group string, m *Member) {
	l := c.live[group][m.ID]
	if l == nil || l.expiring > 0 && now-l.expiring < expireAgainNs {
		return
	}
	silent := now-l.heard >= int64(m.SessionMs)*1e6
	stuck := l.withheld > 0 && now-l.withheld >= int64(m.PollMs)*1e6
	if silent || stuck {
		l.expiring = now
		c.commands = append(c.commands, (&expire{group: group, member: m.ID, instance: m.Instance}).encode())
	}
}

// compareTopics proposes what changed in the metadata of the topics that groups know: added partitions, deleted and recreated topics.
func (c *Coordinator) compareTopics(now int64) {
	if c.opts.Metadata == nil || now-c.comparedAt < topicsAgainNs {
		return
	}
	version, lookup := c.opts.Metadata()
	if version == c.metadata && !c.compare {
		return
	}
	c.metadata, c.compare, c.comparedAt = version, false, now
	for _, g := range c.state.groups {
		var differ []Topic
		for _, t := range g.Topics {
			id, partitions, ok := lookup(t.Name)
			is := Topic{Name: t.Name, ID: id, Partitions: partitions}
			if !ok {
				is = Topic{Name: t.Name, ID: t.ID} // offsets stay until it is created anew or the group is forgotten
			}
			if is != t {
				differ = append(differ, is)
			}
		}
		if len(differ) > 0 {
			c.compare = true // once more: the proposal may be lost
			c.commands = append(c.commands, (&topics{group: g.Name, topics: differ}).encode())
		}
	}
}

// forget proposes the end of groups that have had no members for the retention. Where it is applied it is judged again.
func (c *Coordinator) forget(appendTime int64) {
	n := 0
	for _, g := range c.state.groups {
		if g.EmptySince > 0 && appendTime-g.EmptySince >= c.opts.OffsetsRetentionMs && n < forgetMax {
			n++
			c.commands = append(c.commands, (&forget{group: g.Name, retentionMs: c.opts.OffsetsRetentionMs}).encode())
		}
	}
}
