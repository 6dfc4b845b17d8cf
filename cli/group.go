package cli

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"lograft/client"
)

func (a *app) groupCommand() *cobra.Command {
	c := &cobra.Command{Use: "group", Short: "Show, move and delete consumer groups", Args: noArgs,
		Example: "  broker group list\n  broker group describe workers\n  broker group seek workers --to start --yes\n  broker group delete workers --yes",
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return a.checkFormat()
		}}
	a.clientFlags(c)
	a.formatFlag(c)
	c.AddCommand(a.groupList(), a.groupDescribe(), a.groupSeek(), a.groupDelete())
	return c
}

type groupSummaryJSON struct {
	Name        string `json:"name"`
	State       string `json:"state"`
	Members     int    `json:"members"`
	Generation  int64  `json:"generation"`
	Coordinator uint64 `json:"coordinator"`
}

func (a *app) groupList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List all groups", Args: noArgs, Example: "  broker group list\n  broker group list --format json",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(func(k *client.Client) error {
				groups, err := k.ListGroups(c.Context())
				if err != nil {
					return err
				}
				if a.format == "json" {
					list := []groupSummaryJSON{}
					for _, g := range groups {
						list = append(list, groupSummaryJSON(g))
					}
					return a.writeJSON(list)
				}
				rows := [][]string{{"GROUP", "STATE", "MEMBERS", "GENERATION", "COORDINATOR"}}
				for _, g := range groups {
					rows = append(rows, []string{g.Name, g.State, fmt.Sprint(g.Members), fmt.Sprint(g.Generation), nodeOrNone(g.Coordinator)})
				}
				return a.table(rows)
			})
		}}
}

func nodeOrNone(node uint64) string {
	if node == 0 {
		return ""
	}
	return fmt.Sprint(node)
}

// groupJSON is a group as --format json shows it. Numbers that are not known are null.
type groupJSON struct {
	groupSummaryJSON
	TotalLag   *int64            `json:"total_lag"`
	MemberList []groupMemberJSON `json:"member_list"`
	Partitions []groupLagJSON    `json:"partitions"`
}

type groupMemberJSON struct {
	ID           string          `json:"id"`
	ClientID     string          `json:"client_id"`
	InstanceID   string          `json:"instance_id,omitempty"`
	Topics       []string        `json:"topics"`
	Generation   int64           `json:"generation"`
	Acknowledged int64           `json:"acknowledged_generation"`
	Waiting      int             `json:"waiting"`
	Partitions   []partitionName `json:"partitions"`
}

type partitionName struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
}

type groupLagJSON struct {
	partitionName
	Committed  *int64   `json:"committed"`
	LogStart   int64    `json:"log_start"`
	End        *int64   `json:"end"`
	Lag        *int64   `json:"lag"`
	LagSeconds *float64 `json:"lag_seconds"`
	Member     string   `json:"member,omitempty"`
	Problem    string   `json:"problem,omitempty"`
}

func known(v int64) *int64 {
	if v < 0 {
		return nil
	}
	return &v
}

// totalLag is the sum, nil if a part of it is not known.
func totalLag(g *client.Group) *int64 {
	total := int64(0)
	for i := range g.Partitions {
		if g.Partitions[i].Lag < 0 {
			return nil
		}
		total += g.Partitions[i].Lag
	}
	return &total
}

func memberName(id [16]byte) string {
	if id == [16]byte{} {
		return ""
	}
	return hex.EncodeToString(id[:4])
}

