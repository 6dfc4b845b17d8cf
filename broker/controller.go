package broker

import (
	"fmt"

	"lograft/broker/cluster"
	"lograft/broker/engine"
	"lograft/broker/partition"
	"lograft/segment/journal"
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
}

type hosted struct {
	birth journal.Birth
	open  bool
	told  uint64 // Config.Version of the settings that its replica was told last
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
	Failed    []error // replicas that could not be opened; the others go on
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
}

// wasRetired reports whether this replica was removed from here before. A compacted journal has forgotten the id, 0: then none of the
// group's comes back.
func (c *Controller) wasRetired(g partition.GroupID, replicaID uint64) bool {
	id, ok := c.retired[g]
	return ok && (id == replicaID || id == 0)
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
		delete(c.have, g)
		if err := c.groups.fs.RemoveAll(groupDir(c.groups.dataDir, g)); err != nil {
			eff.Failed = append(eff.Failed, fmt.Errorf("group %x: remove: %w", g, err))
		}
	}
	return eff
}

// Unconfirmed are the deleted groups of which the metadata does not know yet that nothing of them is here any more.
func (c *Controller) Unconfirmed() (groups []partition.GroupID) {
	if c.view == nil {
		return nil
	}
	for _, g := range c.view.Unconfirmed(c.dir) {
		if c.have[g] == nil {
			groups = append(groups, g)
		}
	}
	return groups
}
