package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"lograft/broker/cluster"
	"lograft/broker/datadir"
	"lograft/broker/engine"
	"lograft/broker/partition"
	"lograft/broker/rpc"
	"lograft/broker/security"
	"lograft/broker/transport"
	"lograft/raft"
	"lograft/segment/journal"
)

// node is a running broker: the parts and what ties them together.
type node struct {
	opts    Options
	log     *slog.Logger
	ls      listeners
	limited limited
	access  *access
	journal journal.Journal
	mesh    *transport.Mesh

	// mu guards these: greetings come on many goroutines.
	mu      sync.Mutex
	data    *datadir.Dir
	greeted map[uint64]uint32 // commands known by each broker, as it greeted last

	// Set by boot, before anything that reads them runs.
	birth    *cluster.Birth
	parts    *Parts
	loaded   *journal.Loaded
	engine   *engine.Engine
	dir      *directory
	host     *host
	services *rpc.Server
	guard    *rpc.Guard
	controls *engine.Inbox[controlEvent]
	// announcing wakes register; failed takes errors that the broker can't go on after.
	announcing chan struct{}
	failed     chan error

	ready       atomic.Bool // engine may be posted to
	draining    atomic.Bool
	unconfirmed atomic.Pointer[[]partition.GroupID]
	settled     settledGroups
	absent      absent // of register
	started     time.Time
	disk        diskStats
	diskFull    atomic.Bool // the disk is at its reserve
	reserve     atomic.Int64
}

// limited are the listeners within their limits of connections.
type limited struct {
	client, peer, http *security.Listener // http: nil without an HTTP port
}

// peerLimits leave room for three streams each way of a large cluster behind one address, and for its handshakes.
var peerLimits = security.Limits{Conns: 1024, ConnsPerAddr: 256}

func newNode(o Options, a *access, dir *datadir.Dir, j journal.Journal, ls listeners) *node {
	n := &node{opts: o, log: o.Logger.With("node", o.NodeID), ls: ls, access: a, journal: j, data: dir, greeted: map[uint64]uint32{}, absent: absent{},
		controls: engine.NewInbox[controlEvent](), announcing: make(chan struct{}, 1), failed: make(chan error, 4), started: time.Now()}
	peers := map[uint64]string{}
	for _, m := range o.InitialCluster {
		if m.NodeID != o.NodeID {
			peers[m.NodeID] = m.PeerAddr
		}
	}
	n.limited = limited{client: security.Limit(ls.client, o.Access.Limits), peer: security.Limit(ls.peer, peerLimits)}
	if ls.http != nil {
		n.limited.http = security.Limit(ls.http, httpLimits)
	}
	n.mesh = transport.New(transport.Options{Node: o.NodeID, Peers: peers, Handler: n, Logger: n.log, Credentials: a.peers})
	return n
}

// now is the broker's monotonic and wall clock.
func (n *node) now() (mono, wall int64) {
	t := time.Now()
	return int64(t.Sub(n.started)) + 1, t.UnixMilli()
}

// boot opens every replica and builds the engine around them.
func (n *node) boot() error {
	parts, err := Boot(n.bootOptions(), n.loaded)
	if err != nil {
		return err
	}
	n.logRecovery(parts)
	n.parts = parts
	n.dir = newDirectory(n.opts.NodeID, parts.View, n.opts.AutoCreate)
	n.host = newHost(n)
	env := &rpc.Env{Dir: n.dir, Random: randomID, Wall: func() int64 { return time.Now().UnixMilli() },
		Appends: rpc.NewBudget(n.opts.BytesInFlight), Answers: rpc.NewBudget(n.opts.BytesInFlight), Hold: security.Hold, Connected: n.mesh.Up}
	env.Plain = rpc.NewPlain(env.Answers)
	if n.guard, env.Prove, err = n.access.guard(n); err != nil {
		return err
	}
	n.services = rpc.NewServer(env, n.host)
	n.guard.Count(n.services)
	n.engine = engine.New(engine.Options{Node: n.opts.NodeID, Workers: n.opts.Workers, Readers: coldReaders, Wanted: func(session uint64) bool { return !env.Answers.Full() && n.host.session(session) != nil }, TickEvery: n.opts.Heartbeat,
		Journal: n.journal, NewOutbox: func(int) engine.Outbox { return newOutbox(n.mesh) }, Sink: n, Now: n.now, ReadBytesIdle: readBytesIdle})
	for _, r := range parts.Replicas {
		n.adopt(r)
	}
	n.controls.Put(controlEvent{view: true})
	n.ready.Store(true)
	return nil
}

