package broker

import (
	"lograft/broker/cluster"
	"lograft/broker/engine"
	"lograft/broker/partition"
)

// partitionConfig is what a topic's settings mean to its partitions.
func partitionConfig(s cluster.Settings) partition.Config {
	return partition.Config{RetentionMs: s.RetentionMs, RetentionBytes: s.RetentionBytes, SegmentBytes: s.SegmentBytes, MessageBytes: s.MessageBytes,
		LogAppendTime: s.LogAppendTime, Version: s.Version}
}

// configure tells every open replica the settings of its topic, once for each version.
func (c *Controller) configure(eff *ControlEffects) {
	for _, t := range c.view.Topics() {
		s := t.Settings()
		for i := range t.Partitions {
			if h := c.have[t.Partitions[i].Group]; h != nil && h.open && h.told < s.Version {
				h.told = s.Version
				eff.Configure = append(eff.Configure, engine.GroupConfig{Group: t.Partitions[i].Group, Config: partitionConfig(s)})
			}
		}
	}
}
