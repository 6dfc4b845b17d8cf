package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"lograft/client"
)

// stranded is a group whose voters are gone for good in their majority: its line in the plan.
type stranded struct {
	Group string `json:"group"` // TOPIC/PARTITION, or what the metadata group is called
	// Node is where the replica is that holds most of those left, 0: every copy is gone. Its log ends with entry (LastTerm, LastIndex).
	Node      uint64 `json:"node"`
	LastTerm  uint64 `json:"last_term"`
	LastIndex uint64 `json:"last_entry"`
	LogStart  int64  `json:"log_start"` // of what is kept: behind what damage takes
	LostFrom  int64  `json:"lost_from"` // what was acknowledged from this offset on is lost
	// Refilling: this replica lost its log, and what it held before that is lost. Damaged records [From, To) are given up, with the entries up to DropTo; 0: none.
	Refilling bool      `json:"lost_its_log"`
	From      int64     `json:"given_up_from"`
	To        int64     `json:"given_up_to"`
	DropTo    uint64    `json:"given_up_entries_to"`
	Others    []givesUp `json:"others,omitempty"` // of those left, who can't vote before they give up something, too
	Stranded  bool      `json:"stranded"`
	Problem   string    `json:"problem,omitempty"`

	addr string
	ask  client.RecoverRequest
	// later: all that stands against it can only be mended when the metadata group goes on: a topic that a broker does not know yet, or that has to
	// be deleted.
	later bool
}

// givesUp is a replica beside the one that holds most, and what keeps it from voting.
type givesUp struct {
	Node      uint64 `json:"node"`
	Refilling bool   `json:"lost_its_log"`
	From      int64  `json:"given_up_from"`
	To        int64  `json:"given_up_to"`
	DropTo    uint64 `json:"given_up_entries_to"`

	addr string
}

const metadataGroup = "metadata group"

// leaderFades is how long a leader is waited for that can't go on leading.
const leaderFades = 10 * time.Second

// recoverGone shows what is lost with the directories of these nodes, and gives them up.
func (a *app) recoverGone(ctx context.Context, k *client.Client, gone []uint64, accept, yes bool) error {
	plan, err := lossOf(ctx, k, gone)
	if err != nil {
		return err
	}
	if len(plan.groups) == 0 {
		return a.done(map[string]any{"stranded": 0}, "no group loses its majority with nodes %v: nothing has to be given up; start each of them with an empty data directory, or decommission it\n", gone)
	}
	return a.recoverStranded(ctx, k, plan, accept, yes, func() (loss, error) { return lossOf(ctx, k, gone) })
}

// lossOf makes the plan.
func lossOf(ctx context.Context, k *client.Client, gone []uint64) (plan loss, err error) {
	d, err := k.DescribeCluster(ctx)
	if err != nil {
		return plan, err
	}
	left, err := withoutGone(ctx, k, &d, gone)
	if err != nil {
		return plan, err
	}
	m, err := k.DescribeMembers(ctx, client.Committed)
	if err != nil {
		return plan, err
	}
	for _, b := range m.Brokers {
		if slices.Contains(gone, b.Node) {
			plan.gone = append(plan.gone, client.LostDirectory{Node: b.Node, Directory: b.Directory})
		}
	}
	plan.groups = askGone(ctx, k, &d, left, gone)
	return plan, nil
}

// withoutGone are the brokers that are left. It refuses a node that answers: it is not gone.
func withoutGone(ctx context.Context, k *client.Client, d *client.Cluster, gone []uint64) (left []client.Broker, err error) {
	for _, node := range gone {
		if !slices.ContainsFunc(d.Brokers, func(b client.Broker) bool { return b.Node == node }) {
			return nil, usagef("node %d is no broker of this cluster: see broker cluster info", node)
		}
	}
	for _, b := range d.Brokers {
		if !slices.Contains(gone, b.Node) {
			left = append(left, b)
			continue
		}
		if _, err := k.Recover(ctx, b.ClientAddr, client.RecoverRequest{Metadata: true}); !silent(err) {
			return nil, usagef("node %d answers at %s: it is not gone. Stop it if its data directory is to be given up; if it runs on a new one already, what is left is recovered with broker cluster recover TOPIC/PARTITION", b.Node, b.ClientAddr)
		}
	}
	if len(left) == 0 {
		return nil, usagef("no broker would be left")
	}
	return left, nil
}

