package broker

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync/atomic"

	"lograft/broker/cluster"
	"lograft/broker/group"
	"lograft/broker/partition"
	"lograft/raft"
	"lograft/segment"
	"lograft/segment/journal"
	"lograft/segment/vfs"
)

// groupOptions is what every replica of this broker is opened with.
type groupOptions struct {
	fs               vfs.FS
	dataDir          string
	seed             uint64 // of every replica's chance
	electionTicks    int
	heartbeatTicks   int
	segmentBytes     int64 // of state machine groups
	tailCacheBytes   int
	catchUpBytes     int64
	messageBytes     uint64
	fillBytesPerTick int
	preferWindows    int
	refill           bool                 // this one's log was lost: it begins with nothing
	endLost          bool                 // this one's log lost its end, and no leader has filled it since
	acceptLoss       bool                 // of this one's log everything from the first bad byte on is given up
	acceptedLast     uint64               // up to this entry it is to be kept then
	view             func() *cluster.View // the metadata applied here
	files            *segment.FileBudget
	tails            *segment.TailBudget
}

// machine is the state machine that a partition's birth asks for, nil for a data partition.
func (o *groupOptions) machine(b *cluster.PartitionBirth) partition.Machine {
	if !b.Groups {
		return nil
	}
	return group.NewCoordinator(group.Options{Metadata: func() (uint64, func(string) (cluster.ID, int32, bool)) {
		v := o.view()
		return v.Version, func(name string) (cluster.ID, int32, bool) {
			t, ok := v.TopicByName(name)
			if !ok {
				return cluster.ID{}, 0, false
			}
			return t.ID, int32(len(t.Partitions)), true
		}
	}})
}

// Bounds of the tail caches: a group's holds what is in flight to its followers, or a leader reads its own file to send it; those of
// many groups share a bound, by their number when each is opened, and by a budget that all draw on (segment.TailBudget), which counts.
const (
	tailCacheTotal  = 512 << 20
	tailCacheLowest = 1 << 20
)

// openFilesMax bounds the open files of all logs together, but for one sealed segment and the unsealed ones of each.
const openFilesMax = 2048

// tailCacheOf is the bound of one group's tail cache among so many.
func tailCacheOf(bytesMax, groups int) int {
	return min(bytesMax, max(tailCacheTotal/max(groups, 1), tailCacheLowest))
}

// groupDir is where a group's segments are: named by its uuid, never by a topic's name (storage.md "Format").
func groupDir(dataDir string, g partition.GroupID) string {
	return filepath.Join(dataDir, "groups", hex.EncodeToString(g[:]))
}

// birthStart is the entry before the first one of every group: the birth snapshot (architecture D12).
var birthStart = segment.Start{Index: 1, Term: 1}

// logOptions are those of a group's log, with the promises that the journal holds for it, and what the log begins with.
func logOptions(o *groupOptions, st *journal.GroupState, damaged bool, birth *cluster.PartitionBirth) (segment.Options, raft.ConfState) {
	segmentBytes := birth.Settings.SegmentBytes
	if segmentBytes == 0 {
		segmentBytes = o.segmentBytes
	}
	// A replica that was not born with its group has no configuration and no log before a leader sends it a snapshot (architecture D12).
	start, conf := segment.Start{}, raft.ConfState{}
	if o.refill {
		// Likewise, whether it was born with its group or not.
	} else if slices.Contains(birth.Voters, st.Birth.ReplicaID) || slices.Contains(birth.Learners, st.Birth.ReplicaID) {
		start = birthStart
		conf.Voters = append(conf.Voters, birth.Voters...)
		conf.Learners = append(conf.Learners, birth.Learners...)
	}
	return segment.Options{
		FS: o.fs, Dir: groupDir(o.dataDir, st.Birth.Group), Group: segment.GroupID(st.Birth.Group), Start: start,
		SegmentBytes: segmentBytes, LimitOf: partition.SegmentLimit, TailCacheBytes: o.tailCacheBytes, Files: o.files, Tails: o.tails,
		Mark: segment.Mark(st.Mark), CommitFloor: st.HardState.Commit, Snapshot: segment.SnapshotMark(st.Snapshot), JournalDamaged: damaged,
		AcceptLoss: o.acceptLoss, AcceptedLast: o.acceptedLast,
	}, conf
}

