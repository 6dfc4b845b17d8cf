package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	LogStart  int64  `json:"log_start"`
	LostFrom  int64  `json:"lost_from"` // what was acknowledged from this offset on is lost
	Stranded  bool   `json:"stranded"`
	Problem   string `json:"problem,omitempty"`

	addr string
	ask  client.RecoverRequest
}

const metadataGroup = "metadata group"

// leaderFades is how long a leader is waited for that can't go on leading.
const leaderFades = 10 * time.Second

// recoverGone shows what is lost with the directories of these nodes, and gives them up.
func (a *app) recoverGone(ctx context.Context, k *client.Client, gone []uint64, accept, yes bool) error {
	d, err := k.DescribeCluster(ctx)
	if err != nil {
		return err
	}
	left, err := withoutGone(ctx, k, &d, gone)
	if err != nil {
		return err
	}
	plan := askGone(ctx, k, &d, left, gone)
	if len(plan) == 0 {
		return a.done(map[string]any{"stranded": 0}, "no group loses its majority with nodes %v: nothing has to be given up; start each of them with an empty data directory, or decommission it\n", gone)
	}
	return a.recoverStranded(ctx, k, plan, accept, yes, gone)
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
			hosts := slices.DeleteFunc(slices.Clone(left), func(b client.Broker) bool { return !slices.Contains(nodes, b.Node) })
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
		g, led := askOnce(ctx, k, hosts, ask)
		over := time.Now().After(end) || ctx.Err() != nil
		switch {
		case led && !g.Stranded && (g.Problem == "" || over):
			return stranded{Group: g.Group, ask: ask} // whoever is gone or silent: it goes on
		case !led || over:
			return g
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// askOnce is one round. led: a replica has heard a leader lately.
func askOnce(ctx context.Context, k *client.Client, hosts []client.Broker, ask client.RecoverRequest) (g stranded, led bool) {
	g = stranded{Group: metadataGroup, ask: ask}
	if !ask.Metadata {
		g.Group = fmt.Sprintf("%s/%d", ask.Topic, ask.Partition)
	}
	missing := ""
	for _, b := range hosts {
		x, err := k.Recover(ctx, b.ClientAddr, ask)
		var refused *client.Error
		switch {
		case errors.As(err, &refused) && refused.Reason == "UNKNOWN_PARTITION":
			continue // it was to get a replica, and has none yet
		case err != nil:
			missing = fmt.Sprintf("node %d was not asked: %v: start it, or name it too", b.Node, err)
			continue
		}
		led = led || x.Leader != 0
		if g.Node == 0 || x.LastTerm > g.LastTerm || x.LastTerm == g.LastTerm && x.LastIndex > g.LastIndex {
			g.Node, g.addr, g.LastTerm, g.LastIndex = b.Node, b.ClientAddr, x.LastTerm, x.LastIndex
			g.LogStart, g.LostFrom, g.Stranded, g.Problem = x.LogStart, x.NextOffset, x.Stranded, x.Problem
		}
	}
	g.Stranded = g.Stranded || g.Node == 0
	if missing != "" {
		g.Problem = missing
	} else if !g.Stranded {
		g.Problem = "" // a majority is left: it elects somebody, or says by itself what keeps it
	}
	return g, led
}

// recoverStranded shows the plan and carries it out.
func (a *app) recoverStranded(ctx context.Context, k *client.Client, plan []stranded, accept, yes bool, gone []uint64) error {
	if err := a.showStranded(plan); err != nil {
		return err
	}
	if slices.ContainsFunc(plan, func(g stranded) bool { return g.Problem != "" }) {
		return codeError(exitUnhealthy)
	}
	if !accept {
		fmt.Fprintln(a.Err, "nothing was changed: --accept-loss gives up what is shown")
		return nil
	}
	if err := a.confirm(yes, fmt.Sprintf("giving up what is shown of %d groups, and the data directories of nodes %v", len(plan), gone)); err != nil {
		return err
	}
	if plan[0].ask.Metadata {
		if err := a.force(ctx, k, plan[0]); err != nil {
			return err
		}
		plan = plan[1:]
	}
	if len(gone) > 0 {
		if err := persist(ctx, func() error { return k.ForfeitBrokers(ctx, gone) }); err != nil {
			return fmt.Errorf("the data directories of nodes %v are not given up: ask again (%w)", gone, err)
		}
		fmt.Fprintf(a.Err, "the data directories of nodes %v are given up: never start a broker on them again\n", gone)
	}
	for _, g := range plan {
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

// force has the replica that holds most go on without those that are gone, and waits until the group's log says so.
func (a *app) force(ctx context.Context, k *client.Client, g stranded) error {
	ask := g.ask
	ask.Accept = true
	err := persist(ctx, func() error {
		x, err := k.Recover(ctx, g.addr, ask)
		if err == nil && !x.Done && x.Problem != "" && x.Stranded {
			err = errors.New(x.Problem)
		}
		return err
	})
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
	return nil
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
		row := []string{g.Group, fmt.Sprint(g.Node), fmt.Sprintf("%d (term %d)", g.LastIndex, g.LastTerm), fmt.Sprintf("records [%d, %d)", g.LogStart, g.LostFrom),
			fmt.Sprintf("what was acknowledged from %d on", g.LostFrom), g.Problem}
		switch {
		case g.Problem != "" && g.Node == 0:
			row = []string{g.Group, "", "", "", "", g.Problem}
		case g.Node == 0:
			row = []string{g.Group, "none", "", "nothing", "everything: no copy is left", ""}
		case g.ask.Metadata:
			row[3], row[4] = "", "topics and settings changed behind that entry"
		}
		rows = append(rows, row)
	}
	return a.table(rows)
}