// silent reports whether nobody answered.
func silent(err error) bool {
	var e *client.Error
	return errors.As(err, &e) && (e.Reason == "UNREACHABLE" || e.Reason == "TIMED_OUT")
}

// noReplica reports whether no replica belongs on the broker that answered, as it knows the metadata. One that could not be opened is FAULTY.
func noReplica(err error) bool {
	var e *client.Error
	return errors.As(err, &e) && e.Reason == "UNKNOWN_PARTITION"
}

// askGone makes the plan: the groups that have no majority without the nodes that are gone, the metadata group first.
func askGone(ctx context.Context, k *client.Client, d *client.Cluster, left []client.Broker, gone []uint64) (plan []stranded) {
	if g := askGroup(ctx, k, left, client.RecoverRequest{Metadata: true, GoneNodes: gone}); g.Stranded || g.Problem != "" {
		plan = append(plan, g)
	}
	for _, t := range d.Topics {
		for _, p := range t.Partitions {
			nodes := slices.Concat(p.Replicas, p.Wanted)
			if !slices.ContainsFunc(nodes, func(n uint64) bool { return slices.Contains(gone, n) }) {
				continue
			}
			hosts := left // while it moves: other replicas may hold some of it, too
			if len(p.Wanted) == 0 {
				hosts = slices.DeleteFunc(slices.Clone(left), func(b client.Broker) bool { return !slices.Contains(nodes, b.Node) })
			}
			if g := askGroup(ctx, k, hosts, client.RecoverRequest{Topic: t.Name, Partition: p.Number, GoneNodes: gone}); g.Stranded || g.Problem != "" {
				plan = append(plan, g)
			}
		}
	}
	return plan
}

