package broker

import (
	"errors"
	"fmt"
	"sync"

	"lograft/broker/cluster"
	"lograft/broker/engine"
	"lograft/broker/partition"
	"lograft/segment"
	"lograft/segment/journal"
	"lograft/segment/vfs"
)

// BootOptions is what both drivers, the real one and the simulator, build a broker's deterministic parts from.
type BootOptions struct {
	Node             uint64
	Dir              cluster.ID // uuid of the data directory
	FS               vfs.FS
	DataDir          string
	Journal          journal.Journal
	Seed             uint64 // of the replicas' chance
	ElectionTicks    int
	HeartbeatTicks   int
	TailCacheBytes   int    // per group
	CatchUpBytes     int64  // 0: partition.CatchUpBytesDefault
	FillBytesPerTick int    // 0: partition.FillBytesPerTickDefault
	PreferWindows    int    // partition.Options.PreferWindows
	MessageBytes     uint64 // of entries to a peer, 0: partition.BytesPerMessageDefault
	// Each calls do(0) to do(n-1), several at a time where the driver has goroutines; nil: one after the other. It opens the groups.
	Each   func(n int, do func(i int))
	OnView func() // called by the metadata group's worker when Parts.View has changed; must not block
}

// metaSegmentBytes is the segment limit of the metadata group.
const metaSegmentBytes = 4 << 20

// Parts is a broker without its drivers: replicas recovered from disk, the metadata machine and the controller.
type Parts struct {
	Controller *Controller
	MetaGroup  partition.GroupID
	Replicas   []*partition.Replica // for the workers; the metadata group's first
	Recovered  []Recovered
	meta       *metaMachine
	journal    sync.Mutex // groups are opened several at a time; the journal belongs to one caller
}

// Recovered says what recovery found in one group. Err is set if the group could not be opened: it is quarantined, never treated as
// empty, and the others go on (storage.md "Recovering").
type Recovered struct {
	Group    partition.GroupID
	Recovery segment.Recovery
	Err      error
	// Lost is why the log was set aside in this start; Refilling: the replica fetches everything anew and votes when it has it.
	Lost      error
	Refilling bool
	GivenUp   bool // an operator had everything from the first bad byte on cut off in this start
}

// View is the metadata that this broker has applied.
func (p *Parts) View() *cluster.View { return p.meta.View() }

// A birth's settings begin with the kind of the group.
const (
	settingsMeta      = 'M'
	settingsPartition = 'P'
	settingsGroups    = 'G'
)

func partitionSettings(b *cluster.PartitionBirth) []byte {
	kind := byte(settingsPartition)
	if b.Groups {
		kind = settingsGroups
	}
	return append([]byte{kind}, b.Encode()...)
}

func decodePartitionSettings(b []byte) (*cluster.PartitionBirth, error) {
	if len(b) == 0 || b[0] != settingsPartition && b[0] != settingsGroups {
		return nil, errors.New("not the settings of a partition")
	}
	p, err := cluster.DecodePartitionBirth(b[1:])
	if p != nil {
		p.Groups = b[0] == settingsGroups
	}
	return p, err
}

// MetaBirth is the birth record of the metadata group on a broker, to be journalled before the broker takes part in it. ok is false
// if the broker is not one of the cluster's first members.
func MetaBirth(b *cluster.Birth, node uint64, dir cluster.ID) (birth engine.Birth, ok bool) {
	for _, m := range b.Members {
		if m.NodeID == node && m.DirID == dir {
			return metaBirth(b, m.ReplicaID), true
		}
	}
	return engine.Birth{}, false
}

// metaBirth is the birth record of a replica of the metadata group; one that is not of the cluster's birth begins empty.
func metaBirth(b *cluster.Birth, replicaID uint64) engine.Birth {
	settings := append([]byte{settingsMeta}, b.Encode()...)
	return engine.Birth{Birth: journal.Birth{Group: b.MetadataGroup, ReplicaID: replicaID, Settings: settings}}
}

// ErrNoBirth says that the journal holds no birth of the metadata group: the directory is new, or it was wiped.
var ErrNoBirth = errors.New("the journal knows no cluster")

// FindBirth is the cluster's birth as this broker's journal knows it.
func FindBirth(l *journal.Loaded) (*cluster.Birth, error) {
	for i := range l.Groups {
		if s := l.Groups[i].Birth.Settings; l.Groups[i].HasBirth && !l.Groups[i].Retired && len(s) > 0 && s[0] == settingsMeta {
			return cluster.DecodeBirth(s[1:])
		}
	}
	return nil, ErrNoBirth
}