// openGroup opens the log of a group that is born here and builds its replica with the promises that the journal holds for it.
// A damaged log is not hidden: the replica serves what is good, does not stand for election, and recovery says what is bad.
func openGroup(o groupOptions, st journal.GroupState, damaged bool, birth *cluster.PartitionBirth, machine partition.Machine) (*partition.Replica, segment.Recovery, error) {
	peers := make([]partition.Peer, len(birth.Replicas))
	for i, r := range birth.Replicas {
		peers[i] = partition.Peer{ReplicaID: r.ID, Node: r.NodeID}
	}
	lo, conf := logOptions(&o, &st, damaged, birth)
	log, recovery, err := segment.Open(lo)
	if err != nil {
		return nil, recovery, fmt.Errorf("group %x: %w", st.Birth.Group, err)
	}
	rng := rand.New(rand.NewPCG(o.seed, st.Birth.ReplicaID))
	hard := partition.RestoredHardState(raft.HardState(st.HardState), log, st.Birth.ReplicaID)
	r, err := partition.New(partition.Options{
		Group: st.Birth.Group, ReplicaID: st.Birth.ReplicaID, Peers: peers, Birth: conf, Born: lo.Start.Index, Log: log, Hard: hard, Machine: machine, Config: partitionConfig(birth.Settings),
		Refill: o.refill || o.endLost, Whole: func() error { return segment.EndRefill(o.fs, lo.Dir) },
		FirstLeader:   len(birth.Voters) > 0 && birth.Voters[0] == st.Birth.ReplicaID,
		ElectionTicks: o.electionTicks, HeartbeatTicks: o.heartbeatTicks, Rand: rng.IntN, ForwardProposals: machine != nil,
		CatchUpBytes: o.catchUpBytes, BytesPerMessage: o.messageBytes, FillBytesPerTick: o.fillBytesPerTick, PreferWindows: o.preferWindows,
	})
	if err != nil {
		return nil, recovery, errors.Join(err, log.Close())
	}
	return r, recovery, nil
}

// metaMachine is the metadata group's state machine: it applies commands in its replica's worker and publishes the resulting view to
// everyone else.
type metaMachine struct {
	state  *cluster.State
	view   atomic.Pointer[cluster.View]
	onView func() // must not block
}

func newMetaMachine(birth *cluster.Birth, onView func()) *metaMachine {
	m := &metaMachine{state: cluster.NewState(birth), onView: onView}
	m.view.Store(m.state.View())
	return m
}

// restart forgets everything but the birth: a log is about to be applied from its beginning.
func (m *metaMachine) restart(birth *cluster.Birth) { m.state = cluster.NewState(birth) }

// View is the metadata as of the last applied command: immutable.
func (m *metaMachine) View() *cluster.View { return m.view.Load() }

func (m *metaMachine) Apply(index uint64, appendTime int64, command []byte) []byte {
	result := m.state.Apply(index, appendTime, command)
	if m.state.Fault() == nil { // else nobody may act by what this build does not understand
		m.publish()
	}
	return result
}

func (m *metaMachine) publish() {
	if v := m.state.View(); v != m.view.Load() {
		m.view.Store(v)
		m.onView()
	}
}

// Fault implements partition.Limited.
func (m *metaMachine) Fault() error { return m.state.Fault() }

func (m *metaMachine) RequestID(command []byte) ([16]byte, bool) { return cluster.RequestID(command) }

func (m *metaMachine) Snapshot() []byte { return m.state.Snapshot() }

func (m *metaMachine) Restore(b []byte) error {
	if err := m.state.Restore(b); err != nil {
		return err
	}
	m.publish()
	return nil
}
