package partition

// Bounds of a fill's pace: at fillPaceMax times FillBytesPerTick what bounds it is the one chunk that is asked for at a time.
const (
	fillPaceMax   = 8
	fillPaceAfter = int64(30e9) // ns without a fill: the next one is none of the same story
)

// fillPace is how fast a replica fetches files, in multiples of FillBytesPerTick. That bound is there for clients and for the other
// replicas; but while a fill lasts the leader's log grows, and where it grows faster than files come every fill ends further behind than the
// one before. So a fill that follows on a complete one and does not lack less than half of it is twice as fast. Nobody else is slowed down
// for it: a leader takes what a majority can (issue "The engine": a slow follower costs others nothing).
type fillPace struct {
	times   int   // 0: 1
	lacks   int64 // bytes that the fill under way began with
	before  int64 // bytes that the last complete fill began with; 0: there was none
	endedAt int64 // when, monotonic ns
}

func (p *fillPace) factor() int { return max(1, p.times) }

// begin takes the bytes that a fill lacks.
func (p *fillPace) begin(now, lacks int64) {
	switch {
	case p.before == 0 || now-p.endedAt > fillPaceAfter:
		p.times = 1
	case lacks > p.before/2:
		p.times = min(2*p.factor(), fillPaceMax)
	}
	p.lacks = lacks
}

// end says that all of them are here.
func (p *fillPace) end(now int64) { p.before, p.endedAt = p.lacks, now }