// askGroup asks every broker that is left and finds the replica that holds most. Nothing may be decided while one of them does not answer: it
// may be the one.
//
// A leader that lost its majority, or one that has just ended, is remembered for a while: that is waited for. One that goes on leading has its
// majority.
func askGroup(ctx context.Context, k *client.Client, hosts []client.Broker, ask client.RecoverRequest) stranded {
	for end := time.Now().Add(leaderFades); ; {
		g, led, fading := askOnce(ctx, k, hosts, ask)
		over := time.Now().After(end) || ctx.Err() != nil
		switch {
		case led && !fading && !g.Stranded && (g.Problem == "" || over):
			return stranded{Group: g.Group, ask: ask} // whoever is gone or silent: it goes on
		case !led && !fading || over:
			return g
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// heard is what a broker that is left answered.
type heard struct {
	node uint64
	addr string
	x    client.Recovery
	err  error
}

// holdsMore orders the replicas of a group: by where the log ends; of equal ones the one that is whole and votes comes first.
func (h *heard) holdsMore(o *heard) bool {
	if c := cmp.Or(cmp.Compare(h.x.LastTerm, o.x.LastTerm), cmp.Compare(h.x.LastIndex, o.x.LastIndex)); c != 0 {
		return c > 0
	}
	faults := func(x *client.Recovery) (n int) {
		for _, bad := range [...]bool{!x.Voter, x.Problem != "", x.DropTo > 0, x.Refilling} {
			n *= 2
			if bad {
				n++
			}
		}
		return n
	}
	return faults(&h.x) < faults(&o.x)
}

// judgeGone makes a group's line of what the brokers that are left answered. led: a replica has heard a leader lately; fading: one of them is
// connected with a node that is said to be gone, which may be over soon.
func judgeGone(ask client.RecoverRequest, answers []heard) (g stranded, led, fading bool) {
	g = stranded{Group: metadataGroup, ask: ask}
	if !ask.Metadata {
		g.Group = fmt.Sprintf("%s/%d", ask.Topic, ask.Partition)
	}
	problem, lag := "", ""
	var have []*heard
	for i := range answers {
		h := &answers[i]
		var refused *client.Error
		switch {
		case noReplica(h.err):
			continue
		case errors.As(h.err, &refused) && refused.Reason == "TOPIC_NOT_FOUND": // it may have a replica and have lost what it knew of the cluster
			lag = fmt.Sprintf("node %d does not know the topic yet: ask again when the metadata group goes on", h.node)
			continue
		case errors.As(h.err, &refused) && refused.Reason == "FAULTY":
			problem = h.err.Error() + ": bring its log back (broker log recover), or stop it and name it too"
			continue
		case h.err != nil:
			problem = fmt.Sprintf("node %d was not asked: %v: start it, or name it too", h.node, h.err)
			continue
		case len(h.x.Connected) > 0:
			problem, fading = fmt.Sprintf("node %d is connected with nodes %v: they are not gone", h.node, h.x.Connected), true
		}
		led = led || h.x.Leader != 0
		have = append(have, h)
	}
	g.choose(have, led)
	if g.Node == 0 && ask.Metadata && problem == "" {
		problem = "no copy is left"
	}
	g.later = g.later && problem == ""
	if lag != "" && problem == "" && g.Problem == "" {
		problem, g.later = lag, true
	}
	if problem != "" {
		g.Problem = problem
	} else if !g.Stranded {
		g.Problem = "" // a majority is left: it elects somebody, or says by itself what keeps it
	}
	return g, led, fading
}

// choose finds the replica that holds most, and what it and the others have to give up first so that each can vote. Replicas whose logs end
// alike may have applied different configurations: a majority is lost only if all of them say so.
//
// Who lost the whole log knows no configuration and has nothing to go on from.
func (g *stranded) choose(have []*heard, led bool) {
	copies := slices.DeleteFunc(slices.Clone(have), func(h *heard) bool { return h.x.Refilling && h.x.LastIndex == 0 })
	if len(copies) == 0 {
		g.Stranded = !led
		for _, h := range have {
			g.Others = append(g.Others, givesUp{Node: h.node, Refilling: true, addr: h.addr})
		}
		if len(have) > 0 && len(g.ask.GoneNodes) > 0 && !strings.HasPrefix(g.ask.Topic, "__") { // the brokers' own topics can't be deleted
			g.Problem = fmt.Sprintf("node %d could not use its log and set it aside (files *.old in the group's directory), and no other copy is left: put good files back, or delete the topic", have[0].node)
			g.later = true
		}
		return
	}
	best := slices.MaxFunc(copies, func(a, b *heard) int {
		switch {
		case a.holdsMore(b):
			return 1
		case b.holdsMore(a):
			return -1
		}
		return 0
	})
	x := &best.x
	g.Node, g.addr, g.LastTerm, g.LastIndex, g.LostFrom = best.node, best.addr, x.LastTerm, x.LastIndex, x.NextOffset
	g.Stranded = true
	g.LogStart, g.From, g.To, g.DropTo, g.Problem = max(x.LogStart, x.To), x.From, x.To, x.DropTo, x.Problem
	g.Refilling = x.Refilling
	for _, h := range have {
		if h.x.LastTerm == x.LastTerm && h.x.LastIndex == x.LastIndex {
			g.Stranded = g.Stranded && h.x.Stranded
		}
		if h == best || !h.x.Voter && !h.x.Refilling {
			continue
		}
		if h.x.Problem != "" && g.Problem == "" {
			g.Problem = fmt.Sprintf("node %d: %s", h.node, h.x.Problem)
		}
		if h.x.Refilling || h.x.DropTo > 0 {
			g.Others = append(g.Others, givesUp{Node: h.node, Refilling: h.x.Refilling, DropTo: h.x.DropTo, From: h.x.From, To: h.x.To, addr: h.addr})
			g.LogStart = max(g.LogStart, h.x.To)
		}
	}
}

// askOnce is one round.
func askOnce(ctx context.Context, k *client.Client, hosts []client.Broker, ask client.RecoverRequest) (g stranded, led, fading bool) {
	answers := make([]heard, len(hosts))
	for i, b := range hosts {
		answers[i] = heard{node: b.Node, addr: b.ClientAddr}
		answers[i].x, answers[i].err = k.Recover(ctx, b.ClientAddr, ask)
	}
	return judgeGone(ask, answers)
}

// loss is what would be lost, and how to look again whether it still is what was shown.
type loss struct {
	groups []stranded
	gone   []client.LostDirectory
}

// recoverStranded shows the plan and carries it out. again makes it anew: what was shown may have changed while the operator was asked.
func (a *app) recoverStranded(ctx context.Context, k *client.Client, plan loss, accept, yes bool, again func() (loss, error)) error {
	if err := a.showStranded(plan.groups); err != nil {
		return err
	}
	list, good := possible(plan.groups)
	if !good {
		return codeError(exitUnhealthy)
	}
	if !accept {
		fmt.Fprintln(a.Err, "nothing was changed: --accept-loss gives up what is shown")
		return nil
	}
	var nodes []uint64
	for _, l := range plan.gone {
		nodes = append(nodes, l.Node)
	}
	what := fmt.Sprintf("giving up what is shown of %d groups, and the data directories of nodes %v", len(list), nodes)
	if len(list) < len(plan.groups) {
		what = "giving up what is shown of the metadata group, and nothing else yet"
	}
	if err := a.confirm(yes, what); err != nil {
		return err
	}
	switch now, err := again(); {
	case err != nil:
		return err
	case !reflect.DeepEqual(now, plan):
		_ = a.showStranded(now.groups)
		return errors.New("nothing was changed: this is not what was shown before: look at it and ask again")
	}
	if list[0].ask.Metadata {
		if err := a.force(ctx, k, list[0]); err != nil {
			return err
		}
		if len(list) < len(plan.groups) {
			return errors.New("no partition was touched and no directory given up: ask again, every broker hears of its topics now, and topics can be deleted")
		}
		list = list[1:]
	}
	if len(nodes) > 0 {
		if err := persist(ctx, func() error { return k.ForfeitBrokers(ctx, plan.gone) }); err != nil {
			return fmt.Errorf("the data directories of nodes %v are not given up: ask again (%w)", nodes, err)
		}
		fmt.Fprintf(a.Err, "the data directories of nodes %v are given up: never start a broker on them again\n", nodes)
	}
	for _, g := range list {
		if g.Node == 0 {
			fmt.Fprintf(a.Err, "%s: no copy is left; delete the topic\n", g.Group)
			continue
		}
		if err := a.force(ctx, k, g); err != nil {
			return err
		}
	}
	return nil
}

// possible is what of a plan can be carried out now: all of it, or the metadata group alone where all that stands against the rest can be
// mended only when that group goes on. good: there is something.
func possible(plan []stranded) (list []stranded, good bool) {
	bad := func(g stranded) bool { return g.Problem != "" }
	switch {
	case !slices.ContainsFunc(plan, bad):
		return plan, true
	case plan[0].ask.Metadata && !bad(plan[0]) && !slices.ContainsFunc(plan, func(g stranded) bool { return bad(g) && !g.later }):
		return plan[:1], true
	}
	return nil, false
}

// force has the others give up what keeps them from voting, then the replica that holds most go on without those that are gone, and waits until
// the group's log says so. Where damaged records were given up, the log begins behind them for all of them.
func (a *app) force(ctx context.Context, k *client.Client, g stranded) error {
	err := error(nil)
	for _, o := range g.Others {
		ask := g.ask
		ask.Accept, ask.VotesOnly = true, true
		err = cmp.Or(err, persist(ctx, func() error { return accepted(k.Recover(ctx, o.addr, ask)) }))
	}
	if err == nil {
		ask := g.ask
		ask.Accept = true
		err = persist(ctx, func() error { return accepted(k.Recover(ctx, g.addr, ask)) })
	}
	if err == nil {
		err = persist(ctx, func() error {
			x, err := k.Recover(ctx, g.addr, g.ask)
			if err == nil && (x.Stranded || x.Leader == 0) {
				err = fmt.Errorf("node %d has not brought it back yet", g.Node)
			}
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("%s: not recovered: see broker cluster health and ask again (%w)", g.Group, err)
	}
	fmt.Fprintf(a.Err, "%s goes on from node %d\n", g.Group, g.Node)
	if start := g.trimTo(); start > 0 {
		return a.finishRecover(ctx, k, g.ask.Topic, g.ask.Partition, start)
	}
	return nil
}

// accepted reads the answer to an accept. A group that nobody need bring back any more is well.
func accepted(x client.Recovery, err error) error {
	if err == nil && !x.Done && x.Problem != "" && x.Stranded {
		err = errors.New(x.Problem)
	}
	return err
}

// trimTo is where the log begins on all replicas if records were given up on one, else 0.
func (g *stranded) trimTo() (start int64) {
	if g.From < g.To {
		start = g.To
	}
	for _, o := range g.Others {
		if o.From < o.To {
			start = max(start, o.To)
		}
	}
	return start
}

// persist tries again until recoverWait is over.
func persist(ctx context.Context, try func() error) error {
	end := time.Now().Add(recoverWait)
	for {
		err := try()
		if err == nil || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (a *app) showStranded(plan []stranded) error {
	if a.format == "json" {
		return a.writeJSON(plan)
	}
	rows := [][]string{{"GROUP", "GOES-ON-FROM", "LAST-ENTRY", "KEEPS", "LOST", "PROBLEM"}}
	for _, g := range plan {
		row := []string{g.Group, fmt.Sprint(g.Node), fmt.Sprintf("%d (term %d)", g.LastIndex, g.LastTerm), fmt.Sprintf("records [%d, %d)", g.LogStart, max(g.LogStart, g.LostFrom)),
			fmt.Sprintf("what was acknowledged from %d on%s", g.LostFrom, g.more()), g.Problem}
		switch {
		case g.Problem != "" && g.Node == 0:
			row = []string{g.Group, "", "", "", "", g.Problem}
		case g.Node == 0:
			row = []string{g.Group, "none", "", "nothing", "everything: no copy is left" + g.more(), ""}
		case g.ask.Metadata:
			row[3], row[4] = "", "topics and settings changed behind that entry"+g.more()
		}
		rows = append(rows, row)
	}
	return a.table(rows)
}

// more is what is given up beside what only those held that are gone.
func (g *stranded) more() string {
	var b strings.Builder
	damaged := func(node uint64, from, to int64, dropTo uint64, refilling bool) {
		if refilling {
			fmt.Fprintf(&b, "; what node %d held before it lost its log", node)
		}
		switch {
		case from < to:
			fmt.Fprintf(&b, "; records [%d, %d): damaged on node %d", from, to, node)
		case dropTo > 0:
			fmt.Fprintf(&b, "; entries up to %d: damaged on node %d, which keeps their effect", dropTo, node)
		}
	}
	damaged(g.Node, g.From, g.To, g.DropTo, g.Refilling)
	for _, o := range g.Others {
		damaged(o.Node, o.From, o.To, o.DropTo, o.Refilling)
	}
	return b.String()
}
