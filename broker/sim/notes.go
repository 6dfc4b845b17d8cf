package sim

import "lograft/broker/partition"

// note takes down what a broker says about its logs.
func (n *Node) note(d *partition.Note) {
	g := d.Group[:2]
	switch d.Kind {
	case partition.NoteDamaged:
		n.w.Counts.Damages++
		n.w.Log("node %d: group %x damaged: %v", n.id, g, d.Range)
	case partition.NoteRepaired:
		n.w.Counts.Repairs++
		n.w.Log("node %d: group %x repaired from node %d: %v", n.id, g, d.Peer, d.Range)
	case partition.NoteHopeless:
		n.w.Log("node %d: group %x can't be repaired entry by entry: %v: %v", n.id, g, d.Range, d.Err)
	case partition.NoteFilling:
		n.w.Counts.Fills++
		n.w.Log("node %d: group %x is filled from node %d up to entry %d, %d bytes", n.id, g, d.Peer, d.Index, d.Bytes)
		n.w.filling(n.id, d.Peer)
	case partition.NoteFilled:
		n.w.Counts.Installs++
		n.w.Log("node %d: group %x installed the snapshot of node %d at entry %d", n.id, g, d.Peer, d.Index)
	case partition.NoteGivenUp:
		n.w.Log("node %d: group %x: offsets [%d, %d) are given up, or all behind entry %d", n.id, g, d.From, d.To, d.Index)
	case partition.NoteWhole:
		n.w.Counts.Wholes++
		n.w.Log("node %d: group %x is whole again at entry %d", n.id, g, d.Index)
	case partition.NoteFillFailed:
		n.w.Log("node %d: group %x: snapshot of node %d at entry %d not installed: %v", n.id, g, d.Peer, d.Index, d.Err)
	}
}