func toGroupJSON(g *client.Group) groupJSON {
	out := groupJSON{groupSummaryJSON: groupSummaryJSON{g.Name, g.State, len(g.Members), g.Generation, g.Coordinator}, TotalLag: totalLag(g), MemberList: []groupMemberJSON{}, Partitions: []groupLagJSON{}}
	for i := range g.Members {
		m := &g.Members[i]
		x := groupMemberJSON{ID: hex.EncodeToString(m.ID[:]), ClientID: m.ClientID, InstanceID: m.InstanceID, Topics: m.Topics, Generation: m.Generation, Acknowledged: m.Acknowledged, Waiting: m.Waiting, Partitions: []partitionName{}}
		for _, p := range m.Partitions {
			x.Partitions = append(x.Partitions, partitionName{p.Topic, p.Partition})
		}
		out.MemberList = append(out.MemberList, x)
	}
	for i := range g.Partitions {
		p := &g.Partitions[i]
		x := groupLagJSON{partitionName: partitionName{p.Topic, p.Partition}, Committed: known(p.Committed), LogStart: p.LogStart, End: known(p.End), Lag: known(p.Lag), Problem: p.Problem}
		if p.LagTimeKnown {
			seconds := p.LagTime.Seconds()
			x.LagSeconds = &seconds
		}
		if p.Member != [16]byte{} {
			x.Member = hex.EncodeToString(p.Member[:])
		}
		out.Partitions = append(out.Partitions, x)
	}
	return out
}

func numberOrNone(v int64) string {
	if v < 0 {
		return ""
	}
	return fmt.Sprint(v)
}

func (a *app) groupDescribe() *cobra.Command {
	return &cobra.Command{Use: "describe NAME", Short: "Show members, assignment and lag of a group", Args: args1("group"), ValidArgsFunction: a.completeGroups(), Example: "  broker group describe workers\n  broker group describe workers --format json | jq .total_lag",
		Long: "Shows who reads what and how far: committed offset, end of the log (confirmed with each partition's leader), lag in records, and in seconds\nby the append time of the oldest record that is not read. Without a committed offset the lag counts from the log start.",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(func(k *client.Client) error {
				g, err := k.DescribeGroup(c.Context(), args[0])
				if err != nil {
					return err
				}
				if a.format == "json" {
					return a.writeJSON(toGroupJSON(&g))
				}
				return a.showGroup(&g)
			})
		}}
}

