package integration

import (
	"fmt"
	"time"
)

var networkCases = []faultCase{
	{name: "isolate-leader", short: true, links: true, hurt: func(f *faultRun) {
		n := f.leader()
		for _, l := range f.c.Around(n.ID) {
			l.Cut()
		}
		f.leader(n.ID)
		f.sleep(2 * time.Second)
		f.healLinks()
	}},
	{name: "isolate-follower", short: true, links: true, hurt: func(f *faultRun) {
		for _, l := range f.c.Around(f.follower().ID) {
			l.Stall()
		}
		f.sleep(4 * time.Second)
		f.healLinks()
	}, gapMax: 5 * time.Second},
	{name: "isolate-all", links: true, hurt: func(f *faultRun) {
		for _, n := range f.c.Nodes() {
			for _, l := range f.c.Around(n.ID) {
				l.Cut()
			}
		}
		f.sleep(4 * time.Second)
		f.healLinks()
	}},
	{name: "one-way", links: true, hurt: func(f *faultRun) {
		for _, outward := range []bool{true, false} {
			n := f.leader()
			for _, o := range f.c.Others(n.ID) {
				if outward {
					f.c.Link(n.ID, o.ID).Stall()
				} else {
					f.c.Link(o.ID, n.ID).Stall()
				}
			}
			f.sleep(5 * time.Second)
			f.healLinks()
			f.load.await(f.load.count() + 20)
		}
	}},
	{name: "bridge", links: true, hurt: func(f *faultRun) {
		n := f.leader()
		o := f.c.Others(n.ID)[0]
		f.c.Link(n.ID, o.ID).Cut()
		f.c.Link(o.ID, n.ID).Cut()
		f.sleep(6 * time.Second)
		f.healLinks()
	}},
	{name: "flapping", links: true, hurt: func(f *faultRun) {
		n := f.leader()
		for range 15 {
			for _, l := range f.c.Around(n.ID) {
				l.Cut()
			}
			f.sleep(150 * time.Millisecond)
			f.healLinks()
			f.sleep(250 * time.Millisecond)
		}
	}},
	{name: "resets", links: true, hurt: func(f *faultRun) {
		for range 30 {
			for _, l := range f.c.links {
				l.Reset()
			}
			f.sleep(200 * time.Millisecond)
		}
	}},
	{name: "slow-follower-link", short: true, links: true, hurt: func(f *faultRun) {
		for _, l := range f.c.Around(f.follower().ID) {
			l.Slow(150 * time.Millisecond)
		}
		f.sleep(5 * time.Second)
		f.healLinks()
	}, gapMax: 5 * time.Second},
	{name: "thin-follower-link", links: true, burst: 10, hurt: func(f *faultRun) {
		for _, l := range f.c.Around(f.follower().ID) {
			l.Thin(32 << 10) // a fraction of what is written
		}
		f.sleep(6 * time.Second)
		f.healLinks()
	}, gapMax: 5 * time.Second},
	{name: "jitter", links: true, hurt: func(f *faultRun) {
		for _, l := range f.c.links {
			l.Jitter(80 * time.Millisecond)
		}
		f.sleep(6 * time.Second)
		f.healLinks()
	}, gapMax: 5 * time.Second},
	{name: "answers-dropped", clients: true, burst: 20, hurt: answersDropped},
}

// answersDropped loses half of all answers to clients while leaders are killed, until $LOGRAFT_RECORDS records (6,000 if it is not set)
// of an idempotent producer are acknowledged: each is there once, at the offset that was told first.
func answersDropped(f *faultRun) {
	records := fromEnv("LOGRAFT_RECORDS", 6000)
	for _, l := range f.c.front {
		l.Drop(50)
	}
	kills := 0
	for target := 1000; f.load.count() < records; target = f.load.count() + 2000 {
		f.load.await(min(target, records))
		n := f.leader()
		must(f.T, n.Kill())
		kills++
		f.start(n)
	}
	dropped := 0
	for _, l := range f.c.front {
		dropped += l.Dropped()
		l.Heal()
	}
	f.note = fmt.Sprintf("(%d kills, %d connections lost with their answers)", kills, dropped)
	if kills < 2 || dropped < records/1000 {
		f.Errorf("too gentle: %s", f.note)
	}
}

func (f *faultRun) healLinks() {
	for _, l := range f.c.links {
		l.Heal()
	}
}
