package partition

import "lograft/segment"

// NoteKind says what a Note is about.
type NoteKind uint8

// The kinds of notes, and the fields of Note that each one sets.
const (
	NoteDamaged    NoteKind = iota + 1 // Range: found now
	NoteRepaired                       // Range, Peer: by entries of peers
	NoteHopeless                       // Range, Err: not entry by entry
	NoteFilling                        // Peer, Index, Bytes: a snapshot's files are being fetched
	NoteFilled                         // Peer, Index, Bytes: and are installed
	NoteGivenUp                        // From, To or Index: an operator gave up records, or what only a lost log held
	NoteWhole                          // Index: a lost log is refilled; the replica counts as any other again
	NoteFillFailed                     // Peer, Index, Err: the leader will send it again
	NoteKeptRotten                     // Index, Err: a file that was kept for fills only is bad and given up
	NoteForced                         // Gone, Index, From: an operator has the group go on without a majority that is gone; the log ends there
)

// Note is what operators are told about a replica's log.
type Note struct {
	Group     GroupID
	ReplicaID uint64
	Kind      NoteKind
	Range     segment.FaultyRange
	Peer      uint64 // node that gave the last entry, or sends the files
	Index     uint64 // that the snapshot ends with
	Bytes     int64  // of the snapshot's files
	From, To  int64  // offsets given up: [From, To)
	Err       error
	Gone      []uint64 // replica ids
}

func (r *Replica) note(env *Env, n Note) {
	n.Group, n.ReplicaID = r.opts.Group, r.opts.ReplicaID
	env.Notes = append(env.Notes, n)
}
