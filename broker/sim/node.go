package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"lograft/broker"
	"lograft/broker/cluster"
	"lograft/broker/datadir"
	"lograft/broker/engine"
	"lograft/broker/partition"
	"lograft/broker/rpc"
	"lograft/segment/journal"
	"lograft/segment/vfs"
)

// Node is one broker: its disk outlives it, everything else begins anew with each start.
type Node struct {
	w     *World
	id    uint64
	dir   cluster.ID
	seat  seat
	birth *cluster.Birth
	fs    *vfs.Mem
	// disk is how the broker sees fs: with delays, errors and power cuts.
	disk    *disk
	handles handles // of this start

	up          bool
	incarnation int
	paused      bool
	held        []func() // what would have happened while it was paused
	clock       clock
	data        *datadir.Dir                   // as of the newest start
	met         map[uint64]datadir.Incarnation // whose frames this start takes
	told        []datadir.Seat                 // by the one that registered the directory
	stray       bool                           // it runs on an old copy of its directory
	kept        *vfs.Mem                       // such a copy
	keptBoot    uint64                         // the boot number in it
	era         int                            // how many directories, and old copies of them, it has had
	space       engine.Space
	parts       *broker.Parts
	workers     []*workerLoop
	syncer      *engine.Syncer
	journal     journal.Journal
	leads       map[partition.GroupID]partition.LeaderChange
	leadChanges uint64
	replies     map[uint64]func(partition.Reply) // by session id
	nextSession uint64
	rpc         *rpc.Env // of this start
	failed      error    // why the broker stopped by itself

	ids        map[partition.GroupID]uint64 // replicas that this directory holds or held, until they are retired
	lives      map[partition.GroupID]int    // how many of each group were retired here
	settled    map[partition.GroupID]uint64 // versions of memberships that leaders here brought about
	announcing bool
	reading    int // file operations of replicas that are under way off the workers
}

// workerLoop is a worker with its inbox and outbox.
type workerLoop struct {
	*engine.Worker
	inbox     []engine.Event
	scheduled bool
	out       *outbox
	eff       engine.Effects
}

// dataDir is where a broker's files are on its own disk.
const dataDir = "data"

// Start makes the brokers of a new cluster and boots them all.
func (w *World) Start() error {
	members := make([]cluster.Member, w.opts.Brokers)
	for i := range members {
		members[i].NodeID = uint64(i + 1)
		for j := range members[i].DirID {
			members[i].DirID[j] = byte(w.rng.IntN(256))
		}
	}
	birth := cluster.ComputeBirth("sim", members)
	for i := range members {
		n := &Node{w: w, id: members[i].NodeID, dir: members[i].DirID, fs: vfs.NewMem(), nextSession: 1, seat: seat{joined: true}, birth: birth,
			ids: map[partition.GroupID]uint64{}, lives: map[partition.GroupID]int{},
			clock: clock{offset: w.between(-w.opts.ClockOffsetMaxMs, w.opts.ClockOffsetMaxMs), rate: 100, ticks: 100}}
		n.disk, n.handles = &disk{n: n}, handles{}
		w.nodes = append(w.nodes, n)
		if err := n.born(birth); err != nil {
			return err
		}
	}
	for _, n := range w.nodes {
		if err := n.Boot(); err != nil {
			return err
		}
	}
	return nil
}

// born puts the metadata group's birth into the broker's empty journal.
func (n *Node) born(birth *cluster.Birth) error {
	if err := errors.Join(n.fs.MkdirAll(dataDir), n.fs.SyncDir(".")); err != nil {
		return err
	}
	if err := n.openDir(); err != nil {
		return err
	}
	b, ok := broker.MetaBirth(birth, n.id, n.dir)
	if !ok {
		return fmt.Errorf("node %d is not in the birth list", n.id)
	}
	return n.recordBirth(b)
}

// recordBirth puts a birth on stable storage while the broker does not run.
func (n *Node) recordBirth(b engine.Birth) error {
	j, _, err := n.openJournal()
	if err != nil {
		return err
	}
	s := engine.NewSyncer(j)
	s.Add(&engine.SyncRequest{Births: []engine.Birth{b}})
	r := s.Next()
	err = r.Do()
	s.Done(r, err)
	if err != nil {
		return err
	}
	return j.Close()
}

