package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "lograft/api/lograft/v1"
	"lograft/broker/rpc"
	"lograft/client/core"
	"lograft/record"
)

// Member is a program that reads as a member of a group: the real client's core, its streams as queues. It can be paused (SIGSTOP),
// cut off from every broker, and killed.
type Member struct {
	w        *World
	name     string
	instance string
	core     *core.GroupConsumer
	fetches  map[string]*stream
	members  map[uint64]*stream
	timerAt  int64

	dead   bool
	paused bool
	held   []func() // what comes to a paused program
	cut    bool     // nothing reaches a broker, nothing comes back
	kept   []func() // what goes when the network is back: a stream loses nothing in its middle

	// took is told of each record when the program is done with it, before it polls again.
	took func(p int32, offset int64, value string)
	// told is called after each step.
	told func(m *Member)
	Left bool
	Err  *core.Error
}

// newMember starts a member.
func (w *World) newMember(name string, o core.GroupOptions) *Member {
	o.ClientID, o.AutoMark = name, true
	o.Consumer.Rand = rand.New(rand.NewPCG(w.rng.Uint64(), w.rng.Uint64()))
	m := &Member{w: w, name: name, instance: o.InstanceID, core: core.NewGroupConsumer(o), fetches: map[string]*stream{}, members: map[uint64]*stream{}}
	m.step(&core.GroupEvent{Begin: true})
	m.step(&core.GroupEvent{Poll: true})
	return m
}

// Kill ends the program at once: its connections break.
func (m *Member) Kill() {
	m.w.Log("member %s killed", m.name)
	m.dead = true
	m.breakStreams()
}

// Pause stops the program, Resume lets it go on: everything that came meanwhile is there at once, and its clock has moved on.
func (m *Member) Pause() { m.w.Log("member %s paused", m.name); m.paused = true }

// Resume ends Pause.
func (m *Member) Resume() {
	if !m.paused {
		return
	}
	m.w.Log("member %s resumed", m.name)
	m.paused = false
	held := m.held
	m.held = nil
	for i, do := range held {
		if m.paused {
			m.held = append(m.held, held[i:]...)
			return
		}
		do()
	}
}

// run does what happens to the program: now, when it is resumed, or never.
func (m *Member) run(do func()) {
	switch {
	case m.dead:
	case m.paused:
		m.held = append(m.held, do)
	default:
		do()
	}
}

func (m *Member) event(ev *core.GroupEvent) { m.run(func() { m.step(ev) }) }

// answered is event for what comes over the network.
func (m *Member) answered(ev *core.GroupEvent) { m.overNetwork(func() { m.event(ev) }) }

func (m *Member) overNetwork(do func()) {
	if m.cut {
		m.kept = append(m.kept, do)
		return
	}
	do()
}

// Cut takes the program's network away, Mend gives it back: what was sent meanwhile arrives then, or its streams have broken.
func (m *Member) Cut() { m.w.Log("member %s cut off", m.name); m.cut = true }

// Mend ends Cut.
func (m *Member) Mend() {
	if !m.cut {
		return
	}
	m.w.Log("member %s has its network back", m.name)
	m.cut = false
	kept := m.kept
	m.kept = nil
	if m.w.percent(50) {
		m.breakStreams()
		return
	}
	for _, do := range kept {
		do()
	}
}

func (m *Member) breakStreams() {
	for _, at := range sortedKeys(m.fetches) {
		m.fetches[at].breakOff()
	}
	for _, id := range sortedKeys(m.members) {
		m.members[id].breakOff()
	}
}

func (m *Member) step(ev *core.GroupEvent) {
	if m.dead {
		return
	}
	var eff core.GroupEffects
	if ev.Consumer != nil && ev.Consumer.Down != "" {
		delete(m.fetches, ev.Consumer.Down)
	}
	if ev.Broken != nil {
		delete(m.members, ev.Broken.Stream)
	}
	m.core.Step(m.w.now, ev, &eff)
	m.network(&eff)
	if eff.Left {
		m.Left = true
		m.w.Log("member %s left", m.name)
		m.dead = true // the program ends, and closes what it has
		m.breakStreams()
	}
	if m.told != nil {
		m.told(m)
	}
	if eff.Timer > 0 {
		at := eff.Timer
		m.timerAt = at
		m.w.After(max(at-m.w.now, 0), func() {
			m.run(func() {
				if m.timerAt == at {
					m.step(&core.GroupEvent{Timer: true})
				}
			})
		})
	}
	if eff.Deliver != nil {
		m.deliver(eff.Deliver)
	}
}

// deliver is the program's work: it takes a little while, then the program is done with all of it and wants more.
func (m *Member) deliver(d *core.Delivery) {
	if d.Err != nil {
		m.Err = d.Err
		m.w.Log("member %s failed: %v", m.name, d.Err)
		return
	}
	took := m.w.between(0, 20e6)
	if m.w.percent(5) {
		took = m.w.between(0, 2*groupSession) // a slow record
	}
	m.w.After(took, func() {
		m.run(func() {
			if f := d.Fetched; f != nil {
				m.work(f)
			}
			m.step(&core.GroupEvent{Poll: true})
		})
	})
}

