package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"lograft/client"
)

// recoverWait is how long a leader may take to be elected after the loss was accepted.
const recoverWait = 30 * time.Second

func (a *app) clusterRecover() *cobra.Command {
	accept, yes, gone := false, false, []string(nil)
	c := &cobra.Command{Use: "recover TOPIC/PARTITION | --gone NODE,...", Short: "Show, and with --accept-loss give up, what keeps a partition without a leader from electing one", Args: cobra.MaximumNArgs(1),
		Example: "  broker cluster recover orders/3                 # what would be lost; changes nothing\n  broker cluster recover orders/3 --accept-loss\n  broker cluster recover --gone 2,3               # what is lost if the directories of these brokers never come back",
		Long: "A partition elects nobody when a majority of its replicas lost their logs, or when the same records are damaged in every copy: the program\n" +
			"never gives up data by itself. With --accept-loss each living replica gives up the damaged segments and all before them, and one that lost\n" +
			"its log votes again with what it has; then the most complete replica is elected, and the others are made equal to it. A partition that has\n" +
			"a leader is refused. Replicas on brokers that are down are not asked: start them first, they may hold what is missing.\n\n" +
			"--gone names every broker whose data directory is lost for good. Without --accept-loss it says of each group that has no majority without\n" +
			"them which replica holds most and where its log ends. With it, these directories are given up (they are refused everywhere from then on, and\n" +
			"an empty one may take each one's place), and each such group goes on with the replicas that are left. What only the lost ones held is lost.",
		RunE: func(c *cobra.Command, args []string) error {
			if (len(args) == 1) == (len(gone) > 0) {
				return usagef("want one of TOPIC/PARTITION and --gone NODE,...")
			}
			if len(gone) > 0 {
				nodes, err := parseNodes(gone)
				if err != nil {
					return err
				}
				return a.with(func(k *client.Client) error { return a.recoverGone(c.Context(), k, nodes, accept, yes) })
			}
			topic, n, err := parsePartition(args[0])
			if err != nil {
				return err
			}
			return a.with(func(k *client.Client) error { return a.recover(c.Context(), k, topic, n, accept, yes) })
		}}
	c.Flags().BoolVar(&accept, "accept-loss", false, "give up what is shown without it")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().StringSliceVar(&gone, "gone", nil, "the brokers whose data directories never come back, all of them")
	return c
}

// recovered is one replica's line.
type recovered struct {
	Node      uint64 `json:"node"`
	Refilling bool   `json:"lost_its_log"`
	LastIndex uint64 `json:"last_entry"`
	From      int64  `json:"given_up_from"`
	To        int64  `json:"given_up_to"` // not included
	DropTo    uint64 `json:"given_up_entries_to"`
	Done      bool   `json:"done"`
	Problem   string `json:"problem,omitempty"`
}

func (a *app) recover(ctx context.Context, k *client.Client, topic string, n int32, accept, yes bool) error {
	d, err := k.DescribeCluster(ctx)
	if err != nil {
		return err
	}
	brokers, err := hostsOf(&d, topic, n)
	if err != nil {
		return err
	}
	if g := askGroup(ctx, k, brokers, client.RecoverRequest{Topic: topic, Partition: n}); g.Stranded && g.Problem == "" && (g.Node != 0 || len(g.Others) == 0) {
		return a.recoverStranded(ctx, k, loss{groups: []stranded{g}}, accept, yes, func() (loss, error) {
			return loss{groups: []stranded{askGroup(ctx, k, brokers, g.ask)}}, nil
		})
	}
	plan, good := askRecover(ctx, k, brokers, topic, n, false)
	if err := a.showRecovered(plan); err != nil {
		return err
	}
	if !accept || !good {
		if !good {
			return codeError(exitUnhealthy)
		}
		fmt.Fprintln(a.Err, "nothing was changed: --accept-loss gives up what is shown")
		return nil
	}
	if err := a.confirm(yes, fmt.Sprintf("giving up what is shown of partition %s/%d", topic, n)); err != nil {
		return err
	}
	done, _ := askRecover(ctx, k, brokers, topic, n, true)
	start, gave := int64(0), false
	for _, x := range done {
		gave = gave || x.Done // the others may have a leader by then, and refuse
		if x.Done && x.From < x.To {
			start = max(start, x.To)
		}
	}
	if !gave {
		_ = a.showRecovered(done)
		return fmt.Errorf("%s/%d: no replica gave up anything: look at the table", topic, n)
	}
	return a.finishRecover(ctx, k, topic, n, start)
}

// finishRecover waits for the leader and has it say where the log begins now, so that replicas that were away follow.
func (a *app) finishRecover(ctx context.Context, k *client.Client, topic string, n int32, start int64) error {
	ctx, cancel := context.WithTimeout(ctx, recoverWait)
	defer cancel()
	for {
		x, err := k.TrimPartition(ctx, topic, n, start)
		if err == nil {
			fmt.Fprintf(a.Err, "%s/%d has a leader again and holds offsets [%d, %d)\n", topic, n, x.LogStart, x.HighWatermark)
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s/%d: no leader after %v: see broker cluster health (%w)", topic, n, recoverWait, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// hostsOf are the brokers on which a partition's replicas belong.
func hostsOf(d *client.Cluster, topic string, n int32) (brokers []client.Broker, err error) {
	for _, t := range d.Topics {
		if t.Name != topic {
			continue
		}
		for _, p := range t.Partitions {
			if p.Number != n {
				continue
			}
			for _, b := range d.Brokers {
				if slices.Contains(p.Replicas, b.Node) || len(p.Wanted) > 0 { // while it moves: any may hold some of it
					brokers = append(brokers, b)
				}
			}
			return brokers, nil
		}
		return nil, usagef("topic %q has no partition %d", topic, n)
	}
	return nil, usagef("topic %q not found", topic)
}

// askRecover asks every broker. good: at least one answered, and none of those sees a reason against it.
func askRecover(ctx context.Context, k *client.Client, brokers []client.Broker, topic string, n int32, accept bool) (out []recovered, good bool) {
	answered := 0
	good = true
	for _, b := range brokers {
		x, err := k.Recover(ctx, b.ClientAddr, client.RecoverRequest{Topic: topic, Partition: n, Accept: accept})
		row := recovered{Node: b.Node, Refilling: x.Refilling, LastIndex: x.LastIndex, From: x.From, To: x.To, DropTo: x.DropTo, Done: x.Done, Problem: x.Problem}
		if noReplica(err) {
			continue
		}
		if err != nil {
			row.Problem = "not asked: " + err.Error()
		} else {
			answered++
			good = good && x.Problem == ""
		}
		out = append(out, row)
	}
	return out, good && answered > 0
}

func (a *app) showRecovered(list []recovered) error {
	if a.format == "json" {
		return a.writeJSON(list)
	}
	rows := [][]string{{"NODE", "LAST-ENTRY", "GIVEN UP", "PROBLEM"}}
	for _, x := range list {
		lost := "nothing"
		switch {
		case x.Problem != "":
			lost = ""
		case x.From < x.To:
			lost = fmt.Sprintf("records [%d, %d)", x.From, x.To)
		case x.DropTo > 0:
			lost = fmt.Sprintf("entries up to %d, whose effect it keeps", x.DropTo)
		case x.Refilling:
			lost = fmt.Sprintf("what it held behind entry %d and no other replica holds", x.LastIndex)
		}
		rows = append(rows, []string{fmt.Sprint(x.Node), fmt.Sprint(x.LastIndex), lost, x.Problem})
	}
	return a.table(rows)
}
