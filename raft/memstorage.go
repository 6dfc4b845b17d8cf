package raft

import (
	"errors"
	"slices"
)

// MemoryStorage is a Storage in memory, for tests and examples. It is not safe for concurrent use.
type MemoryStorage struct {
	hard   HardState
	conf   ConfState
	snap   Snapshot
	before entryID // the entry before the first one: where the log was compacted
	// Invariant: entries[i].Index == before.index + 1 + i.
	entries []Entry
}

var _ Storage = (*MemoryStorage)(nil)

// NewMemoryStorage makes an empty storage: no entries, no configuration.
func NewMemoryStorage() *MemoryStorage { return &MemoryStorage{} }

// NewMemoryStorageWithConfState makes a storage that is born with a configuration.
func NewMemoryStorageWithConfState(cs ConfState) *MemoryStorage {
	return &MemoryStorage{conf: cloneConf(cs), snap: Snapshot{Metadata: SnapshotMetadata{ConfState: cloneConf(cs)}}}
}

func cloneConf(cs ConfState) ConfState {
	return ConfState{Voters: slices.Clone(cs.Voters), Learners: slices.Clone(cs.Learners), VotersOutgoing: slices.Clone(cs.VotersOutgoing),
		LearnersNext: slices.Clone(cs.LearnersNext), AutoLeave: cs.AutoLeave}
}

// InitialState implements Storage.
func (s *MemoryStorage) InitialState() (HardState, ConfState, error) {
	return s.hard, cloneConf(s.conf), nil
}

// SetHardState replaces the hard state.
func (s *MemoryStorage) SetHardState(h HardState) { s.hard = h }

// SetConfState replaces the configuration that InitialState returns.
func (s *MemoryStorage) SetConfState(cs ConfState) { s.conf = cloneConf(cs) }

func (s *MemoryStorage) first() uint64 { return s.before.index + 1 }
func (s *MemoryStorage) last() uint64  { return s.before.index + uint64(len(s.entries)) }

// FirstIndex implements Storage.
func (s *MemoryStorage) FirstIndex() (uint64, error) { return s.first(), nil }

// LastIndex implements Storage.
func (s *MemoryStorage) LastIndex() (uint64, error) { return s.last(), nil }

// Term implements Storage.
func (s *MemoryStorage) Term(i uint64) (uint64, error) {
	switch {
	case i < s.before.index:
		return 0, ErrCompacted
	case i == s.before.index:
		return s.before.term, nil
	case i > s.last():
		return 0, ErrUnavailable
	}
	return s.entries[i-s.first()].Term, nil
}

// Entries implements Storage.
func (s *MemoryStorage) Entries(dst []Entry, lo, hi, maxBytes uint64, _ EntriesContext) ([]Entry, error) {
	if lo < s.first() {
		return dst, ErrCompacted
	}
	if hi > s.last()+1 || lo > hi {
		return dst, ErrUnavailable
	}
	return appendWithin(dst, s.entries[lo-s.first():hi-s.first()], maxBytes), nil
}

// appendWithin appends entries to dst: the first, then as many as fit into maxBytes with it.
func appendWithin(dst, entries []Entry, maxBytes uint64) []Entry {
	var size uint64
	for i := range entries {
		size += entries[i].size()
		if i > 0 && size > maxBytes {
			break
		}
		dst = append(dst, entries[i])
	}
	return dst
}

// Snapshot implements Storage: the last one created or applied, if it reaches requestIndex and the log goes on from it.
func (s *MemoryStorage) Snapshot(requestIndex, _ uint64) (Snapshot, error) {
	if index := s.snap.Metadata.Index; index == 0 || index < requestIndex || index < s.before.index {
		return Snapshot{}, ErrSnapshotTemporarilyUnavailable
	}
	return s.snap, nil
}

// ApplySnapshot replaces everything by a snapshot. ErrSnapshotOutOfDate if it is older than the one here, or than the log.
func (s *MemoryStorage) ApplySnapshot(snap Snapshot) error {
	if snap.Metadata.Index < max(s.snap.Metadata.Index, s.before.index) {
		return ErrSnapshotOutOfDate
	}
	s.snap, s.before = snap, entryID{snap.Metadata.Term, snap.Metadata.Index}
	s.conf = cloneConf(snap.Metadata.ConfState)
	s.hard.Commit = max(s.hard.Commit, snap.Metadata.Index)
	s.hard.Term = max(s.hard.Term, snap.Metadata.Term)
	s.entries = nil
	return nil
}

var errGap = errors.New("raft: entries don't continue the log")

// Append writes entries, overwriting from entries[0].Index on. Entries that a snapshot covers are skipped.
func (s *MemoryStorage) Append(entries []Entry) error {
	for len(entries) > 0 && entries[0].Index < s.first() {
		entries = entries[1:]
	}
	if len(entries) == 0 {
		return nil
	}
	at := entries[0].Index - s.first()
	if at > uint64(len(s.entries)) {
		return errGap
	}
	s.entries = append(s.entries[:at], entries...) // Entries gives copies: nobody shares the array
	return nil
}

// Compact drops the entries up to index, which must be in the log.
func (s *MemoryStorage) Compact(index uint64) error {
	if index < s.first() {
		return ErrCompacted
	}
	if index > s.last() {
		return ErrUnavailable
	}
	term := s.entries[index-s.first()].Term
	rest := s.entries[index+1-s.first():]
	if cap(s.entries) > 16*len(rest)+bufferMax {
		s.entries = slices.Clone(rest)
	} else { // in place: nobody shares the array
		kept := copy(s.entries, rest)
		clear(s.entries[kept:])
		s.entries = s.entries[:kept]
	}
	s.before = entryID{term, index}
	return nil
}

// CreateSnapshot makes a snapshot as of index, with cs or, if nil, the configuration of InitialState. The log stays as it is.
func (s *MemoryStorage) CreateSnapshot(index uint64, cs *ConfState, data []byte) (Snapshot, error) {
	if index < s.snap.Metadata.Index {
		return Snapshot{}, ErrSnapshotOutOfDate
	}
	term, err := s.Term(index)
	if err != nil {
		return Snapshot{}, err
	}
	if cs == nil {
		cs = &s.conf
	}
	snap := Snapshot{Data: data, Metadata: SnapshotMetadata{ConfState: cloneConf(*cs), Index: index, Term: term}}
	s.snap = snap
	return snap, nil
}
