package sim

import (
	"fmt"

	"lograft/broker/partition"
)

// note takes down what a broker says about its logs.
func (n *Node) note(d *partition.Note) {
	g := n.named(d.Group)
	switch d.Kind {
	case partition.NoteDamaged:
		n.w.Counts.Damages++
		n.w.Log("node %d: %s damaged: %v", n.id, g, d.Range)
	case partition.NoteRepaired:
		n.w.Counts.Repairs++
		n.w.Log("node %d: %s repaired from node %d: %v", n.id, g, d.Peer, d.Range)
	case partition.NoteHopeless:
		n.w.Log("node %d: %s can't be repaired entry by entry: %v: %v", n.id, g, d.Range, d.Err)
	case partition.NoteFilling:
		n.w.Counts.Fills++
		n.w.Log("node %d: %s is filled from node %d up to entry %d, %d bytes", n.id, g, d.Peer, d.Index, d.Bytes)
		n.w.filling(n.id, d.Peer)
	case partition.NoteFilled:
		n.w.Counts.Installs++
		n.w.Log("node %d: %s installed the snapshot of node %d at entry %d", n.id, g, d.Peer, d.Index)
	case partition.NoteGivenUp:
		n.w.Log("node %d: %s: offsets [%d, %d) are given up, or all behind entry %d", n.id, g, d.From, d.To, d.Index)
	case partition.NoteWhole:
		n.w.Counts.Wholes++
		n.w.Log("node %d: %s is whole again at entry %d", n.id, g, d.Index)
	case partition.NoteFillFailed:
		n.w.Log("node %d: %s: snapshot of node %d at entry %d not installed: %v", n.id, g, d.Peer, d.Index, d.Err)
	case partition.NoteKeptRotten:
		n.w.Counts.Faults["kept file rotten"]++
		n.w.Log("node %d: %s gives up the kept file that ends with entry %d: %v", n.id, g, d.Index, d.Err)
	}
}

// named is what people call a group, as far as this broker's metadata knows: topic/partition and the beginning of its id.
func (n *Node) named(g partition.GroupID) string {
	if n.parts == nil {
		return fmt.Sprintf("group %x", g[:2])
	}
	if g == n.parts.MetaGroup {
		return fmt.Sprintf("metadata (%x)", g[:2])
	}
	for _, t := range n.parts.View().Topics() {
		for i := range t.Partitions {
			if t.Partitions[i].Group == g {
				return fmt.Sprintf("%s/%d (%x)", t.Name, t.Partitions[i].Number, g[:2])
			}
		}
	}
	return fmt.Sprintf("group %x", g[:2])
}
