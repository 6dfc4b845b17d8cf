// Package sim proves raft/ by running whole clusters of RawNodes on simulated
// time, network and disk, in one goroutine, from one seed.
//
// # What a run is
//
// A seed draws a plan: 1 to 5 first voters of at most 7 nodes, tick rates,
// loss, delay, read mode, how each node drives Ready (synchronous, late apply,
// asynchronous persistence). Then, for some hundreds of nominal ticks, one
// event at a time happens: a tick, a message, a finished sync, a finished
// apply, a fetched range, a client's request, a fault. After every call into a
// RawNode the checkers look at it. At the end the faults stop, and within a
// bounded number of ticks the cluster must have one leader, equal logs and no
// read unanswered.
//
// # What the simulated application promises
//
// It keeps the contract of package raft and no more: one Ready is written as a
// unit and in order; a crash keeps everything synced and any prefix of what
// was not (the last unit may lose the tail of its entries, then its commit
// index is lowered to fit, as a store does on recovery); Messages may leave
// before the sync, PersistedMessages after it. What the core must not keep
// (the slices of a stepped message) is overwritten after the call; what the
// core must not reuse early (PersistedMessages, CommittedEntries) is hashed
// when handed out and compared when used.
//
// # Limitations
//
// Disks lose what was not synced; they do not lie, and ErrEntryFaulty is
// repaired after a while. A node never comes back with an empty disk under its
// old id. In lease mode clock rates stay within 5 % of each other, every due
// tick is delivered before a read is asked, Campaign is never called by hand
// and a new replica's directory is born with term 1 synced.
package sim
