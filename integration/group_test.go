package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// groupRun is a topic that a group reads while things are done to it.
type groupRun struct {
	t       *testing.T
	ctx     context.Context
	c       *Cluster
	sent    int
	members []*Member
}

const (
	groupTopic      = "t"
	groupPartitions = 3
	groupRound      = 600
	// groupSession is short so that the test is; groupSlack is what a shared machine may add to it.
	groupSession = 2 * time.Second
	groupSlack   = 20 * time.Second
)

func (r *groupRun) join(args ...string) *Member {
	r.t.Helper()
	m, err := r.c.StartMember(r.ctx, "workers", groupTopic, append([]string{"-f", "%p %o %v\n", "--session-timeout", groupSession.String()}, args...)...)
	must(r.t, err)
	r.members = append(r.members, m)
	return m
}

// produce sends a round of numbered records.
func (r *groupRun) produce() {
	r.t.Helper()
	var b strings.Builder
	for range groupRound {
		r.sent++
		fmt.Fprintf(&b, "%d\n", r.sent)
	}
	for i := range groupPartitions {
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		per := len(lines) / groupPartitions
		run(r.t, r.ctx, r.c, strings.Join(lines[i*per:(i+1)*per], "\n")+"\n", "produce", groupTopic, "-p", fmt.Sprint(i), "-q")
	}
}

// seen counts the records that members wrote, and how many lines they wrote in all.
func (r *groupRun) seen() (distinct, lines int) {
	values := map[string]bool{}
	for _, m := range r.members {
		for _, line := range m.Lines() {
			lines++
			values[line[strings.LastIndexByte(line, ' ')+1:]] = true
		}
	}
	return len(values), lines
}

// all waits until every record sent was written by some member, and says how long that took.
func (r *groupRun) all(what string) {
	r.t.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(r.ctx, groupSession+groupSlack)
	defer cancel()
	if err := Until(ctx, func() (bool, error) { n, _ := r.seen(); return n == r.sent, nil }); err != nil {
		n, _ := r.seen()
		for i, m := range r.members {
			r.t.Logf("member %d: %d lines; %s", i+1, len(m.Lines()), m.Stderr())
		}
		g, derr := r.c.DescribeGroup(r.ctx, "workers")
		r.t.Fatalf("%s: members wrote %d of %d records: %v\n%+v %v", what, n, r.sent, err, g, derr)
	}
	n, lines := r.seen()
	r.t.Logf("%s: %d records after %.1f s, %d written twice", what, n, time.Since(begin).Seconds(), lines-n)
}

// stable waits until the group has so many members and is at rest.
func (r *groupRun) stable(members int) (g GroupDescription) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, groupSession+groupSlack)
	defer cancel()
	err := Until(ctx, func() (bool, error) {
		var err error
		g, err = r.c.DescribeGroup(r.ctx, "workers")
		return err == nil && g.State == "stable" && g.Members == members, nil
	})
	if err != nil {
		r.t.Fatalf("the group is not at rest with %d members: %v\n%+v", members, err, g)
	}
	return g
}

// A group reads on while members are killed and paused, and while its coordinator is killed and paused: nothing is left out, whoever is
// gone holds the others up no longer than its session, and what was written is committed.
func TestGroupSurvives(t *testing.T) {
	ctx := testContext(t)
	r := &groupRun{t: t, ctx: ctx, c: startCluster(t, ctx, 3)}
	must(t, r.c.CreateTopic(ctx, groupTopic, groupPartitions))
	a, b := r.join(), r.join()
	r.join()
	r.produce()
	r.all("three members")
	g := r.stable(3)
	for _, m := range g.MemberList {
		if len(m.Partitions) != groupPartitions/3 {
			t.Errorf("member %s holds %d of %d partitions, three share them", m.ClientID, len(m.Partitions), groupPartitions)
		}
	}

	must(t, b.Signal(syscall.SIGKILL))
	r.produce()
	r.all("one member killed -9")
	r.stable(2)

	must(t, a.Signal(syscall.SIGSTOP))
	r.produce()
	r.all("one member paused")
	r.stable(1)
	must(t, a.Signal(syscall.SIGCONT))
	r.produce()
	r.all("it goes on")
	g = r.stable(2)

	coordinator := r.c.Node(g.Coordinator)
	must(t, coordinator.Kill())
	r.produce()
	r.all("the coordinator killed -9")
	must(t, coordinator.Start())
	waitReady(t, ctx, r.c)
	g = r.stable(2)

	coordinator = r.c.Node(g.Coordinator)
	must(t, coordinator.Pause())
	time.Sleep(groupSession)
	must(t, coordinator.Resume())
	r.produce()
	r.all("the coordinator paused")
	r.stable(2)
	r.static()
	r.refuseWhileMembers()

	for _, m := range []*Member{r.members[0], r.members[2]} {
		must(t, m.Signal(syscall.SIGINT))
		if code, err := m.Wait(ctx); err != nil || code != 130 {
			t.Errorf("Ctrl-C: exit code %d, %v\n%s", code, err, m.Stderr())
		}
	}
	r.committed()
}

