package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"lograft/client"
)

// membersPollEvery is how often the brokers are asked how far a move is; membersSayEvery, how often that is said where there is no bar.
const (
	membersPollEvery = 300 * time.Millisecond
	membersSayEvery  = 5 * time.Second
)

func parseNode(s string) (uint64, error) {
	node, err := strconv.ParseUint(s, 10, 64)
	if err != nil || node == 0 {
		return 0, usagef("node %q: want a node id from 1 on (broker cluster info lists them)", s)
	}
	return node, nil
}

// parsePartition reads TOPIC/P.
func parsePartition(s string) (topic string, partition int32, err error) {
	at := strings.LastIndexByte(s, '/')
	if at > 0 {
		if n, err := strconv.ParseInt(s[at+1:], 10, 32); err == nil && n >= 0 {
			return s[:at], int32(n), nil
		}
	}
	return "", 0, usagef("partition %q: want TOPIC/NUMBER, like orders/0", s)
}

func parseNodes(list []string) ([]uint64, error) {
	var nodes []uint64
	for _, s := range list {
		node, err := parseNode(s)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, node)
	}
	if len(nodes) == 0 {
		return nil, usagef("say where the replicas shall be: --replicas 1,2,3, the preferred leader first")
	}
	return nodes, nil
}

func (a *app) clusterAdd() *cobra.Command {
	return &cobra.Command{Use: "add NODE=HOST:PORT", Short: "Give a new broker a place in the cluster", Args: args1("broker"), Example: "  broker cluster add 4=10.0.0.4:7401",
		Long: "HOST:PORT is its peer port. Then start it, with an empty data directory and an --initial-cluster that names it and some brokers that run:\n" +
			"it registers itself. It holds no replicas until topics are created, or broker cluster rebalance moves some there.",
		RunE: func(c *cobra.Command, args []string) error {
			id, addr, found := strings.Cut(args[0], "=")
			if _, _, err := net.SplitHostPort(addr); !found || err != nil {
				return usagef("broker %q: want NODE=HOST:PORT, its node id and the address of its peer port", args[0])
			}
			node, err := parseNode(id)
			if err != nil {
				return err
			}
			return a.with(func(k *client.Client) error {
				if err := k.AddBroker(c.Context(), node, addr); err != nil {
					return asUsage(err)
				}
				return a.done(map[string]any{"added": node}, "added node %d at %s: start it now, with an empty data directory\n", node, addr)
			})
		}}
}

// done says in either format what was done.
func (a *app) done(v map[string]any, format string, args ...any) error {
	if a.format == "json" {
		return a.writeJSON(v)
	}
	_, err := fmt.Fprintf(a.Out, format, args...)
	return err
}

func (a *app) clusterRemove() *cobra.Command {
	return &cobra.Command{Use: "remove NODE", Short: "Take a broker out of the cluster for good", Args: args1("node id"), Example: "  broker cluster decommission 3 -w && broker cluster remove 3",
		Long: "It must hold no replica any more: see broker cluster decommission, which works for a broker that is dead, too. A removed broker stops by\n" +
			"itself with exit code 5 and is refused by all others; to come back it is added again and started with an empty data directory.",
		RunE: func(c *cobra.Command, args []string) error {
			node, err := parseNode(args[0])
			if err != nil {
				return err
			}
			return a.with(func(k *client.Client) error {
				if err := k.RemoveBroker(c.Context(), node); err != nil {
					return asUsage(err)
				}
				return a.done(map[string]any{"removed": node}, "removed node %d: if it runs, it stops by itself (exit code 5); delete its data directory\n", node)
			})
		}}
}

