package broker

import (
	"fmt"

	"lograft/broker/partition"
)

// Notes implements engine.Sink: what happens to a log is said.
func (n *node) Notes(notes []partition.Note) {
	for i := range notes {
		d := &notes[i]
		log := n.log.With("group", fmt.Sprintf("%x", d.Group), "replica", d.ReplicaID)
		switch d.Kind {
		case partition.NoteDamaged:
			log.Error("replica has damaged entries: it serves the rest, leads no more and fetches them from other replicas", "faulty", d.Range.String())
		case partition.NoteRepaired:
			log.Info("damaged entries were repaired", "faulty", d.Range.String(), "peer", d.Peer)
		case partition.NoteHopeless:
			log.Error("damaged entries can't be repaired one by one: other replicas serve them", "faulty", d.Range.String(), "err", d.Err)
		case partition.NoteFilling:
			log.Info("replica is far behind: it fetches a snapshot's segments", "peer", d.Peer, "index", d.Index, "bytes", d.Bytes)
		case partition.NoteFilled:
			log.Info("snapshot is installed", "peer", d.Peer, "index", d.Index, "bytes", d.Bytes)
		case partition.NoteGivenUp:
			if d.From < d.To {
				log.Error("records are given up because an operator accepted their loss", "from", d.From, "to", d.To)
			} else {
				log.Error("what only the lost log held is given up because an operator accepted its loss", "last_index", d.Index)
			}
		case partition.NoteWhole:
			log.Info("the lost log is refilled: the replica votes and serves again", "index", d.Index)
		case partition.NoteForced:
			log.Error("the group goes on without replicas that never come back because an operator accepted the loss of what only they held", "gone", d.Gone, "last_index", d.Index, "next_offset", d.From)
		case partition.NoteFillFailed:
			log.Warn("snapshot was not installed: what was fetched is kept for the next try", "peer", d.Peer, "index", d.Index, "err", d.Err)
		case partition.NoteKeptRotten:
			log.Warn("a file kept for replicas that are behind is damaged and given up: they get a snapshot that begins behind it", "index", d.Index, "err", d.Err)
		}
	}
}