// static: a static member that is killed and started again works on the same partitions, and nobody else is told anything; one that is
// started while the first runs takes its place, and the first one ends with the reason.
func (r *groupRun) static() {
	r.t.Helper()
	held := func(g GroupDescription) (partitions string, others []int64) {
		for _, m := range g.MemberList {
			if m.InstanceID == "one" {
				partitions = fmt.Sprint(m.Partitions)
			} else {
				others = append(others, m.Generation)
			}
		}
		return partitions, others
	}
	first := r.join("--instance-id", "one", "--session-timeout", "20s")
	before, told := held(r.stable(3))
	must(r.t, first.Signal(syscall.SIGKILL))
	second := r.join("--instance-id", "one", "--session-timeout", "20s")
	r.produce()
	r.all("a static member killed -9 and started again")
	if after, again := held(r.stable(3)); after != before || !slices.Equal(told, again) {
		r.t.Errorf("it held %s and holds %s; the others were told generations %v and then %v", before, after, told, again)
	}
	third := r.join("--instance-id", "one", "--session-timeout", groupSession.String())
	if code, err := second.Wait(r.ctx); err != nil || code != exitItemFailed || !strings.Contains(second.Stderr(), "instance id \"one\"") {
		r.t.Errorf("the one that was replaced: exit code %d, %v: %s", code, err, second.Stderr())
	}
	r.produce()
	r.all("a static member replaced")
	must(r.t, third.Signal(syscall.SIGINT))
	if code, err := third.Wait(r.ctx); err != nil || code != 130 {
		r.t.Errorf("Ctrl-C: exit code %d, %v\n%s", code, err, third.Stderr())
	}
	r.stable(2) // its session is over
}

// refuseWhileMembers: seek and delete need a group without members.
func (r *groupRun) refuseWhileMembers() {
	r.t.Helper()
	for _, args := range [][]string{{"group", "delete", "workers", "--yes"}, {"group", "seek", "workers", "--to", "start", "--yes"}} {
		x := runWithin(r.t, time.Minute, r.c, "", "broker", args...)
		wantFailure(r.t, x, exitItemFailed, "members")
	}
}

// committed: nobody is left, everything is committed; another member gets nothing, one after a seek gets everything.
func (r *groupRun) committed() {
	r.t.Helper()
	g, err := r.c.DescribeGroup(r.ctx, "workers")
	must(r.t, err)
	if g.State != "empty" || g.TotalLag == nil || *g.TotalLag != 0 {
		r.t.Errorf("after all have left the group is %+v", g)
	}
	if out := run(r.t, r.ctx, r.c, "", "consume", groupTopic, "-g", "workers", "-e"); out.Stdout != "" {
		r.t.Errorf("everything was committed, and a new member got %d lines", strings.Count(out.Stdout, "\n"))
	}
	run(r.t, r.ctx, r.c, "", "broker", "group", "seek", "workers", "--to", "start", "--yes")
	out := run(r.t, r.ctx, r.c, "", "consume", groupTopic, "-g", "workers", "-e")
	lines := strings.Split(strings.TrimSpace(out.Stdout), "\n")
	slices.Sort(lines)
	if n := len(slices.Compact(lines)); n != r.sent {
		r.t.Errorf("after a seek to the start a member got %d of %d records", n, r.sent)
	}
	run(r.t, r.ctx, r.c, "", "broker", "group", "delete", "workers", "--yes")
	x := runWithin(r.t, time.Minute, r.c, "", "broker", "group", "describe", "workers")
	wantFailure(r.t, x, exitItemFailed, "not found")
}