func (a *app) clusterDecommission() *cobra.Command {
	var wait, cancel bool
	c := &cobra.Command{Use: "decommission NODE", Short: "Move everything away from a broker, whether it runs or not", Args: args1("node id"),
		Example: "  broker cluster decommission 3 -w\n  broker cluster decommission 3 --cancel",
		Long: "Its replicas move to the brokers that hold least, some partitions at a time; each new replica is filled first and votes when it has caught\n" +
			"up, so that no partition is ever without its majority. The brokers carry it through by themselves: -w only watches.",
		RunE: func(c *cobra.Command, args []string) error {
			node, err := parseNode(args[0])
			if err != nil {
				return err
			}
			if wait && cancel {
				return usagef("--cancel ends it: there is nothing to wait for")
			}
			return a.with(func(k *client.Client) error {
				if err := k.DecommissionBroker(c.Context(), node, cancel); err != nil {
					return asUsage(err)
				}
				switch {
				case cancel:
					return a.done(map[string]any{"node": node, "leaving": false}, "node %d stays\n", node)
				case !wait:
					return a.done(map[string]any{"node": node, "leaving": true}, "node %d is being emptied: broker cluster decommission %d -w watches, broker cluster remove %d is next\n", node, node, node)
				}
				if err := a.watchMembers(c.Context(), k, fmt.Sprintf("decommission %d", node), func(m *client.Members) int { return leftOn(m, node) }); err != nil {
					return err
				}
				return a.done(map[string]any{"node": node, "leaving": true, "replicas": 0}, "node %d holds nothing any more: broker cluster remove %d\n", node, node)
			})
		}}
	c.Flags().BoolVarP(&wait, "watch", "w", false, "wait until nothing is left there, and show how far it is")
	c.Flags().BoolVar(&cancel, "cancel", false, "let the broker keep and take replicas again")
	return c
}

// leftOn is how much must still leave a node: partitions, and its vote in the metadata group.
func leftOn(m *client.Members, node uint64) int {
	left := 0
	for _, b := range m.Brokers {
		if b.Node == node {
			left = b.Held
		}
	}
	if slices.Contains(m.MetadataVoters, node) || m.MetadataMoving {
		left++
	}
	return left
}

// watchMembers waits until left says 0, and shows how it becomes less.
func (a *app) watchMembers(ctx context.Context, k *client.Client, what string, left func(*client.Members) int) error {
	most, said := 0, time.Now()
	var bar *progressbar.ProgressBar
	for {
		m, err := k.DescribeMembers(ctx, client.Linearizable)
		switch {
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !slices.Contains([]string{client.ReasonUnavailable, client.ReasonTimeout, client.ReasonUnreachable}, client.ReasonOf(err)):
			return err
		case err != nil:
			fmt.Fprintln(a.Err, "not known how far it is, asking again:", err)
		default:
			n := left(&m)
			if n == 0 {
				if bar != nil {
					_ = bar.Finish()
				}
				return nil
			}
			if most = max(most, n); bar == nil {
				bar = newCount(a, int64(most), what)
			}
			if bar != nil {
				bar.ChangeMax(most)
				_ = bar.Set(most - n)
			} else if time.Since(said) >= membersSayEvery {
				said = time.Now()
				fmt.Fprintf(a.Err, "%s: %d of %d done, %d partitions on the move\n", what, most-n, most, len(m.Moving))
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(membersPollEvery):
		}
	}
}

func (a *app) clusterRebalance() *cobra.Command {
	var wait bool
	c := &cobra.Command{Use: "rebalance", Short: "Even out replicas and leaders over the brokers", Args: noArgs, Example: "  broker cluster rebalance -w",
		Long: "Moves replicas, some partitions at a time, until no broker holds more than one more than another, then evens out who shall lead. The brokers\n" +
			"carry it through by themselves. With -w leadership is handed to the preferred leaders at the end; interrupted, it is just run again.",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(func(k *client.Client) error {
				if err := k.Rebalance(c.Context()); err != nil {
					return asUsage(err)
				}
				if !wait {
					return a.done(map[string]any{"rebalancing": true}, "the brokers even out their replicas: broker cluster rebalance -w watches, and hands leadership over at the end\n")
				}
				if err := a.watchMembers(c.Context(), k, "rebalance", movesLeft); err != nil {
					return err
				}
				moved, failed := a.leadAsPreferred(c.Context(), k)
				if err := a.done(map[string]any{"rebalancing": false, "leaders_moved": moved, "leaders_not_moved": len(failed)}, "replicas are even; %d leaders moved\n", moved); err != nil {
					return err
				}
				return errors.Join(failed...)
			})
		}}
	c.Flags().BoolVarP(&wait, "watch", "w", false, "wait until it is done, show how far it is, and hand leadership over")
	return c
}

