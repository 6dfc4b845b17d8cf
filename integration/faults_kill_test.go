package integration

import (
	"fmt"
	"slices"
	"time"
)

var killCases = []faultCase{
	{name: "kill-leader", short: true, hurt: func(f *faultRun) { f.killLeaders(2) }},
	{name: "leader-kills", hurt: killLeadersMany},
	{name: "kill-follower", short: true, hurt: func(f *faultRun) {
		n := f.follower()
		must(f.T, n.Kill())
		f.sleep(time.Second)
		f.start(n)
	}, gapMax: 5 * time.Second},
	{name: "kill-all", short: true, hurt: func(f *faultRun) {
		for range 2 {
			for _, n := range f.c.Nodes() {
				must(f.T, n.Kill())
			}
			f.start(f.c.Nodes()...)
			f.load.await(f.load.count() + 50)
		}
	}},
	{name: "pause-majority", short: true, hurt: func(f *faultRun) {
		two := f.c.Others(f.leader().ID)
		for _, n := range two {
			must(f.T, n.Pause())
		}
		f.sleep(4 * time.Second)
		for _, n := range two {
			must(f.T, n.Resume())
		}
	}},
	{name: "pause-in-turn", hurt: func(f *faultRun) {
		for range 2 {
			for _, n := range f.c.Nodes() {
				must(f.T, n.Pause())
				f.sleep(2500 * time.Millisecond)
				must(f.T, n.Resume())
				f.sleep(500 * time.Millisecond)
			}
		}
	}},
	{name: "power-cut-one", needs: needsImages, images: true, hurt: func(f *faultRun) {
		n := f.leader()
		f.images.cut(n)
		f.start(n)
	}},
	{name: "power-cut-majority", needs: needsImages, images: true, hurt: func(f *faultRun) {
		two := f.c.Nodes()[:2]
		for _, n := range two {
			f.images.cut(n)
		}
		f.start(two...)
	}},
	{name: "power-cut-all", needs: needsImages, images: true, hurt: func(f *faultRun) {
		for range 3 {
			for _, n := range f.c.Nodes() {
				must(f.T, n.Kill())
			}
			for _, n := range f.c.Nodes() {
				f.images.swap(n)
			}
			f.start(f.c.Nodes()...)
			f.load.await(f.load.count() + 50)
		}
	}},
}

// electionTimeout is the brokers' default.
const electionTimeout = time.Second

// killLeaders kills the leader so many times under load, and gives the pauses of acknowledgements that followed.
func (f *faultRun) killLeaders(times int) (pauses []time.Duration) {
	for range times {
		f.load.await(f.load.count() + 20)
		n := f.leader()
		begin := time.Now()
		must(f.T, n.Kill())
		f.load.await(f.load.count() + 20)
		pauses = append(pauses, f.load.pauseAfter(begin, time.Now()))
		f.start(n)
	}
	return pauses
}

// killLeadersMany is the gap statistic: median <= 2, longest <= 3 election timeouts. $LOGRAFT_KILLS says how many.
func killLeadersMany(f *faultRun) {
	kills := fromEnv("LOGRAFT_KILLS", 12)
	pauses := f.killLeaders(kills)
	slices.Sort(pauses)
	median, longest := pauses[len(pauses)/2], pauses[len(pauses)-1]
	f.note = fmt.Sprintf("(%d kills: pause median %.2f, longest %.2f election timeouts)", kills, median.Seconds()/electionTimeout.Seconds(), longest.Seconds()/electionTimeout.Seconds())
	f.Logf("%s %v", f.note, pauses)
	if median > 2*electionTimeout || longest > 3*electionTimeout {
		f.Errorf("writes paused too long %s", f.note)
	}
}
