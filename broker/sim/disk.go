package sim

import (
	"math/rand/v2"
	"syscall"

	"lograft/segment/vfs"
)

// disk is what stands between a broker and its file system: it fails calls, cuts the power in the middle of an event, and makes
// syncs and reads slow. It implements vfs.Injector.
type disk struct {
	n *Node
	// slow is added to the time of a sync, a seal and a cold read, at most, ns.
	slow int64
	// cutAfter is how many changes the disk still carries out before the power goes; 0: it stays on.
	cutAfter int
	armed    []diskFault
	// hit: a call of this start of the broker was failed.
	hit bool
	// full: there is no room beyond what the files take.
	full bool
	// lost are the files whose sync failed: the kernel forgot what was dirty, so what they are told to sync later never gets there.
	lost map[string]bool
}

// diskFault fails the next call of an operation, once.
type diskFault struct {
	op   vfs.Op
	skip int
}

// powerCut is thrown out of a disk call and caught by World.step.
type powerCut struct {
	node   *Node
	during vfs.Call
}

// files is the broker's file system with its disk's faults.
func (n *Node) files() vfs.FS { return &tracked{FS: vfs.Inject(n.fs, n.disk), open: n.handles} }

// Before implements vfs.Injector.
func (d *disk) Before(c vfs.Call) vfs.Fault {
	d.power(c)
	d.n.swaps(c)
	for i := range d.armed {
		f := &d.armed[i]
		if f.op != c.Op {
			continue
		}
		if f.skip > 0 {
			f.skip--
			continue
		}
		d.armed = append(d.armed[:i], d.armed[i+1:]...)
		d.hit = true
		d.n.w.Counts.Faults["disk error on "+c.Op.String()]++
		d.n.w.Log("node %d: disk fails %s %s", d.n.id, c.Op, c.Path)
		if c.Op == vfs.OpSync {
			d.lost[c.Path] = true
		}
		if d.n.up && c.Op != vfs.OpRead {
			d.n.mustStop(c)
		}
		return vfs.Fault{Err: syscall.EIO, Short: d.n.w.rng.IntN(c.Bytes + 1)}
	}
	if c.Op == vfs.OpSync && d.lost[c.Path] {
		return vfs.Fault{Lie: true}
	}
	return vfs.Fault{}
}

// power goes when enough changes were made.
func (d *disk) power(c vfs.Call) {
	if d.cutAfter > 0 && c.Op.Changes() {
		if d.cutAfter--; d.cutAfter == 0 {
			panic(powerCut{d.n, c})
		}
	}
}

// stopMax is how long a broker may run after its disk failed a change: a seal learns of it a little later.
const stopMax = int64(3e9)

// mustStop demands that the broker stops, because its disk failed a change; unless that was in the directory of a replica that was being
// removed: a task of a closed log makes nothing durable and fails for nothing (segment.SyncTask.Do).
func (n *Node) mustStop(c vfs.Call) {
	n.after(n.incarnation, stopMax, func() {
		if g, ok := groupOf(c.Path); ok && n.Replica(g) == nil {
			n.w.Log("node %d: what failed was of group %x, which is gone from here", n.id, g[:2])
			return
		}
		n.w.Break("node %d runs on %d s after its disk failed %s %s", n.id, stopMax/1e9, c.Op, c.Path)
	})
}

// restart readies the disk for the next start of its broker: after an error the caches are gone.
func (d *disk) restart() {
	if d.hit {
		d.n.fs = d.n.fs.Crash(rand.New(rand.NewPCG(d.n.w.rng.Uint64(), d.n.w.rng.Uint64())))
	}
	d.hit, d.lost = false, map[string]bool{}
}

// heal makes the disk well: fast, without errors, with room.
func (d *disk) heal() {
	d.armed, d.cutAfter, d.slow = nil, 0, 0
	d.setFull(false)
}

// setFull takes all but a little room away, so that writes fail, or gives it back.
func (d *disk) setFull(full bool) {
	d.full = full
	if full {
		d.n.fs.SetLimit(d.n.fs.Used() + int64(d.n.w.rng.IntN(16<<10)))
	} else {
		d.n.fs.SetLimit(0)
	}
}

// setRoom leaves so many bytes; the broker must get along with them: a write that finds no room is not forgiven.
func (d *disk) setRoom(bytes int64) { d.n.fs.SetLimit(d.n.fs.Used() + bytes) }

// cutOff is the power cut in the middle of a disk call.
func (n *Node) cutOff(c vfs.Call) {
	n.w.Log("node %d power cut before %s %s", n.id, c.Op, c.Path)
	n.w.Counts.Faults["power cut at a disk call"]++
	n.w.Counts.PowerCuts++
	n.stop()
	n.fs = n.fs.Crash(rand.New(rand.NewPCG(n.w.rng.Uint64(), n.w.rng.Uint64())))
}