// movesLeft is how many replicas are on the move, or still too many on their broker.
func movesLeft(m *client.Members) int {
	brokers, replicas := 0, 0
	for _, b := range m.Brokers {
		if b.Registered && !b.Leaving {
			brokers, replicas = brokers+1, replicas+b.Replicas
		}
	}
	left := len(m.Moving)
	if !m.Rebalancing || brokers == 0 {
		return left
	}
	for _, b := range m.Brokers {
		if b.Registered && !b.Leaving {
			left += max(b.Replicas-(replicas+brokers-1)/brokers, 0)
		}
	}
	return max(left, 1)
}

// leadAsPreferred hands leadership to the preferred leaders, one partition after the other.
func (a *app) leadAsPreferred(ctx context.Context, k *client.Client) (moved int, failed []error) {
	d, err := k.DescribeCluster(ctx)
	if err != nil {
		return 0, []error{err}
	}
	for i := range d.Topics {
		t := &d.Topics[i]
		if states, err := k.TopicReplicas(ctx, t.Name); err == nil {
			leadersOf(t, states)
		}
		for _, p := range t.Partitions {
			if len(p.Wanted) > 0 || len(p.Replicas) == 0 || p.Leader == p.Replicas[0] {
				continue
			}
			if err := k.TransferLeader(ctx, t.Name, p.Number, p.Replicas[0]); err != nil {
				failed = append(failed, fmt.Errorf("%s/%d is not led by node %d: %w", t.Name, p.Number, p.Replicas[0], err))
				continue
			}
			moved++
		}
	}
	return moved, failed
}

func (a *app) clusterTransfer() *cobra.Command {
	return &cobra.Command{Use: "transfer-leader TOPIC/PARTITION NODE", Short: "Hand the leadership of a partition to another replica", Example: "  broker cluster transfer-leader orders/0 2",
		Long: "With leaders.auto-rebalance (the default of brokers) it goes back to the preferred leader when all replicas have been caught up for 30 election\n" +
			"timeouts: to change it for good, name another replica first with broker topic reassign.",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("%s wants a partition and a node id: see %s --help", c.CommandPath(), c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			topic, partition, err := parsePartition(args[0])
			if err != nil {
				return err
			}
			node, err := parseNode(args[1])
			if err != nil {
				return err
			}
			return a.with(func(k *client.Client) error {
				if err := k.TransferLeader(c.Context(), topic, partition, node); err != nil {
					return asUsage(err)
				}
				return a.done(map[string]any{"topic": topic, "partition": partition, "leader": node}, "node %d leads %s/%d\n", node, topic, partition)
			})
		}}
}

func (a *app) topicReassign() *cobra.Command {
	var replicas []string
	var wait bool
	c := &cobra.Command{Use: "reassign NAME/PARTITION --replicas NODES", Short: "Say on which brokers a partition's replicas shall be", Args: args1("partition"),
		Example: "  broker topic reassign orders/0 --replicas 1,2,4 -w\n  broker topic reassign orders/0 --replicas 1,2,3     # while it moves: send it back",
		Long:    "The first node is the preferred leader's. New replicas are filled first and vote when they have caught up; old ones go after that.",
		RunE: func(c *cobra.Command, args []string) error {
			topic, partition, err := parsePartition(args[0])
			if err != nil {
				return err
			}
			nodes, err := parseNodes(replicas)
			if err != nil {
				return err
			}
			return a.with(func(k *client.Client) error {
				if err := k.ReassignPartition(c.Context(), topic, partition, nodes); err != nil {
					return asUsage(err)
				}
				if wait {
					if err := a.watchMembers(c.Context(), k, "reassign "+args[0], func(m *client.Members) int { return moving(m, topic, partition) }); err != nil {
						return err
					}
					return a.done(map[string]any{"topic": topic, "partition": partition, "replicas": nodes, "moving": false}, "%s is on nodes %s\n", args[0], strings.Join(replicas, ","))
				}
				return a.done(map[string]any{"topic": topic, "partition": partition, "replicas": nodes}, "%s moves to nodes %s: broker topic describe %s shows how far it is\n", args[0], strings.Join(replicas, ","), topic)
			})
		}}
	c.Flags().StringSliceVar(&replicas, "replicas", nil, "node ids, the preferred leader first")
	c.Flags().BoolVarP(&wait, "watch", "w", false, "wait until it has arrived")
	return c
}

func moving(m *client.Members, topic string, partition int32) int {
	for _, p := range m.Moving {
		if p.Topic == topic && p.Partition == partition {
			return 1
		}
	}
	return 0
}
