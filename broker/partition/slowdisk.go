package partition

import "lograft/raft"

// slowDisk watches whether what this replica must make stable gets there. It counts ticks, because a disk that hangs answers nothing.
type slowDisk struct {
	number uint64 // the Ready that waited longest at the last tick
	ticks  int    // for how many ticks it has waited
}

// watchDisk moves leadership away when a sync has taken half of the shortest election timeout and a follower already holds more on
// stable storage than this replica: no answer comes without our own disk, and theirs is faster. It tries again as long as that lasts.
// On a follower a slow disk does not matter: the others are the majority.
func (r *Replica) watchDisk() {
	d := &r.slow
	if r.role != raft.StateLeader || len(r.persist.readys) == 0 {
		*d = slowDisk{}
		return
	}
	if first := r.persist.readys[0].number; first != d.number {
		*d = slowDisk{number: first}
		return
	}
	d.ticks++
	if limit := max(1, r.opts.ElectionTicks/2); d.ticks%limit != 0 {
		return
	}
	if to, match := r.bestFollower(); to != 0 && match > r.log.Durable() {
		r.node.TransferLeader(to)
	}
}
