// Package raft is the Raft consensus algorithm as a pure state machine: a RawNode takes ticks, messages and calls, and hands out in a
// Ready what the app has to store, send and apply. It starts no goroutine, takes no lock, reads no clock, draws no chance of its own
// and does no I/O: time is Tick, chance is Config.Rand, the disk is what the app does with a Ready, and reads go through Storage. The
// same inputs make the same outputs, byte for byte.
//
// It speaks the protocol of raft-rs and etcd's raft (message numbers, configuration changes in protobuf wire format) and does what
// raft-rs does: pre-vote, check-quorum, learners, joint configurations, leader transfer, priorities, group commit, ReadIndex by quorum
// or lease, asynchronous persistence and asynchronous log fetch.
//
// # Driving a node
//
// One goroutine owns a RawNode. After every input:
//
//	for n.HasReady() {
//		rd := n.Ready()
//		send(rd.Messages)                        // before the disk: this is what makes a leader's and its followers' syncs overlap
//		store(rd.Snapshot, rd.Entries)           // overwriting from rd.Entries[0].Index on
//		if rd.HasHardState { storeHardState(rd.HardState) }
//		if rd.MustSync { sync() }
//		send(rd.PersistedMessages)               // after the sync, never before
//		install(rd.Snapshot)
//		apply(rd.CommittedEntries)               // a configuration change also goes to ApplyConfChange
//		light := n.Advance(rd)
//		send(light.Messages)
//		apply(light.CommittedEntries)
//		n.AdvanceApply()
//	}
//
// With a sync of its own, the app does not wait for the disk:
//
//	rd := n.Ready()
//	send(rd.Messages)
//	write(rd)                                        // from here on Storage must be able to read the entries
//	n.AdvanceAppendAsync(rd)
//	... other inputs, other Readys ...
//	synced := newestNumberOnDisk()                   // a Ready is on disk when everything up to it is
//	sendPersistedMessagesUpTo(synced)
//	n.OnPersistReady(synced)
//	...
//	n.AdvanceApplyTo(index)                          // whenever entries have been applied, in order
//
// # What must be on disk before what
//
//   - A Ready is stored as a unit, in order of Number: its HardState never reaches the disk later than its Entries or Snapshot. A crash
//     may keep any prefix of the units that were not synced.
//   - PersistedMessages leave when their Ready and all before it are synced. They are: answers to appends and votes, because they promise
//     what is on our disk; vote and pre-vote requests, because they advertise a term and a last entry; and every message of a leader
//     while the sync of its term or vote is not reported.
//   - A HardState that only moves Commit needs no sync. After a crash Config.Applied may therefore be above the stored commit index.
//   - With a Snapshot, HardState.Commit is at least its index, and there are no CommittedEntries. It counts as applied at Advance, or at
//     AdvanceApplyTo(its index) once it was reported persisted. Before the app steps a MsgSnapshot it finishes the applies it was given.
//   - An entry is handed out to be applied when it is committed and, unless MaxApplyUnpersistedLogLimit says otherwise, on our own disk.
//
// # How long slices live
//
// Entry.Data, Entry.Context and Snapshot.Data are immutable and may be kept by both sides for ever. Everything else is borrowed:
//
//	Ready, its Messages, Entries, states and reads    until the Advance, AdvanceAppend or AdvanceAppendAsync that ends it
//	PersistedMessages and the entries they carry      until OnPersistReady(its Number or higher) or the synchronous Advance
//	CommittedEntries                                  until AdvanceApply, AdvanceApplyTo or Advance covers them
//	LightReady                                        until the next Ready or Advance; its CommittedEntries until applied
//	what Step was given                               stays the caller's; the core keeps copies
//
// # When which call is legal
//
// Between Ready and the call that ends it only Err, Status, BasicStatus, VisitProgress, HasReady, Tick, TickN, OnPersistReady, OnEntriesFetched
// and ApplyConfChange have an effect; of the others, setters and AdvanceApply included, those with an error return ErrReadyOutstanding.
// Several Readys may be unsynced at once.
// ApplyConfChange is legal at any time, in entry order, before AdvanceApply passes the entry. It may ask Storage for a snapshot: one as of
// the very entry must not be offered before its configuration is known.
//
// After a FatalError the node is poisoned: HasReady is false, Readys are empty, every call with an error returns it, and nothing of an
// unsynced Ready may be sent or applied any more.
//
// # The rules
//
// Twelve rules in which it is stricter than the libraries that it follows. Each has a test TestRuleNN that goes red without it.
//
//  1. A lease counts from the tick its heartbeat was sent in, less a margin, and rests on a promise that outlives terms and restarts.
//  2. Vote requests wait for the disk.
//  3. A leader's messages wait for the disk while its term or vote is not on it.
//  4. A read is known by a number that the core made, never by the caller's bytes; one round serves all reads queued before it.
//  5. Every read ends once: in ReadStates, or in DroppedReads with a reason.
//  6. No input panics. Bad messages are ErrInvalidMessage; an impossible state poisons the node with one FatalError.
//  7. A refused proposal says why and leaves nothing behind.
//  8. A removed leader commits the tail that it had, counting the others only, and then follows.
//  9. A snapshot whose report was lost blocks its peer for SnapshotTimeoutTick at most.
//  10. Merged appends obey MaxSizePerMsg, windows are limited in messages and bytes, buffers give memory back.
//  11. Nothing is allocated per proposal in steady state, and no order depends on a map.
//  12. A message is never kept or changed.
//
// # Eager elections
//
// With Config.EagerElections, off by default and unknown to raft-rs and etcd, an election that did not end at once is not left alone for a
// whole timeout: a candidate or pre-candidate repeats its request to those who have not answered 1, 2, 4, ... ticks later; a voter that
// refuses a worse log than its own stands itself 2 ticks later, as does of two candidates that split the votes the one with the better log,
// higher priority or higher id, and who was refused for its old term. A vote just given and an open round that is not split get ElectionTick/2
// ticks before that: to stand again earlier throws votes away that are on their way. None of it if a leader was heard within ElectionTick ticks, and
// nothing of who may get a vote changes, so that members with and without it can be mixed.
//
// # Leases and clocks
//
// ReadOnlyLeaseBased answers a read without asking anyone while now - sent < ElectionTick - LeaseMarginTick, sent being the tick in
// which the newest heartbeat round that a quorum acknowledged was sent. It is right if, while a voter counts ElectionTick - 1 ticks, no
// leader counts fewer than ElectionTick - LeaseMarginTick; the margin pays for clocks of different speed. The app owes that every tick
// due by the monotonic clock is delivered before a lease read is asked, also after a pause of the process. A node restarted with a
// non-empty HardState keeps silent for one election timeout. Campaign by hand breaks the promise: don't call it where leases are used.
// Without a valid lease a read falls back to a quorum round.
//
// # Limitations
//
//   - A configuration change takes effect when it is applied, not when it is appended (as in raft-rs and etcd, unlike the dissertation).
//     A group whose members have not learnt of a removal may need the removed member's vote once more: keep it running until
//     the others have applied the change.
//   - A leader that removed itself with StepDownOnRemoval off leads until it hands over: transfer leadership away from it.
//   - A follower that asked for a snapshot acknowledges no read rounds until it has it.
//   - Priority decides between equal logs only, and a group whose favoured node can't lead elects nobody: lower its priority.
//   - A disk that loses what it acknowledged, or a node that comes back empty under its old id, is beyond what Raft can bear: a
//     contradiction is reported as a FatalError where it is seen, not prevented.
//   - Terms end at 2^31.
package raft
