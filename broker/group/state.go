package group

import (
	"fmt"
	"slices"
	"strings"
)

// State is the replicated state of one partition of the internal topic: a pure function of the commands that it applied. One
// goroutine owns it.
type State struct {
	groups []*Group // by name

	// results of the last requestsKept seeks and deletes, by request id and in order of application: their retries have one effect.
	results  map[ID][]byte
	requests []ID

	fault error // of a command that this build does not know
}

// NewState is a partition without groups.
func NewState() *State { return &State{results: map[ID][]byte{}} }

func (s *State) find(name string) (int, bool) {
	return slices.BinarySearchFunc(s.groups, name, func(g *Group, name string) int { return strings.Compare(g.Name, name) })
}

// Group is the state's own group of this name, nil if there is none.
func (s *State) Group(name string) *Group {
	if i, ok := s.find(name); ok {
		return s.groups[i]
	}
	return nil
}

// Groups are the state's own groups by name.
func (s *State) Groups() []*Group { return s.groups }

func (s *State) remove(name string) {
	if i, ok := s.find(name); ok {
		s.groups = slices.Delete(s.groups, i, i+1)
	}
}

// groupOf is the name of the group that a command is about.
func groupOf(command []byte) string {
	if len(command) < commandHeadBytes {
		return ""
	}
	r := newReader(command[commandHeadBytes:])
	return r.Str()
}

// Apply carries out the command of entry index. appendTime (ms) is the entry's. The result is for DecodeResult.
func (s *State) Apply(index uint64, appendTime int64, command []byte) []byte {
	id, ok := RequestID(command)
	if !ok {
		return refuse(ReasonInvalid, "malformed command").encode()
	}
	if s.fault = unknown(index, command); s.fault != nil {
		return refuse(ReasonInvalid, "%v", s.fault).encode()
	}
	if old, ok := s.results[id]; ok && id != (ID{}) {
		return old
	}
	result := s.apply(index, appendTime, command).encode()
	if kind := command[1]; id != (ID{}) && (kind == kindSeek || kind == kindDelete) {
		s.remember(id, result)
	}
	return result
}

// unknown says that the command of an entry is of a version or kind that this build does not carry out. That is no malformed command: those
// are refused by brokers of every build alike, and this one only by those that are too old.
func unknown(index uint64, command []byte) error {
	if version, kind := command[0], command[1]; version != commandVersion || kind == 0 || kind >= kindsEnd {
		return fmt.Errorf("entry %d is a command of kind %d, version %d, which this build does not know: start the broker with the build of the others, or a newer one", index, kind, version)
	}
	return nil
}

// Fault says that the command that was applied last is one that this build does not know: nothing was changed, and nothing may be applied
// any more.
func (s *State) Fault() error { return s.fault }

func (s *State) remember(id ID, result []byte) {
	if len(s.requests) == requestsKept {
		delete(s.results, s.requests[0])
		s.requests = s.requests[1:]
	}
	s.requests = append(s.requests, id)
	s.results[id] = result
}

