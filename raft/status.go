package raft

// BasicStatus is a node's state at a glance.
type BasicStatus struct {
	ID                                            uint64
	HardState                                     HardState
	SoftState                                     SoftState
	Applied, Persisted, LastIndex, LeadTransferee uint64
}

// Status is everything that a node knows of the group: copies.
type Status struct {
	BasicStatus
	Conf     ConfState
	Progress map[uint64]Progress // on a leader; else empty
}

// BasicStatus copies the node's state without allocating.
func (n *RawNode) BasicStatus() BasicStatus {
	r := &n.r
	return BasicStatus{ID: r.id, HardState: r.hardState(), SoftState: r.softState(), Applied: r.log.applied, Persisted: r.log.persisted,
		LastIndex: r.log.last(), LeadTransferee: r.transferee}
}

// Status copies everything.
func (n *RawNode) Status() Status {
	s := Status{BasicStatus: n.BasicStatus(), Conf: n.r.conf.state(), Progress: map[uint64]Progress{}}
	if n.r.state == StateLeader {
		n.VisitProgress(func(id uint64, pr *Progress) { s.Progress[id] = *pr })
	}
	return s
}

// VisitProgress visits every member in order of id, without allocating. pr is good during the call.
func (n *RawNode) VisitProgress(visit func(id uint64, pr *Progress)) {
	for i := range n.r.peers {
		n.r.peers[i].progress(&n.visited)
		visit(n.r.peers[i].id, &n.visited)
	}
}
