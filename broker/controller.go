package broker

import (
	"fmt"
	"path"
	"slices"

	"lograft/broker/cluster"
	"lograft/broker/engine"
	"lograft/broker/partition"
	"lograft/segment/journal"
	"lograft/segment/vfs"
)

// Controller makes this broker's replicas what the metadata says: it is a step machine fed with views and finished births. A
// replica is opened only after its birth is on stable storage, and removed only because a committed command deleted its topic.
type Controller struct {
	node   uint64
	dir    cluster.ID
	groups groupOptions
	metaID partition.GroupID
	view   *cluster.View
	// Invariant: a group is in have from the moment its birth is asked for until its replica is removed.
	have map[partition.GroupID]*hosted
	// retired are the groups that were removed from here for good, with the replica ids they had. A view at boot can be older than
	// their removal: it must not bring an id back without its log and its votes.
	retired map[partition.GroupID]uint64
	// roster is what this broker knows of the replicas of the metadata group beyond its view: it may be newer (see RosterChanged).
	roster      []partition.Peer
	rosterIndex uint64
	rosterTold  uint64 // the last rosterIndex that the metadata group's replica was told
}

type hosted struct {
	birth journal.Birth
	open  bool
	told  uint64 // Config.Version of the settings that its replica was told last
	// members is the Version of the membership that its replica was told last.
	members uint64
	// preferred is the leader by preference that it was told with them.
	preferred uint64
	// removing: its replica is being closed and its id retired.
	removing bool
}

// ControlEffects is what a step of the controller asks of its driver.
type ControlEffects struct {
	Sync   engine.SyncRequest
	Adopt  []*partition.Replica
	Remove []partition.GroupID
	// Configure tells open replicas the settings of their topics.
	Configure []engine.GroupConfig
	// Members tells open replicas who shall be in their groups.
	Members []engine.GroupMembers
	Failed  []error // replicas that could not be opened; the others go on
}

// newController knows the groups that were opened from the journal at start, and those that it says are retired.
func newController(node uint64, dir cluster.ID, groups groupOptions, metaID partition.GroupID, opened, retired []journal.Birth) *Controller {
	c := &Controller{node: node, dir: dir, groups: groups, metaID: metaID, have: map[partition.GroupID]*hosted{}, retired: map[partition.GroupID]uint64{}}
	for _, b := range retired {
		c.retired[b.Group] = b.ReplicaID
	}
	for _, b := range opened {
		c.have[b.Group] = &hosted{birth: b, open: true} // a quarantined one too: it is there
	}
	return c
}

// ViewChanged compares the metadata with what is here.
func (c *Controller) ViewChanged(v *cluster.View) (eff ControlEffects) {
	if v != c.view {
		c.view = v
		c.plan(&eff)
	}
	return eff
}

// plan asks for the births that are missing and for the removal of open replicas whose topic is deleted.
func (c *Controller) plan(eff *ControlEffects) {
	have := make([]cluster.GroupHave, 0, len(c.have))
	for g, h := range c.have {
		if g != c.metaID {
			have = append(have, cluster.GroupHave{Group: g, ReplicaID: h.birth.ReplicaID})
		}
	}
	slices.SortFunc(have, func(a, b cluster.GroupHave) int { return slices.Compare(a.Group[:], b.Group[:]) })
	for _, a := range cluster.Plan(c.node, c.dir, c.view, have) {
		switch {
		case a.Create != nil && c.wasRetired(a.Group, a.ReplicaID):
		case a.Create != nil:
			b := journal.Birth{Group: a.Group, ReplicaID: a.ReplicaID, Settings: partitionSettings(a.Create)}
			c.have[a.Group] = &hosted{birth: b}
			eff.Sync.Births = append(eff.Sync.Births, engine.Birth{Birth: b})
		case a.Delete:
			if h := c.have[a.Group]; h.open && !h.removing {
				h.removing = true
				eff.Remove = append(eff.Remove, a.Group)
			}
		}
	}
	c.configure(eff)
	c.tellMembers(eff)
}

// wasRetired reports whether this replica, or one of the group that came after it, was removed from here before. The journal of an older
// version has forgotten the id, 0: then none of the group's comes back.
func (c *Controller) wasRetired(g partition.GroupID, replicaID uint64) bool {
	id, ok := c.retired[g]
	return ok && (id >= replicaID || id == 0)
}

// Born opens the replicas whose births are on stable storage.
func (c *Controller) Born(groups []partition.GroupID) (eff ControlEffects) {
	for _, g := range groups {
		h := c.have[g]
		if h == nil || h.open {
			continue
		}
		birth, err := decodePartitionSettings(h.birth.Settings)
		if err != nil {
			eff.Failed = append(eff.Failed, fmt.Errorf("group %x: birth: %w", g, err))
			continue
		}
		o := c.groups
		o.tailCacheBytes = tailCacheOf(o.tailCacheBytes, len(c.have))
		r, _, err := openGroup(o, journal.GroupState{Birth: h.birth, HasBirth: true}, false, birth, c.groups.machine(birth))
		if err != nil {
			eff.Failed = append(eff.Failed, err)
			continue
		}
		h.open = true
		eff.Adopt = append(eff.Adopt, r)
	}
	if c.view != nil {
		c.plan(&eff) // a topic may have been deleted while its groups were being born
	}
	return eff
}

// Removed retires the ids of groups whose replicas are closed. Their files go when that is stable (Retired): a crash in between
// leaves files without a group, never a group without its log.
func (c *Controller) Removed(groups []partition.GroupID) (eff ControlEffects) {
	for _, g := range groups {
		if c.have[g] != nil {
			eff.Sync.Retire = append(eff.Sync.Retire, g)
		}
	}
	return eff
}

// Retired drops the files of groups whose retirement is on stable storage.
func (c *Controller) Retired(groups []partition.GroupID) (eff ControlEffects) {
	for _, g := range groups {
		if h := c.have[g]; h != nil {
			c.retired[g] = h.birth.ReplicaID
		}
		if err := removeGroup(c.groups.fs, c.groups.dataDir, g); err != nil {
			eff.Failed = append(eff.Failed, fmt.Errorf("group %x: remove: %w", g, err))
			continue
		}
		delete(c.have, g)
	}
	if c.view != nil {
		c.plan(&eff) // another replica of the group may have waited for this one to go
	}
	return eff
}

// removeGroup removes a group's files for good: those of another replica of the group may come in their place, and no crash may bring
// the old ones back then.
func removeGroup(fs vfs.FS, dataDir string, g partition.GroupID) error {
	dir := groupDir(dataDir, g)
	if _, _, err := fs.Stat(dir); vfs.IsNotExist(err) {
		return nil
	}
	if err := fs.RemoveAll(dir); err != nil {
		return err
	}
	return fs.SyncDir(path.Dir(dir))
}

// Unconfirmed are the groups that lost their replica here of which the metadata does not know yet that nothing of it is here any more.
func (c *Controller) Unconfirmed() (groups []partition.GroupID) {
	if c.view == nil {
		return nil
	}
	for _, u := range c.view.Unconfirmed(c.dir) {
		if h := c.have[u.Group]; h == nil || u.ReplicaID != 0 && h.birth.ReplicaID != u.ReplicaID {
			groups = append(groups, u.Group)
		}
	}
	return groups
}