func (n *node) logRecovery(parts *Parts) {
	if n.loaded.Damaged() || len(n.loaded.HardDamage) > 0 {
		n.log.Error("the journal is damaged: other copies are used, and no bad frame is taken for a torn write", "hard_states", n.loaded.HardDamage, "marks", n.loaded.MarksDamage)
	}
	for i := range parts.Recovered {
		r := &parts.Recovered[i]
		group := fmt.Sprintf("%x", r.Group)
		if r.Lost != nil {
			n.log.Error("the replica's log can't be used: it was set aside (*.old in the group's directory) and is fetched anew from the other replicas", "group", group, "err", r.Lost)
		}
		switch {
		case r.GivenUp:
			n.log.Error("the end of the replica's log was cut off because an operator accepted its loss (broker log recover)", "group", group, "last_index", r.Recovery.Last, "bytes", r.Recovery.TornBytes, "copy", r.Recovery.Aside, "not_copied", r.Recovery.AsideSkipped,
				"votes", !r.Refilling)
		case r.Refilling:
			n.log.Warn("replica is being refilled: it serves and votes when it holds again what it acknowledged", "group", group)
		case r.Err != nil:
			n.log.Error("replica is quarantined: the others go on", "group", group, "err", r.Err,
				"if_no_other_copy", "stop the broker, then: broker log recover "+groupDir(n.data.Path(), r.Group))
		case len(r.Recovery.Faulty) > 0:
			n.log.Error("replica has damaged entries: it serves what is good and stands for no election", "group", group, "faulty", fmt.Sprint(r.Recovery.Faulty))
		case r.Recovery.TornBytes > 0:
			n.log.Info("a torn tail was cut off: its bytes were never acknowledged", "group", group, "bytes", r.Recovery.TornBytes, "from", r.Recovery.TornFrom, "copy", r.Recovery.Aside)
		}
	}
}

func (n *node) adopt(r *partition.Replica) {
	n.engine.Post(engine.WorkerOf(r.Group(), n.engine.Workers()), engine.Event{Adopt: r})
}

// fail ends Run with an error, the first one of several.
func (n *node) fail(err error) {
	select {
	case n.failed <- err:
	default:
	}
}

// controlEvent is what the controller's loop takes.
type controlEvent struct {
	view                   bool
	roster                 []datadir.Seat
	born, retired, removed []partition.GroupID
}

// control runs the controller: it alone opens and removes replicas.
func (n *node) control(ctx context.Context) {
	var events []controlEvent
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.controls.Wake():
		}
		events = n.controls.Take(events)
		for i := range events {
			ev := &events[i]
			c := n.parts.Controller
			if ev.view {
				v := n.parts.View()
				if err := n.learn(SeatsOf(v), true); err != nil {
					n.fail(err)
				}
				n.carryOut(c.ViewChanged(v))
				n.announceSoon()
			}
			if ev.roster != nil {
				n.carryOut(c.RosterChanged(metaPeers(ev.roster)))
			}
			if len(ev.born) > 0 {
				n.carryOut(c.Born(ev.born))
			}
			if len(ev.removed) > 0 {
				n.dir.forget(ev.removed)
				n.carryOut(c.Removed(ev.removed))
			}
			if len(ev.retired) > 0 {
				n.carryOut(c.Retired(ev.retired))
			}
		}
		groups := n.parts.Controller.Unconfirmed()
		n.unconfirmed.Store(&groups)
		if len(groups) > 0 {
			n.announceSoon()
		}
	}
}

func (n *node) carryOut(eff ControlEffects) {
	for _, err := range eff.Failed {
		n.log.Error("replica can't be opened or removed", "err", err)
	}
	for _, r := range eff.Adopt {
		n.adopt(r)
	}
	for i := range eff.Members {
		n.engine.Post(engine.WorkerOf(eff.Members[i].Group, n.engine.Workers()), engine.Event{Members: &eff.Members[i]})
	}
	for i := range eff.Configure {
		n.engine.Post(engine.WorkerOf(eff.Configure[i].Group, n.engine.Workers()), engine.Event{Config: &eff.Configure[i]})
	}
	for _, g := range eff.Remove {
		n.engine.Post(engine.WorkerOf(g, n.engine.Workers()), engine.Event{Remove: &g})
	}
	if !eff.Sync.Empty() {
		n.engine.Sync(eff.Sync)
	}
}

func (n *node) tellClock(ctx context.Context) {
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		_, wall := n.now()
		n.mesh.SendClock(wall, n.diskFull.Load())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// renewBoot raises the boot number now and then: a copy of the directory made before can be told from it (architecture D11).
func (n *node) renewBoot(ctx context.Context) error {
	tick := time.NewTicker(bootRenewal)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		n.mu.Lock()
		err := n.data.RaiseBoot()
		n.mu.Unlock()
		if err != nil {
			return fmt.Errorf("boot number: %w", err)
		}
	}
}

// Greet implements transport.Handler.
func (n *node) Greet() transport.Hello {
	n.mu.Lock()
	defer n.mu.Unlock()
	id := n.data.Identity()
	h := transport.Hello{Protocol: transport.Protocol, ClusterName: id.ClusterName, ClusterID: id.ClusterID, Born: id.ClusterID != [16]byte{},
		NodeID: id.NodeID, DirID: id.DirID, Boot: id.Boot, Nonce: n.data.Incarnation().Nonce, Commands: cluster.CommandsKnown}
	for _, s := range id.Starts {
		h.Starts = append(h.Starts, transport.Start(s))
	}
	if h.Born {
		h.Seats = fromSeats(n.data.Seats())
	}
	return h
}