func (a *app) showGroup(g *client.Group) error {
	total := "unknown"
	if t := totalLag(g); t != nil {
		total = fmt.Sprint(*t)
	}
	if _, err := fmt.Fprintf(a.Out, "group %s: %s, %s, generation %d, coordinator %s, total lag %s\n", g.Name, g.State, counted(len(g.Members), "member"), g.Generation, orDash(nodeOrNone(g.Coordinator)), total); err != nil {
		return err
	}
	client := map[[16]byte]string{}
	for i := range g.Members {
		m := &g.Members[i]
		if client[m.ID] = m.ClientID; m.InstanceID != "" {
			client[m.ID] += "/" + m.InstanceID
		}
	}
	rows := [][]string{{"TOPIC", "PARTITION", "COMMITTED", "START", "END", "LAG", "LAG-SECONDS", "MEMBER", "CLIENT"}}
	for i := range g.Partitions {
		p := &g.Partitions[i]
		seconds := ""
		if p.LagTimeKnown {
			seconds = fmt.Sprintf("%.1f", p.LagTime.Round(100*time.Millisecond).Seconds())
		}
		start := fmt.Sprint(p.LogStart)
		if p.End < 0 {
			start = ""
		}
		rows = append(rows, []string{p.Topic, fmt.Sprint(p.Partition), numberOrNone(p.Committed), start, numberOrNone(p.End), numberOrNone(p.Lag), seconds, memberName(p.Member), client[p.Member]})
		if p.Problem != "" {
			fmt.Fprintf(a.Err, "%s/%d: %s\n", p.Topic, p.Partition, p.Problem)
		}
	}
	if err := a.table(rows); err != nil {
		return err
	}
	for i := range g.Members { // those that hold nothing are in no row
		if m := &g.Members[i]; len(m.Partitions) == 0 {
			if _, err := fmt.Fprintf(a.Out, "member %s (%s) holds no partition, %d are to come\n", memberName(m.ID), m.ClientID, m.Waiting); err != nil {
				return err
			}
		}
	}
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (a *app) groupSeek() *cobra.Command {
	var to string
	var topics []string
	var partitions []int32
	yes := false
	c := &cobra.Command{Use: "seek NAME", Short: "Set where a group without members goes on", Args: args1("group"), ValidArgsFunction: a.completeGroups(),
		Example: "  broker group seek workers --to start --yes\n  broker group seek workers --to 100 --topic orders -p 0 --yes\n  broker group seek workers --to -50 --yes            # 50 records before the end of each partition\n  broker group seek workers --to @-1h --yes           # what was appended in the last hour",
		RunE: func(c *cobra.Command, args []string) error {
			if to == "" {
				return usagef("--to is missing: say start, end, an offset N, +N after the start, -N before the end, or @TIME")
			}
			p, err := parsePosition(to, "", time.Now())
			if err != nil {
				return usagef("--to %w", err)
			}
			if err := a.confirm(yes, fmt.Sprintf("moving group %q to %s", args[0], to)); err != nil {
				return err
			}
			return a.with(func(k *client.Client) error { return a.seek(c, k, args[0], p, topics, partitions) })
		}}
	c.Flags().StringVar(&to, "to", "", "start, end, an offset N, +N after the start, -N before the end, @TIME (@-1h, @2026-01-02, ...)")
	c.Flags().StringArrayVar(&topics, "topic", nil, "only this topic; may be repeated (default: the topics of the group)")
	c.Flags().Int32SliceVarP(&partitions, "partitions", "p", nil, "only these partitions, for example 0,3")
	c.Flags().Lookup("partitions").DefValue = ""
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

type seekJSON struct {
	partitionName
	From *int64 `json:"from"`
	To   int64  `json:"to"`
}

func (a *app) seek(c *cobra.Command, k *client.Client, name string, p client.Position, topics []string, only []int32) error {
	ctx := c.Context()
	g, err := k.DescribeGroup(ctx, name)
	if err != nil && (client.ReasonOf(err) != client.ReasonGroupNotFound || len(topics) == 0) {
		return err
	}
	committed := map[client.TopicPartition]int64{}
	for i := range g.Partitions {
		x := &g.Partitions[i]
		committed[client.TopicPartition{Topic: x.Topic, Partition: x.Partition}] = x.Committed
		if len(topics) == 0 || !slices.Contains(topics, x.Topic) && !c.Flags().Changed("topic") {
			topics = append(topics, x.Topic)
		}
	}
	slices.Sort(topics)
	var offsets []client.GroupOffset
	moved := []seekJSON{}
	for _, t := range slices.Compact(topics) {
		d, err := k.DescribeTopic(ctx, t)
		if err != nil {
			return err
		}
		for n := range int32(len(d.Partitions)) {
			if len(only) > 0 && !slices.Contains(only, n) {
				continue
			}
			at, err := k.ResolvePosition(ctx, t, n, p)
			if err != nil {
				return err
			}
			offsets = append(offsets, client.GroupOffset{Topic: t, Partition: n, Offset: at})
			from, ok := committed[client.TopicPartition{Topic: t, Partition: n}]
			if !ok {
				from = -1
			}
			moved = append(moved, seekJSON{partitionName{t, n}, known(from), at})
		}
	}
	if len(offsets) == 0 {
		return usagef("no partition is meant: group %q has no topics, or none of --topic and --partitions exists", name)
	}
	if err := k.SeekGroup(ctx, name, offsets); err != nil {
		return asUsage(err)
	}
	if a.format == "json" {
		return a.writeJSON(moved)
	}
	rows := [][]string{{"TOPIC", "PARTITION", "FROM", "TO"}}
	for _, m := range moved {
		from := ""
		if m.From != nil {
			from = fmt.Sprint(*m.From)
		}
		rows = append(rows, []string{m.Topic, fmt.Sprint(m.Partition), from, fmt.Sprint(m.To)})
	}
	return a.table(rows)
}

func (a *app) groupDelete() *cobra.Command {
	c := a.deleteVerb("group", "deleting group %q with its committed offsets", a.completeGroups(),
		func(ctx context.Context, k *client.Client, name string) error { return k.DeleteGroup(ctx, name) })
	c.Short, c.Example = "Delete a group without members and its committed offsets", "  broker group delete workers --yes"
	return c
}
