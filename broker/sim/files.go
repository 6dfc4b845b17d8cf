package sim

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"lograft/broker/cluster"
	"lograft/broker/partition"
	"lograft/broker/sim/check"
	"lograft/segment/vfs"
)

// agree is C7: every group's replicas have applied everything, and hold the same segments and checkpoints, byte by byte.
func (r *Run) agree() error {
	if err := r.wanted(); err != nil {
		return err
	}
	v := r.view()
	groups := []cluster.Partition{v.Metadata}
	for _, t := range v.Topics() {
		groups = append(groups, t.Partitions...)
	}
	for i := range groups {
		if err := r.agreeOn(&groups[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *Run) agreeOn(p *cluster.Partition) error {
	files := map[uint64]check.Files{}
	var applied uint64
	for i, m := range p.Replicas {
		n := r.Node(m.NodeID)
		replica := n.Replica(p.Group)
		if replica == nil {
			return fmt.Errorf("node %d has no replica of group %x", n.id, p.Group[:2])
		}
		if i == 0 {
			applied = replica.Applied()
		}
		if last := replica.Node().BasicStatus().LastIndex; replica.Applied() != applied || last != applied {
			return fmt.Errorf("group %x: node %d has applied %d of %d, node %d %d", p.Group[:2], n.id, replica.Applied(), last, p.Replicas[0].NodeID, applied)
		}
		if err := asWanted(p, replica); err != nil {
			return fmt.Errorf("node %d: %w", n.id, err)
		}
		f, err := n.segments(p.Group)
		if err != nil {
			return err
		}
		maps.DeleteFunc(f, func(name string, _ []byte) bool { // given up, and pinned for somebody who is sent it
			var base uint64
			_, err := fmt.Sscanf(name, "%d.log", &base)
			return err == nil && strings.HasSuffix(name, ".log") && base < replica.FirstIndex()
		})
		if name := fmt.Sprintf("%020d.log", applied+1); len(f[name]) == segmentHead {
			delete(f, name) // begun with an install; who rolled begins it with the next entry
			if replica.FirstIndex() > applied {
				continue // a snapshot is all that it holds
			}
		}
		files[n.id] = f
	}
	if len(files) == 0 {
		return nil
	}
	r.forgive(p.Group, files)
	if r.Counts.Fills > 0 { // perhaps a restart finished one
		dropStates(files)
	}
	return check.Identical(fmt.Sprintf("%x", p.Group[:2]), files)
}

// dropStates takes out the checkpoints that not every replica has: one that was filled got the newest only, and where no segment came
// with it, as for a state machine, its name is another one (architecture D12).
func dropStates(files map[uint64]check.Files) {
	count := map[string]int{}
	for _, f := range files {
		for name := range f {
			count[name]++
		}
	}
	for _, f := range files {
		maps.DeleteFunc(f, func(name string, _ []byte) bool { return strings.HasSuffix(name, ".state") && count[name] < len(files) })
	}
}

// forgive turns back the bits of the victim's files that nothing has read since they were turned: no record is in them, and only a
// check of the whole file would find them.
func (r *Run) forgive(g partition.GroupID, files map[uint64]check.Files) {
	for _, bit := range r.rot {
		dir, name := path.Split(bit.file)
		if dir != fmt.Sprintf("%s/groups/%x/", dataDir, g) {
			continue
		}
		mine := files[r.victim.id][name]
		for _, n := range r.nodes {
			theirs := files[n.id][name]
			if n != r.victim && len(mine) == len(theirs) && int64(len(mine)) > bit.off && mine[bit.off]^bit.mask == theirs[bit.off] {
				mine[bit.off] ^= bit.mask
				r.unread[bit] = true
			}
		}
	}
}

// stable is C1 at its root: what was just acknowledged would survive if all power went now, on a majority of its voters. The record
// was sent without compression. While a partition is on the move only its leader knows who votes.
func (r *Run) stable(number int32, value string) {
	p := r.current(number)
	if p.Moving() {
		return
	}
	count := 0
	for _, m := range p.Replicas {
		n := r.Node(m.NodeID)
		if n == r.victim || n.stray || n.dir != m.Dir || n.holds(p.Group, value) {
			count++
		}
	}
	r.Counts.Faults["acknowledged and stable"]++
	if 2*count <= len(p.Replicas) {
		r.Break("C1: %q was acknowledged and is on stable storage of %d of %d replicas", value, count, len(p.Replicas))
	}
}

// holds reports whether a record is in what is synced of a group's log.
func (n *Node) holds(g partition.GroupID, value string) bool {
	fs := n.fs.Synced()
	dir := fmt.Sprintf("%s/groups/%x", dataDir, g)
	names, err := fs.List(dir)
	if err != nil {
		return false
	}
	for _, name := range slices.Backward(names) {
		if !strings.HasSuffix(name, ".log") {
			continue
		}
		if b, err := readFile(fs, dir+"/"+name); err == nil && bytes.Contains(b, []byte(value)) {
			return true
		}
	}
	return false
}

// segments are the replicated files of a group: segments and their checkpoints.
func (n *Node) segments(g partition.GroupID) (check.Files, error) {
	dir := fmt.Sprintf("%s/groups/%x", dataDir, g)
	names, err := n.fs.List(dir)
	if err != nil {
		return nil, err
	}
	files := check.Files{}
	for _, name := range names {
		if strings.HasSuffix(name, ".log") || strings.HasSuffix(name, ".state") {
			if files[name], err = readFile(n.fs, dir+"/"+name); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}

func readFile(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return nil, err
	}
	return b, nil
}
