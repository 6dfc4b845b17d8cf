package sim

import (
	"encoding/binary"
	"errors"
	"io/fs"

	"lograft/broker"
	"lograft/broker/datadir"
	"lograft/broker/partition"
	"lograft/segment/vfs"
)

// Who listens to whom, as the real driver does (broker/node.go): the data directory is the real one, raises its boot number at each start,
// and remembers whom it has met.

// dirFiles is the disk below the directory's own files: it loses power, and has no room, but no call of it fails. A broker whose memory
// of others can't be written does not listen to them, and does not stop.
func (n *Node) dirFiles() vfs.FS { return vfs.Inject(n.fs, powerOnly{n.disk}) }

type powerOnly struct{ d *disk }

// Before implements vfs.Injector.
func (p powerOnly) Before(c vfs.Call) vfs.Fault {
	p.d.power(c)
	return vfs.Fault{}
}

// openDir opens the broker's data directory for a new start.
func (n *Node) openDir() error {
	d, err := datadir.OpenOn(n.dirFiles(), datadir.Options{Dir: dataDir, ClusterName: "sim", NodeID: n.id, Random: func(b []byte) {
		if len(b) == len(n.dir) {
			copy(b, n.dir[:])
			return
		}
		binary.LittleEndian.PutUint64(b, n.w.rng.Uint64())
	}})
	if err != nil {
		return err
	}
	if id := d.Identity().DirID; id != n.dir {
		n.w.Break("node %d opens directory %x and has %x", n.id, id[:4], n.dir[:4])
	}
	n.data, n.met = d, map[uint64]datadir.Incarnation{}
	n.learn(broker.BirthSeats(n.birth), true)
	n.learn(n.told, false)
	return nil
}

// learn takes seats. What finds no room on the disk comes again.
func (n *Node) learn(seats []datadir.Seat, own bool) {
	if _, err := n.data.Learn(seats, own); err != nil {
		n.w.Note("node %d does not learn: %v", n.id, err)
	}
}

// hears reports whether a frame of a start of another broker is taken: the two have met, or meet now.
func (n *Node) hears(from uint64, in datadir.Incarnation) bool {
	if from == n.id || n.met[from] == in { // with itself a broker agrees: a group on the move may have two replicas there
		return true
	}
	peer := n.w.Node(from)
	if !peer.up || peer.paused || peer.data.Incarnation() != in || n.refuses(peer) || peer.refuses(n) {
		return false
	}
	if n.stray || peer.stray {
		n.w.Break("nodes %d and %d listen to each other, and one of them runs on an old copy of its directory", n.id, from)
	}
	n.met[from], peer.met[n.id] = in, n.data.Incarnation()
	n.learn(peer.data.Seats(), false)
	peer.learn(n.data.Seats(), false)
	return true
}

// refuses reports whether a broker does not listen to another one. It may not know yet which directory speaks for the other one; but no
// start of the right one is taken for an old copy.
func (n *Node) refuses(peer *Node) bool {
	in := peer.data.Incarnation()
	err := n.data.CheckPeer(peer.id, in, peer.data.Identity().Starts)
	var disk *fs.PathError
	switch {
	case err == nil:
		return false
	case peer.stray:
		n.w.Counts.Faults["old copy refused"]++
	case n.data.Seated(peer.id, in.DirID) == nil && !n.stray && !errors.As(err, &disk):
		n.w.Break("node %d does not listen to node %d: %v", n.id, peer.id, err)
	}
	n.w.Note("node %d does not listen to node %d: %v", n.id, peer.id, err)
	return true
}

// greet lets a broker learn from another one which replicas of the metadata group there are.
func (n *Node) greet(peer *Node) {
	n.learn(peer.data.Seats(), false)
	var index uint64
	var peers []partition.Peer
	for _, s := range peer.parts.View().Seats() {
		if s.ReplicaID != 0 {
			index = max(index, s.Since)
			peers = append(peers, partition.Peer{ReplicaID: s.ReplicaID, Node: s.NodeID})
		}
	}
	if index <= n.seat.rosterIndex {
		index, peers = peer.seat.rosterIndex, peer.seat.roster
	}
	if index > n.seat.rosterIndex {
		n.seat.rosterIndex, n.seat.roster = index, peers
		n.control(n.parts.Controller.RosterChanged(index, peers))
	}
}

// keep copies the directory of the broker that may lose it, before a start.
func (n *Node) keep() {
	if n != n.w.doomed() || n.kept != nil || n.stray || !n.seat.joined || n.data == nil || n.w.percent(50) {
		return
	}
	n.kept, n.keptBoot = n.fs.Clone(), n.data.Incarnation().Boot
	n.kept.SetLimit(0)
}

// loseDirectory empties a broker's disk: everything that it held is lost, and it comes back with another directory. Only one broker of
// a run ever loses its files, and again only when everything that it held is replaced: else a majority could be lost.
func (n *Node) loseDirectory() bool {
	if !n.mayLose() {
		return false
	}
	n.w.Log("node %d: its directory %x is lost", n.id, n.dir[:4])
	n.gone()
	n.empty()
	return true
}

// putBack replaces a broker's directory by an old copy of it, of before a start that every other broker has met. Nobody may listen to it
// however often it is started; then somebody empties it.
func (n *Node) putBack() bool {
	w := n.w
	if n.kept == nil || !n.mayLose() {
		return false
	}
	for _, o := range w.nodes {
		if seen := o.data.Seen(n.id); o != n && (seen.DirID != n.dir || seen.Boot <= n.keptBoot) {
			return false // it can't know better
		}
	}
	w.Log("node %d: an old copy of its directory %x is put back, of boot %d", n.id, n.dir[:4], n.keptBoot)
	n.gone()
	n.fs, n.disk, n.stray = n.kept, &disk{n: n}, true
	n.kept, n.seat = nil, seat{joined: true, lost: n.seat.lost}
	n.bootLater(w.between(0, 500e6))
	for range 3 {
		w.After(w.between(500e6, 6e9), func() {
			if n.stray && n.lose((*Node).Kill) {
				n.bootLater(w.between(0, 500e6))
			}
		})
	}
	w.After(w.between(2e9, 8e9), n.endStray)
	return true
}

// endStray empties the directory of a broker that runs on an old copy.
func (n *Node) endStray() {
	if n.stray {
		n.w.Log("node %d: the old copy is deleted", n.id)
		n.gone()
		n.stray = false
		n.empty()
	}
}

// mayLose reports whether everything that a broker holds may be lost.
func (n *Node) mayLose() bool {
	w := n.w
	return (w.victim == nil || w.victim == n) && n.seat.joined && !n.stray && w.whole(n)
}

// gone ends a broker whose directory is no more.
func (n *Node) gone() {
	n.Kill()
	for g := range n.ids {
		n.retire(g) // in any order: nothing is drawn
	}
	n.era++
	n.w.victim, n.w.rot = nil, nil
}

// empty gives a broker an empty directory.
func (n *Node) empty() {
	w := n.w
	n.fs, n.disk, n.kept = vfs.NewMem(), &disk{n: n}, nil
	for i := range n.dir {
		n.dir[i] = byte(w.rng.IntN(256))
	}
	n.seat = seat{lost: n.seat.lost + 1}
	if err := errors.Join(n.fs.MkdirAll(dataDir), n.fs.SyncDir(".")); err != nil {
		w.Break("node %d: %v", n.id, err)
	}
	n.bootLater(w.between(100e6, 4e9))
}