func refuse(reason Reason, format string, args ...any) *Result {
	return &Result{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// unknownMember says why a membership is none.
func (s *State) unknownMember(group string, member ID) *Result {
	if g := s.Group(group); g != nil {
		if m := g.fenced(member); m != nil {
			return refuse(ReasonFencedInstance, "%s", FencedMessage(group, m.InstanceID))
		}
	}
	return refuse(ReasonUnknownMember, "member %x is not in group %q: it left, or was not heard for its session timeout; join again", member[:4], group)
}

// FencedMessage tells a membership that another one has its instance id.
func FencedMessage(group, instance string) string {
	return fmt.Sprintf("another consumer joined group %q with instance id %q and took this one's place: stop one of them, or give each its own instance id", group, instance)
}

func (s *State) apply(index uint64, appendTime int64, command []byte) *Result {
	r := newReader(command[commandHeadBytes:])
	name := r.Str()
	if err := CheckName(name); err != nil {
		return refuse(ReasonInvalid, "%v", err)
	}
	switch command[1] {
	case kindJoin:
		if c := r.join(name); r.End() == nil {
			return s.join(index, &c)
		}
	case kindAcknowledge:
		if c := r.acknowledge(name); r.End() == nil {
			return s.acknowledge(&c)
		}
	case kindLeave:
		if member := r.ID(); r.End() == nil {
			return s.drop(appendTime, name, func(m *Member) bool { return m.ID == member })
		}
	case kindExpire:
		if c := (expire{group: name, member: r.ID(), instance: r.U64()}); r.End() == nil {
			return s.drop(appendTime, name, func(m *Member) bool { return m.ID == c.member && m.Instance == c.instance })
		}
	case kindCommit, kindCommitEpochs:
		if c := r.commit(name, command[1] == kindCommitEpochs); r.End() == nil {
			return s.commit(appendTime, &c)
		}
	case kindSeek:
		if c := r.seek(name); r.End() == nil {
			return s.seek(appendTime, &c)
		}
	case kindDelete:
		if r.End() == nil {
			return s.deleteGroup(name)
		}
	case kindTopics:
		if list := r.topics(); r.End() == nil {
			return s.topics(name, list)
		}
	case kindForget:
		if retention := r.I64(); r.End() == nil {
			return s.forget(appendTime, name, retention)
		}
	}
	return refuse(ReasonInvalid, "malformed command of kind %d", command[1])
}

func (c *Join) check() *Result {
	switch {
	case c.Member == ID{}:
		return refuse(ReasonInvalid, "a member needs an id of 16 random bytes")
	case len(c.ClientID) > clientIDBytesMax:
		return refuse(ReasonInvalid, "client id of %d bytes: at most %d", len(c.ClientID), clientIDBytesMax)
	case len(c.InstanceID) > instanceBytesMax || !printable(c.InstanceID):
		return refuse(ReasonInvalid, "instance id %.20q...: want at most %d bytes of printable UTF-8", c.InstanceID, instanceBytesMax)
	case c.SessionMs < SessionMsMin || c.SessionMs > SessionMsMax:
		return refuse(ReasonInvalid, "session timeout of %d ms: want %d to %d", c.SessionMs, SessionMsMin, SessionMsMax)
	case c.PollMs < PollMsMin || c.PollMs > PollMsMax:
		return refuse(ReasonInvalid, "poll timeout of %d ms: want %d to %d", c.PollMs, PollMsMin, PollMsMax)
	case len(c.Topics) == 0 || len(c.Topics) > TopicsMax:
		return refuse(ReasonInvalid, "%d topics: want 1 to %d", len(c.Topics), TopicsMax)
	}
	return nil
}

func (s *State) join(index uint64, c *Join) *Result {
	if x := c.check(); x != nil {
		return x
	}
	g := s.Group(c.Group)
	var m *Member
	if g != nil {
		m = g.Member(c.Member)
	}
	switch {
	case m == nil && c.Resume, m == nil && g != nil && g.fenced(c.Member) != nil:
		return s.unknownMember(c.Group, c.Member)
	case m != nil && m.InstanceID != c.InstanceID:
		return refuse(ReasonInvalid, "a membership keeps its instance id: this one's is %q", m.InstanceID)
	case g == nil && len(s.groups) >= GroupsMax:
		return refuse(ReasonLimit, "%d groups: delete some with broker group delete", len(s.groups))
	case g == nil:
		g = &Group{Name: c.Group, Offsets: map[TP]Offset{}}
	case m == nil && len(g.Members) >= MembersMax && g.static(c.InstanceID) < 0:
		return refuse(ReasonLimit, "group %q has %d members: no more are possible", c.Group, len(g.Members))
	}
	if x := g.addTopics(c.Topics, false); x != nil {
		return x
	}
	if i, ok := s.find(g.Name); !ok {
		s.groups = slices.Insert(s.groups, i, g)
	}
	g.EmptySince = 0
	names := make([]string, 0, len(c.Topics))
	for _, t := range c.Topics {
		names = append(names, t.Name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if m == nil {
		m = g.succeed(c.InstanceID, c.Member)
	}
	changed := m == nil || !slices.Equal(m.Topics, names)
	if m == nil {
		m = &Member{ID: c.Member}
	}
	if i, ok := g.find(c.Member); !ok {
		m.Instance = index
		g.Members = slices.Insert(g.Members, i, m)
	}
	m.InstanceID = c.InstanceID
	m.ClientID, m.SessionMs, m.PollMs, m.Topics = c.ClientID, c.SessionMs, c.PollMs, names
	g.settle(changed)
	return &Result{Generation: g.Generation}
}

// succeed takes the static member with this instance id out of the group and makes who comes after it, nil if there is none. The
// successor has what its predecessor might work on, since a generation of its own; what was withdrawn from that one is free.
func (g *Group) succeed(instance string, id ID) *Member {
	i := g.static(instance)
	if i < 0 {
		return nil
	}
	old := g.Members[i]
	g.Members = slices.Delete(g.Members, i, i+1)
	m := &Member{ID: id, Topics: old.Topics, Target: old.Target, Held: old.told(), Fenced: append(old.Fenced, old.ID)}
	m.Fenced = m.Fenced[max(len(m.Fenced)-fencedKept, 0):]
	for i := range m.Held {
		m.Held[i].Since = g.Generation + 1
	}
	return m
}

// addTopics notes topics that the group does not know; with replace also what changed of those that it knows. Nothing is noted if
// there would be too many.
func (g *Group) addTopics(list []Topic, replace bool) *Result {
	next := slices.Clone(g.Topics)
	var gone []string
	for _, t := range list {
		i, ok := slices.BinarySearchFunc(next, t.Name, func(t Topic, name string) int { return strings.Compare(t.Name, name) })
		switch {
		case t.Name == "" || t.Partitions < 0:
			return refuse(ReasonInvalid, "topic %q with %d partitions", t.Name, t.Partitions)
		case !ok:
			next = slices.Insert(next, i, t)
		case replace:
			if next[i].ID != t.ID {
				gone = append(gone, t.Name)
			}
			next[i] = t
		}
	}
	total := int64(0)
	for _, t := range next {
		total += int64(t.Partitions)
	}
	if len(next) > TopicsMax || total > PartitionsMax {
		return refuse(ReasonLimit, "group %q would have %d topics with %d partitions: at most %d and %d", g.Name, len(next), total, TopicsMax, PartitionsMax)
	}
	g.Topics = next
	for tp := range g.Offsets { // order does not matter: each is judged alone
		if slices.Contains(gone, tp.Topic) {
			delete(g.Offsets, tp)
		}
	}
	return nil
}

func (s *State) acknowledge(c *Acknowledge) *Result {
	g := s.Group(c.Group)
	if g == nil || g.Member(c.Member) == nil {
		return s.unknownMember(c.Group, c.Member)
	}
	m := g.Member(c.Member)
	if c.Generation > m.Generation {
		return refuse(ReasonInvalid, "generation %d was not given to this member yet: the last was %d", c.Generation, m.Generation)
	}
	m.Acked = max(m.Acked, c.Generation)
	owned := make(map[TP]bool, len(c.Owned))
	for _, tp := range c.Owned {
		owned[tp] = true
	}
	// What was granted after the generation that the member speaks of it can't have given up.
	m.Held = slices.DeleteFunc(m.Held, func(h Grant) bool { return h.Since <= c.Generation && !owned[h.TP] })
	g.settle(false)
	return &Result{Generation: g.Generation}
}

// drop removes a member. One that is gone already is no error: leaving and expiring have one effect.
func (s *State) drop(appendTime int64, name string, which func(*Member) bool) *Result {
	g := s.Group(name)
	if g == nil {
		return &Result{}
	}
	i := slices.IndexFunc(g.Members, which)
	if i < 0 {
		return &Result{Generation: g.Generation}
	}
	g.Members = slices.Delete(g.Members, i, i+1)
	if len(g.Members) == 0 {
		g.EmptySince = appendTime
	}
	g.settle(true)
	return &Result{Generation: g.Generation}
}

func (s *State) commit(appendTime int64, c *Commit) *Result {
	g := s.Group(c.Group)
	if g == nil || g.Member(c.Member) == nil {
		return s.unknownMember(c.Group, c.Member)
	}
	m := g.Member(c.Member)
	for i := range c.Offsets {
		o := &c.Offsets[i]
		if o.Offset < 0 {
			return refuse(ReasonInvalid, "committed offset %d of %s/%d: must be >= 0", o.Offset, o.Topic, o.Partition)
		}
		if o.Epoch < 0 {
			return refuse(ReasonInvalid, "leader epoch %d of %s/%d: must be >= 0", o.Epoch, o.Topic, o.Partition)
		}
		at, ok := slices.BinarySearchFunc(m.Held, o.TP, func(h Grant, tp TP) int { return compareTP(h.TP, tp) })
		t, known := g.Topic(o.Topic)
		switch {
		case !ok:
			return refuse(ReasonStaleGeneration, "%s/%d is not this member's in generation %d: it was given to another", o.Topic, o.Partition, g.Generation)
		case c.Generation < m.Held[at].Since:
			return refuse(ReasonStaleGeneration, "%s/%d was given to this member in generation %d, the commit is of generation %d", o.Topic, o.Partition, m.Held[at].Since, c.Generation)
		case !known || t.ID != o.TopicID:
			return refuse(ReasonStaleGeneration, "topic %q was deleted or created again", o.Topic)
		case c.Generation > g.Generation:
			return refuse(ReasonInvalid, "generation %d does not exist yet: the group is in %d", c.Generation, g.Generation)
		}
	}
	if x := s.roomFor(g, c.Offsets); x != nil {
		return x
	}
	for i := range c.Offsets {
		o := &c.Offsets[i]
		if old, ok := g.Offsets[o.TP]; !ok || old.before(o) {
			g.Offsets[o.TP] = Offset{Offset: o.Offset, At: appendTime, Epoch: o.Epoch}
		}
	}
	return &Result{Generation: g.Generation}
}

// before reports whether a commit comes after this one: a lower one is a retry that came late, unless its leader epoch is higher. On one log
// epochs only grow with offsets, so that the log has lost what is committed here, and the member reads what came in its place. Without
// both epochs nothing is known of that.
func (x Offset) before(o *TopicOffset) bool {
	return x.Offset < o.Offset || x.Epoch != 0 && x.Epoch < o.Epoch && x.Offset > o.Offset
}

// roomFor refuses offsets of partitions that have none yet if there would be too many in all.
func (s *State) roomFor(g *Group, list []TopicOffset) *Result {
	added := 0
	for i := range list {
		if _, ok := g.Offsets[list[i].TP]; !ok {
			added++
		}
	}
	if added == 0 {
		return nil
	}
	for _, other := range s.groups {
		added += len(other.Offsets)
	}
	if added > OffsetsMax {
		return refuse(ReasonLimit, "%d committed offsets are kept beside this group's: delete groups that nobody needs with broker group delete", OffsetsMax)
	}
	return nil
}

func (s *State) seek(appendTime int64, c *Seek) *Result {
	g := s.Group(c.Group)
	switch {
	case len(c.Offsets) == 0:
		return refuse(ReasonInvalid, "no offsets are given")
	case g != nil && len(g.Members) > 0:
		return notEmpty(g)
	case g == nil && len(s.groups) >= GroupsMax:
		return refuse(ReasonLimit, "%d groups: delete some with broker group delete", len(s.groups))
	case g == nil:
		g = &Group{Name: c.Group, Offsets: map[TP]Offset{}}
	}
	if x := g.addTopics(c.Topics, true); x != nil {
		return x
	}
	for i := range c.Offsets {
		o := &c.Offsets[i]
		if t, ok := g.Topic(o.Topic); !ok || t.ID != o.TopicID || o.Partition < 0 || o.Partition >= t.Partitions || o.Offset < 0 {
			return refuse(ReasonInvalid, "offset %d of %s/%d: there is no such place", o.Offset, o.Topic, o.Partition)
		}
	}
	if x := s.roomFor(g, c.Offsets); x != nil {
		return x
	}
	if i, ok := s.find(g.Name); !ok {
		s.groups = slices.Insert(s.groups, i, g)
	}
	for i := range c.Offsets {
		g.Offsets[c.Offsets[i].TP] = Offset{Offset: c.Offsets[i].Offset, At: appendTime}
	}
	g.EmptySince = appendTime
	return &Result{Generation: g.Generation}
}

func notEmpty(g *Group) *Result {
	return refuse(ReasonGroupNotEmpty, "group %q has %d members: stop them first (broker group describe %s names them)", g.Name, len(g.Members), g.Name)
}

func (s *State) deleteGroup(name string) *Result {
	switch g := s.Group(name); {
	case g == nil:
		return refuse(ReasonGroupNotFound, "group %q not found: see broker group list", name)
	case len(g.Members) > 0:
		return notEmpty(g)
	}
	s.remove(name)
	return &Result{}
}

func (s *State) topics(name string, list []Topic) *Result {
	g := s.Group(name)
	if g == nil {
		return &Result{}
	}
	before := slices.Clone(g.Topics)
	if x := g.addTopics(list, true); x != nil {
		return x
	}
	if !slices.Equal(before, g.Topics) {
		g.settle(true)
	}
	return &Result{Generation: g.Generation}
}

func (s *State) forget(appendTime int64, name string, retentionMs int64) *Result {
	if g := s.Group(name); g != nil && g.EmptySince > 0 && appendTime-g.EmptySince >= retentionMs {
		s.remove(name)
	}
	return &Result{}
}