// Boot opens every group that the journal knows. It fails only if the metadata group can't be opened; another group's failure is in
// Parts.Recovered.
func Boot(o BootOptions, loaded *journal.Loaded) (*Parts, error) {
	birth, err := FindBirth(loaded)
	if err != nil {
		return nil, err
	}
	groups := groupOptions{fs: o.FS, dataDir: o.DataDir, seed: o.Seed, electionTicks: o.ElectionTicks, heartbeatTicks: o.HeartbeatTicks,
		segmentBytes: metaSegmentBytes, tailCacheBytes: o.TailCacheBytes, catchUpBytes: o.CatchUpBytes, messageBytes: o.MessageBytes, fillBytesPerTick: o.FillBytesPerTick, preferWindows: o.PreferWindows}
	p := &Parts{MetaGroup: birth.MetadataGroup, meta: newMetaMachine(birth, o.OnView)}
	groups.view, groups.files, groups.tails = p.View, segment.NewFileBudget(openFilesMax), segment.NewTailBudget(tailCacheTotal)
	full := groups.tailCacheBytes
	groups.tailCacheBytes = tailCacheOf(full, len(loaded.Groups))
	var opened, retired []journal.Birth
	var states []journal.GroupState
	for i := range loaded.Groups {
		st := loaded.Groups[i]
		if st.Retired { // a crash came between its retirement and the removal of its files
			if err := removeGroup(o.FS, o.DataDir, st.Birth.Group); err != nil {
				return nil, fmt.Errorf("remove the files of deleted group %x: %w", st.Birth.Group, err)
			}
			retired = append(retired, st.Birth)
			continue
		}
		if st.HasBirth {
			states = append(states, st)
		}
	}
	replicas := make([]*partition.Replica, len(states))
	p.Recovered = make([]Recovered, len(states))
	open := func(i int) {
		st := &states[i]
		r, rec, err := p.open(groups, o, *st, loaded, birth)
		rec.Err = err
		replicas[i], p.Recovered[i] = r, rec
	}
	if o.Each == nil {
		o.Each = inOrder
	}
	weigh := func(i int) int64 { return checkpointBytes(o.FS, groupDir(o.DataDir, states[i].Birth.Group)) }
	o.Each(len(states), newOpenBudget(openBytesMax).within(weigh, open))
	if err := p.soundMarks(o.Journal, states); err != nil {
		return p, err
	}
	for i, r := range replicas {
		opened = append(opened, states[i].Birth)
		meta := states[i].Birth.Group == birth.MetadataGroup
		switch err := p.Recovered[i].Err; {
		case err == nil && meta:
			p.Replicas = append([]*partition.Replica{r}, p.Replicas...)
		case err == nil:
			p.Replicas = append(p.Replicas, r)
		case meta:
			return p, fmt.Errorf("metadata group: %w; if no other broker has a good copy: broker log recover %s", err, groupDir(o.DataDir, birth.MetadataGroup))
		}
	}
	groups.tailCacheBytes = full // the controller bounds by the number that it has then
	p.Controller = newController(o.Node, o.Dir, groups, birth.MetadataGroup, opened, retired)
	return p, nil
}

// soundMarks ends the suspicion that persist marks may be missing where the log was found whole: Open has synced what it holds, a new mark
// says so, and only when that is stable a bad frame behind it may count as a torn write again. A damaged log stays under suspicion.
func (p *Parts) soundMarks(j journal.Journal, states []journal.GroupState) error {
	var sound []partition.GroupID
	for i := range states {
		if rec := &p.Recovered[i]; states[i].MarksLost && rec.Err == nil && rec.Lost == nil && len(rec.Recovery.Faulty) == 0 && rec.Recovery.Durable.Index > 0 {
			j.PutMark(states[i].Birth.Group, journal.Mark(rec.Recovery.Durable))
			sound = append(sound, states[i].Birth.Group)
		}
	}
	if len(sound) == 0 {
		return nil
	}
	if err := syncJournal(j, journal.Marks); err != nil {
		return err
	}
	for _, g := range sound {
		j.MarksSound(g)
	}
	return syncJournal(j, journal.Hard)
}

// syncJournal makes what was put into one of the journal's logs stable, before anything else runs that would.
func syncJournal(j journal.Journal, scope journal.Scope) error {
	task := j.BeginSync(scope)
	if task == nil {
		return nil
	}
	err := task.Do()
	if j.EndSync(task, err); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

func inOrder(n int, do func(i int)) {
	for i := range n {
		do(i)
	}
}

func (p *Parts) open(groups groupOptions, o BootOptions, st journal.GroupState, loaded *journal.Loaded, birth *cluster.Birth) (*partition.Replica, Recovered, error) {
	rec := Recovered{Group: st.Birth.Group}
	if st.HardStateLost {
		return nil, rec, fmt.Errorf("group %x: no readable copy of its term and vote: this replica may never vote again; it must be replaced under a new id", st.Birth.Group)
	}
	if st.Birth.Group == birth.MetadataGroup {
		return p.openOrRefill(groups, o.Journal, st, loaded.Damaged() || st.MarksLost, birth.Partition(), func() partition.Machine {
			p.meta.restart(birth)
			return p.meta
		})
	}
	settings, err := decodePartitionSettings(st.Birth.Settings)
	if err != nil {
		return nil, rec, fmt.Errorf("group %x: birth: %w", st.Birth.Group, err)
	}
	return p.openOrRefill(groups, o.Journal, st, loaded.Damaged() || st.MarksLost, settings, func() partition.Machine { return groups.machine(settings) })
}
