package sim

// clock is what a broker takes for the time of day, and how fast its ticks come.
type clock struct {
	offset int64 // ms
	rate   int64 // of the time of day, percent
	ticks  int64 // speed of its monotonic ticks, percent
}

// simEpoch is the time of day when a simulation begins, ms.
const simEpoch = 1_700_000_000_000

// read is the time of day (ms) at a simulated time (ns).
func (c *clock) read(now int64) int64 { return simEpoch + now/1e6*c.rate/100 + c.offset }

// setRate changes the speed of the time of day from now on.
func (c *clock) setRate(now, rate int64) {
	before := c.read(now)
	c.rate = rate
	c.offset += before - c.read(now)
}