// Check implements transport.Handler: frames pass only between brokers of the same born cluster, and never from a wiped or older
// directory.
func (n *node) Check(peer transport.Hello) error {
	mine := n.Greet()
	if err := mine.Compatible(peer); err != nil {
		return err
	}
	switch {
	case !mine.Born || !n.ready.Load():
		return fmt.Errorf("node %d is not up yet", mine.NodeID)
	case !peer.Born:
		return fmt.Errorf("node %d has an empty data directory and must join first", peer.NodeID)
	case mine.ClusterID != peer.ClusterID:
		return fmt.Errorf("node %d belongs to cluster %x, node %d to %x: one of them has the wrong data directory", peer.NodeID, peer.ClusterID[:4], mine.NodeID, mine.ClusterID[:4])
	}
	starts := make([]datadir.Start, 0, len(peer.Starts))
	for _, s := range peer.Starts {
		starts = append(starts, datadir.Start(s))
	}
	if err := n.checkCommands(peer); err != nil {
		return err
	}
	n.mu.Lock()
	err := n.data.CheckPeer(peer.NodeID, datadir.Incarnation{DirID: peer.DirID, Boot: peer.Boot, Nonce: peer.Nonce}, starts)
	if err == nil {
		n.greeted[peer.NodeID] = max(peer.Commands, 1)
	}
	n.mu.Unlock()
	if err != nil {
		return err
	}
	return n.learn(toSeats(peer.Seats), false)
}

// checkCommands refuses a broker whose build does not carry out the cluster's commands.
func (n *node) checkCommands(peer transport.Hello) error {
	if active := n.parts.View().Commands; max(peer.Commands, 1) < active {
		return fmt.Errorf("%w: node %d runs a build that carries out commands of version %d, and the cluster's are of version %d: start it with the build of the others, or a newer one", cluster.ErrTooOld, peer.NodeID, max(peer.Commands, 1), active)
	}
	return nil
}

// Frame implements transport.Handler.
func (n *node) Frame(from uint64, msgs []transport.GroupMessage) {
	workers := n.engine.Workers()
	counts := make([]int, workers)
	for i := range msgs {
		counts[engine.WorkerOf(msgs[i].Group, workers)]++
	}
	byWorker := make([][]engine.Message, workers)
	for w, c := range counts {
		byWorker[w] = make([]engine.Message, 0, c)
	}
	for i := range msgs {
		w := engine.WorkerOf(msgs[i].Group, workers)
		byWorker[w] = append(byWorker[w], engine.Message{From: from, Group: msgs[i].Group, Raft: msgs[i].Msg})
	}
	for w, ms := range byWorker {
		if len(ms) > 0 {
			n.engine.Post(w, engine.Event{Messages: ms})
		}
	}
}

// Clock implements transport.Handler.
func (n *node) Clock(from uint64, wall int64, full bool) {
	mono, _ := n.now()
	n.engine.PostAll(engine.Event{Clock: &engine.PeerClock{Node: from, Wall: wall, Full: full, At: mono}})
}

// Dropped implements transport.Handler: the core is told of appends and snapshots that did not go (architecture D9).
func (n *node) Dropped(_ uint64, refs []transport.Ref) {
	if !n.ready.Load() {
		return
	}
	workers := n.engine.Workers()
	byWorker := make([][]engine.Lost, workers)
	for _, r := range refs {
		if r.Type == raft.MsgAppend || r.Type == raft.MsgSnapshot {
			w := engine.WorkerOf(r.Group, workers)
			byWorker[w] = append(byWorker[w], engine.Lost{Group: r.Group, To: r.To, Snapshot: r.Type == raft.MsgSnapshot})
		}
	}
	for w, lost := range byWorker {
		if len(lost) > 0 {
			n.engine.Post(w, engine.Event{Lost: lost})
		}
	}
}

// Peer implements transport.Handler.
func (n *node) Peer(uint64, bool) {}

// Replies implements engine.Sink.
func (n *node) Replies(replies []partition.Reply) { n.host.deliver(replies) }

// Leads implements engine.Sink.
func (n *node) Leads(changes []partition.LeaderChange) { n.dir.update(changes) }

// Births implements engine.Sink.
func (n *node) Births(groups []partition.GroupID) { n.controls.Put(controlEvent{born: groups}) }

// Retired implements engine.Sink.
func (n *node) Retired(groups []partition.GroupID) { n.controls.Put(controlEvent{retired: groups}) }

// Removed implements engine.Sink. The slice is the worker's: it is copied.
func (n *node) Removed(groups []partition.GroupID) {
	n.controls.Put(controlEvent{removed: append([]partition.GroupID(nil), groups...)})
}

// Halted implements engine.Sink: a replica that stopped for good is named. The others go on, unless its disk failed, or this build does
// not carry out the cluster's commands: then Run ends.
func (n *node) Halted(err error) {
	n.log.Error("replica halted", "err", err)
	if errors.Is(err, cluster.ErrTooOld) {
		n.fail(err)
	}
}

var errEmptyJournal = errors.New("the journal is empty but the directory belongs to a cluster")