func (n *Node) openJournal() (journal.Journal, *journal.Loaded, error) {
	j, err := journal.OpenTwin(n.files(), dataDir+"/journal")
	if err != nil {
		return nil, nil, err
	}
	loaded, err := j.Load()
	return j, &loaded, err
}

// Boot starts the broker from its disk.
func (n *Node) Boot() error {
	switch {
	case n.up:
		return nil
	case !n.seat.joined:
		n.join()
		return nil
	}
	n.disk.restart()
	n.handles = handles{}
	n.keep()
	if err := n.openDir(); err != nil {
		return err
	}
	j, loaded, err := n.openJournal()
	if err != nil {
		return err
	}
	n.incarnation++
	n.journal, n.syncer = j, engine.NewSyncer(j)
	n.leads = map[partition.GroupID]partition.LeaderChange{}
	n.replies = map[uint64]func(partition.Reply){}
	n.failed, n.rpc = nil, nil
	n.settled, n.announcing, n.reading = map[partition.GroupID]uint64{}, false, 0
	n.space = engine.Space{Reserve: n.w.opts.DiskReserve}
	inc := n.incarnation
	onView := func() {
		if n.parts != nil {
			n.w.sawView(n.parts.View())
		}
		n.after(inc, 0, n.viewChanged)
	}
	parts, err := broker.Boot(broker.BootOptions{Node: n.id, Dir: n.dir, FS: n.files(), DataDir: dataDir, Journal: j, Seed: n.w.rng.Uint64(),
		ElectionTicks: 10, HeartbeatTicks: 1, TailCacheBytes: n.w.opts.TailCacheBytes, CatchUpBytes: n.w.opts.CatchUpBytes, MessageBytes: n.w.opts.MessageBytes, FillBytesPerTick: n.w.opts.FillBytesPerTick, PreferWindows: n.w.opts.PreferWindows, OnView: onView}, loaded)
	if err != nil {
		return err
	}
	n.parts, n.up = parts, true
	n.workers = nil
	for i := range n.w.opts.Workers {
		out := &outbox{n: n}
		n.workers = append(n.workers, &workerLoop{Worker: engine.NewWorker(i, n.id, out), out: out})
	}
	for _, st := range loaded.Groups {
		if st.Retired && n.ids[st.Birth.Group] == st.Birth.ReplicaID {
			n.retire(st.Birth.Group) // stable, though nobody was told
		}
	}
	for _, r := range parts.Replicas {
		n.adopt(r)
	}
	for _, r := range parts.Recovered {
		if r.Lost != nil {
			n.w.Counts.Losts++
			n.w.Log("node %d: log of group %x set aside: %v", n.id, r.Group[:2], r.Lost)
		}
		if r.Err != nil {
			n.w.Log("node %d: quarantined: %v", n.id, r.Err)
		}
	}
	n.w.Counts.Restarts++
	n.w.Log("node %d up, %d groups", n.id, len(parts.Replicas))
	n.w.sawView(parts.View())
	n.viewChanged()
	if n.seat.rosterIndex > 0 {
		n.control(n.parts.Controller.RosterChanged(n.seat.rosterIndex, n.seat.roster))
	}
	n.tick()
	return nil
}

// after runs do on this incarnation of the broker; a crash in between drops it, a pause holds it back.
func (n *Node) after(incarnation int, delay int64, do func()) {
	n.w.After(delay, func() { n.wake(incarnation, do) })
}

// wake runs do if this incarnation of the broker lives, once it is not paused.
func (n *Node) wake(incarnation int, do func()) {
	switch {
	case !n.up || n.incarnation != incarnation:
	case n.paused:
		n.held = append(n.held, do)
	default:
		do()
	}
}

func (n *Node) adopt(r *partition.Replica) {
	n.opened(r)
	n.post(engine.WorkerOf(r.Group(), len(n.workers)), engine.Event{Adopt: r})
}