func (m *Member) work(f *core.Fetched) {
	for _, raw := range f.Batches {
		for r, err := range record.Batch(raw).Iterate(record.Limits{}) {
			if err != nil {
				panic(fmt.Sprintf("member %s got a batch that it can't read: %v", m.name, err))
			}
			if r.Offset >= f.From && (f.Stop < 0 || r.Offset < f.Stop) {
				m.took(f.Partition, r.Offset, string(r.Value))
			}
		}
	}
}

// network carries out what a step asks of brokers.
func (m *Member) network(eff *core.GroupEffects) {
	if s := m.members[eff.Close]; s != nil {
		delete(m.members, eff.Close)
		s.dead = true
		if s.x != nil {
			s.x.close()
		}
	}
	for i := range eff.Send {
		s, x := m.fetchTo(eff.Send[i].Address), eff.Send[i].Message
		m.overNetwork(func() { s.sendMessage(x) })
	}
	if eff.Open != nil {
		m.open(eff.Open)
	}
	for i := range eff.Join {
		if s := m.members[eff.Join[i].Stream]; s != nil {
			x := eff.Join[i].Message
			m.overNetwork(func() { s.sendMessage(x) })
		}
	}
	for _, ask := range eff.Epochs {
		m.call(ask.Address, ask.Request, func(e *rpc.Env) rpc.Session { return rpc.NewOffsetForLeaderEpoch(e) }, func(out proto.Message, err *core.Error) {
			answer := &core.EpochAnswer{Token: ask.Token, Err: err}
			answer.Response, _ = out.(*pb.OffsetForLeaderEpochResponse)
			m.event(&core.GroupEvent{Consumer: &core.ConsumerEvent{Epoch: answer}})
		})
	}
	for _, ask := range eff.Offsets {
		m.call(ask.Address, ask.Request, func(e *rpc.Env) rpc.Session { return rpc.NewListOffsets(e) }, func(out proto.Message, err *core.Error) {
			answer := &core.OffsetsAnswer{Token: ask.Token, Err: err}
			answer.Response, _ = out.(*pb.ListOffsetsResponse)
			m.event(&core.GroupEvent{Consumer: &core.ConsumerEvent{Offsets: answer}})
		})
	}
	if len(eff.Metadata) > 0 {
		names := eff.Metadata
		m.call(m.w.anyAddress(), &pb.GetMetadataRequest{Topics: names}, func(e *rpc.Env) rpc.Session { return rpc.NewGetMetadata(e) }, func(out proto.Message, err *core.Error) {
			answer := &core.MetadataAnswer{Topics: names, Err: err}
			answer.Response, _ = out.(*pb.GetMetadataResponse)
			m.event(&core.GroupEvent{Consumer: &core.ConsumerEvent{Metadata: answer}})
		})
	}
	if f := eff.Find; f != nil {
		at := f.Address
		if at == "" {
			at = m.w.anyAddress()
		}
		m.call(at, &pb.FindCoordinatorRequest{Group: m.groupName()}, func(e *rpc.Env) rpc.Session { return rpc.NewFindCoordinator(e) }, func(out proto.Message, err *core.Error) {
			answer := &core.FoundAnswer{Token: f.Token, Err: err}
			if x, ok := out.(*pb.FindCoordinatorResponse); ok {
				answer.Address = x.GetAddress()
			}
			m.event(&core.GroupEvent{Found: answer})
		})
	}
}

// groupName is the group of all members of the simulation's one load.
func (m *Member) groupName() string { return groupName }

// call is World.call from this program: what it asks while it is cut off goes nowhere.
func (m *Member) call(at string, in proto.Message, begin func(*rpc.Env) rpc.Session, done func(proto.Message, *core.Error)) {
	if m.cut {
		m.w.After(callTimeout, func() { done(nil, unreachable(at)) })
		return
	}
	m.w.call(at, in, begin, func(out proto.Message, err *core.Error) {
		if m.cut {
			out, err = nil, unreachable(at)
		}
		done(out, err)
	})
}

func (m *Member) fetchTo(at string) *stream {
	s := m.fetches[at]
	if s == nil {
		s = &stream{w: m.w, at: at, begin: func(e *rpc.Env) rpc.Session { return rpc.NewFetchStream(e) },
			got: func(x proto.Message) {
				m.answered(&core.GroupEvent{Consumer: &core.ConsumerEvent{Answer: x.(*pb.FetchStreamResponse)}})
			},
			down: func(err error) {
				m.event(&core.GroupEvent{Consumer: &core.ConsumerEvent{Down: at, DownError: err}})
			}}
		m.fetches[at] = s
	}
	return s
}

func (m *Member) open(o *core.StreamOpen) {
	id := o.Stream
	m.members[id] = &stream{w: m.w, at: o.Address, begin: func(e *rpc.Env) rpc.Session { return rpc.NewGroupMember(e) },
		got: func(x proto.Message) {
			m.answered(&core.GroupEvent{Message: &core.StreamMessage{Stream: id, Message: x.(*pb.JoinResponse)}})
		},
		down: func(err error) { m.event(&core.GroupEvent{Broken: &core.StreamBroken{Stream: id, Err: err}}) }}
}

func sortedKeys[K int64 | uint64 | string, V any](set map[K]V) []K {
	keys := make([]K, 0, len(set))
	for k := range set {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
