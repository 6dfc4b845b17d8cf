package sim

// fault changes the weather; it schedules the next.
func (c *cluster) fault() {
	if c.healing {
		return
	}
	c.after(1+c.below(2*c.plan.faultEvery), rankOther, "fault", 0, c.fault)
	n := c.any()
	switch c.below(13) {
	case 0, 1, 2:
		if n.up() {
			n.crash()
			c.restartLater(n)
		}
	case 3:
		c.powerCut()
	case 4:
		c.net.split()
		c.stats.Partitions++
	case 5:
		if l := c.leader(); l != nil {
			n = l
		}
		c.net.isolate(n.id, true, true)
		c.stats.Partitions++
	case 6:
		c.net.isolate(n.id, c.chance(0.5), true)
		c.stats.OneWay++
	case 7, 8, 9:
		c.net.heal()
	case 10:
		if n.up() && !n.paused {
			n.paused = true
			c.stats.Pauses++
			c.after(c.below(uint64(3*c.plan.electionTick)*tickUnits), rankOther, "resume", n.id, n.resume)
		}
	case 11:
		c.damage(n)
	case 12:
		c.net.loss = []float64{0, 0.02, 0.15, 0.4}[c.below(4)]
		c.net.latency = []uint64{50, 300, 2000}[c.below(3)]
	}
}

func (c *cluster) restartLater(n *node) {
	life := n.life
	delay := c.below(uint64(2*c.plan.electionTick) * tickUnits)
	if c.chance(0.4) {
		delay = c.below(tickUnits)
	}
	c.after(delay, rankOther, "restart", n.id, func() {
		if n.life == life && !n.up() {
			n.start()
		}
	})
}

func (c *cluster) powerCut() {
	c.stats.PowerCuts++
	for _, n := range c.nodes[1:] {
		if n.up() {
			n.crash()
			c.restartLater(n)
		}
	}
}

// damage makes some entries below the last one unreadable until repaired.
func (c *cluster) damage(n *node) {
	d := &n.disk
	if !n.up() || d.seen.last() < d.seen.base+3 {
		return
	}
	d.faultLo = d.seen.base + 1 + c.below(d.seen.last()-d.seen.base-1)
	d.faultHi = min(d.faultLo+1+c.below(4), d.seen.last())
	c.stats.Damages++
	life := n.life
	c.after(c.below(uint64(3*c.plan.electionTick)*tickUnits), rankOther, "repaired", n.id, func() {
		if n.life == life {
			d.faultLo, d.faultHi = 0, 0
		}
	})
}