// Crash is a power cut: what was synced stays, of the rest a random part.
func (n *Node) Crash() {
	if !n.up {
		return
	}
	n.w.Log("node %d power cut", n.id)
	n.w.Counts.PowerCuts++
	n.stop()
	n.fs = n.fs.Crash(rand.New(rand.NewPCG(n.w.rng.Uint64(), n.w.rng.Uint64())))
}

// Kill ends the process: everything written is still in the kernel's cache.
func (n *Node) Kill() {
	if n.up {
		n.w.Log("node %d killed", n.id)
		n.stop()
	}
}

// Pause stops the process as SIGSTOP does; what reaches it meanwhile waits, and happens at once when it goes on.
func (n *Node) Pause() {
	if n.up && !n.paused {
		n.w.Log("node %d paused", n.id)
		n.paused = true
	}
}

// Resume lets a paused process go on.
func (n *Node) Resume() {
	if !n.paused {
		return
	}
	n.w.Log("node %d goes on, %d events wait", n.id, len(n.held))
	held, inc := n.held, n.incarnation
	n.paused, n.held = false, nil
	for _, do := range held {
		n.after(inc, 0, do) // not now: a power cut that one of them meets, here or on another broker, would unwind past the rest
	}
}

// stop ends the broker at once; its disk keeps what the file system has.
func (n *Node) stop() {
	n.up, n.paused, n.held = false, false, nil
	n.w.Counts.Crashes++
	n.workers, n.parts, n.syncer, n.replies = nil, nil, nil, nil
}

// fail ends a broker whose disk failed, as the process exits; a halt without a failed disk is a contradiction.
func (n *Node) fail(err error) {
	n.w.Log("node %d: %v", n.id, err)
	n.failed = err
	if !n.disk.hit && !n.disk.full {
		n.w.Break("node %d halted although its disk is well: %v", n.id, err)
		return
	}
	if n.up {
		n.stop()
	}
}

func (n *Node) tick() {
	inc := n.incarnation
	n.look()
	for i := range n.workers {
		n.post(i, engine.Event{Tick: true})
	}
	for _, peer := range n.w.nodes {
		if peer == n || !peer.up || peer.paused || n.w.cuts[link{peer.id, n.id}] {
			continue
		}
		in := peer.data.Incarnation()
		if n.met[peer.id] != in {
			n.after(inc, 0, func() { n.hears(peer.id, in) }) // in an event of its own: it may end with the power of either
			continue
		}
		for i := range n.workers {
			n.post(i, engine.Event{Clock: &engine.PeerClock{Node: peer.id, Wall: peer.wall(), Full: peer.space.Full(), At: n.w.now}})
		}
		n.greet(peer)
	}
	n.announce()
	n.after(inc, n.w.opts.TickEvery*100/n.clock.ticks, n.tick)
}

// look tells the workers how much room the disk has, as broker.watchSpace does.
func (n *Node) look() {
	free, size, err := n.fs.Space(dataDir)
	if err != nil {
		n.w.Break("node %d: free space: %v", n.id, err)
	}
	was := n.space.Full()
	share := n.space.Look(free, size, len(n.workers))
	if n.space.Full() != was {
		n.w.Log("node %d: at its reserve: %t, %d bytes free", n.id, n.space.Full(), free)
	}
	for i := range n.workers {
		n.post(i, engine.Event{Space: &share})
	}
}

func (n *Node) wall() int64 { return n.clock.read(n.w.now) }

// post puts an event into a worker's inbox; the worker takes everything that is there when its turn comes.
func (n *Node) post(worker int, ev engine.Event) {
	l := n.workers[worker]
	l.inbox = append(l.inbox, ev)
	if l.scheduled {
		return
	}
	l.scheduled = true
	n.after(n.incarnation, n.w.between(1e3, 50e3), func() { n.stepWorker(l) })
}

func (n *Node) stepWorker(l *workerLoop) {
	events := l.inbox
	l.inbox, l.scheduled = nil, false
	l.Step(n.w.now, n.wall(), events, &l.eff)
	n.reading += len(l.eff.Cold)
	for i := range events {
		if events[i].Cold != nil {
			n.reading--
		}
	}
	l.out.flush()
	inc, eff := n.incarnation, &l.eff
	if !eff.Sync.Empty() {
		q := eff.Sync
		n.syncer.Add(&q)
		n.startSync()
	}
	for _, r := range eff.Replies {
		if deliver := n.replies[r.From]; deliver != nil {
			deliver(r)
		}
	}
	for _, c := range eff.Leads {
		n.w.Counts.LeaderChanges++
		n.w.leadership(&c)
		n.w.Log("node %d: %s leader %d term %d", n.id, n.named(c.Group), c.Leader, c.Term)
		n.leads[c.Group] = c
		n.leadChanges++
	}
	for _, c := range eff.Cold {
		n.after(inc, n.diskDelay(), func() {
			c.Do()
			n.postGroup(c.Group, engine.Event{Cold: c})
		})
	}
	for _, s := range eff.Seals {
		n.w.Counts.Seals++
		n.after(inc, n.diskDelay(), func() {
			s.Err = s.Task.Do()
			n.postGroup(s.Replica.Group(), engine.Event{Seal: s})
		})
	}
	for i := range eff.Notes {
		n.note(&eff.Notes[i])
	}
	for _, x := range eff.Settled {
		n.reported(x)
	}
	if len(eff.Removed) > 0 {
		n.control(n.parts.Controller.Removed(eff.Removed))
	}
	for _, err := range eff.Halted {
		n.fail(err)
	}
}

func (n *Node) postGroup(g partition.GroupID, ev engine.Event) {
	n.post(engine.WorkerOf(g, len(n.workers)), ev)
}

func (n *Node) diskDelay() int64 {
	return n.w.between(n.w.opts.DiskDelayMin, n.w.opts.DiskDelayMax) + n.w.between(0, n.disk.slow)
}

// startSync begins the next round and the next marks if there are any. Their I/O happens when they end, so a crash before that
// loses all of it or what the file system kept by chance.
func (n *Node) startSync() {
	if !n.up {
		return // what the last round was done for has ended the broker
	}
	inc := n.incarnation
	if r := n.syncer.Next(); r != nil {
		n.w.Counts.Rounds++
		n.after(inc, n.diskDelay(), func() {
			for _, c := range n.syncer.Done(r, r.Do()) {
				if n.up && len(c.Items) > 0 {
					n.post(c.Worker, engine.Event{Synced: &c})
				}
				if n.up && len(c.Births) > 0 && c.Err == nil {
					n.control(n.parts.Controller.Born(c.Births))
				}
				if n.up && len(c.Retired) > 0 && c.Err == nil {
					for _, g := range c.Retired {
						n.retire(g)
						n.w.Counts.Faults["replica retired"]++
					}
					n.control(n.parts.Controller.Retired(c.Retired))
				}
			}
			n.startSync()
		})
	}
	if t := n.syncer.NextMarks(); t != nil {
		n.after(inc, n.diskDelay(), func() {
			n.syncer.DoneMarks(t, t.Do())
			n.startSync()
		})
	}
	if err := n.syncer.Err(); err != nil && n.failed == nil {
		n.fail(err)
	}
}

func (n *Node) viewChanged() {
	n.learn(broker.SeatsOf(n.parts.View()), true)
	n.control(n.parts.Controller.ViewChanged(n.parts.View()))
}

func (n *Node) control(eff broker.ControlEffects) {
	for _, err := range eff.Failed {
		n.fail(err)
	}
	if !n.up {
		return
	}
	for _, r := range eff.Adopt {
		n.adopt(r)
	}
	for i := range eff.Members {
		n.postGroup(eff.Members[i].Group, engine.Event{Members: &eff.Members[i]})
	}
	for i := range eff.Configure {
		n.postGroup(eff.Configure[i].Group, engine.Event{Config: &eff.Configure[i]})
	}
	for _, g := range eff.Remove {
		n.postGroup(g, engine.Event{Remove: &g})
	}
	if !eff.Sync.Empty() {
		n.syncer.Add(&eff.Sync)
		n.startSync()
	}
}
