package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"lograft/client"
)

// problem is one thing that is not as it should be.
type problem struct {
	Topic     string `json:"topic"` // empty: the metadata group, or a broker
	Partition int32  `json:"partition"`
	Node      uint64 `json:"node"`
	Problem   string `json:"problem"`
}

// brokerHealth is one broker's line of the screen. Pointers are null where its HTTP port did not tell.
type brokerHealth struct {
	Node           uint64   `json:"node"`
	Up             bool     `json:"up"`
	Version        string   `json:"version"`
	Rack           string   `json:"rack"`
	Commands       uint32   `json:"commands"` // newest version of commands that its build carries out
	Leaving        bool     `json:"leaving"`  // it is being decommissioned
	Leads          int      `json:"leads"`
	Replicas       int      `json:"replicas"`
	Behind         int      `json:"behind"`
	Faulty         int      `json:"faulty"`
	SyncMsAvg      *float64 `json:"sync_ms_avg"`
	SyncMsNow      *float64 `json:"sync_ms_now"` // age of the round under way
	DiskFree       *float64 `json:"disk_free_bytes"`
	DiskSize       *float64 `json:"disk_size_bytes"`
	DiskErrors     *float64 `json:"disk_errors"`
	LeadershipsWon *float64 `json:"leaderships_won"`
}

// health is the whole screen.
type health struct {
	Healthy         bool           `json:"healthy"`
	Cluster         string         `json:"cluster"`
	ID              string         `json:"id"`
	Brokers         int            `json:"brokers"`
	Topics          int            `json:"topics"`
	Partitions      int            `json:"partitions"`
	MetadataLeader  uint64         `json:"metadata_leader"`
	Commands        uint32         `json:"commands"`          // active version of the cluster's commands
	Upgrade         string         `json:"upgrade,omitempty"` // who keeps it from being raised
	Leaderless      int            `json:"leaderless"`
	UnderReplicated int            `json:"under_replicated"`
	RackShared      int            `json:"rack_shared"` // partitions with two replicas in a rack, though another rack could take one: no fault
	RackExample     string         `json:"rack_shared_example,omitempty"`
	FaultyRanges    int            `json:"faulty_ranges"`
	Moving          int            `json:"partitions_moving"` // replicas are on their way: no fault
	Rebalancing     bool           `json:"rebalancing"`
	CanLoseOne      bool           `json:"can_lose_one_broker"`
	WhyNot          string         `json:"why_not,omitempty"`
	Nodes           []brokerHealth `json:"nodes"`
	Groups          []groupLag     `json:"groups"` // those that are furthest behind
	Problems        []problem      `json:"problems"`
}

// groupLag is how far a consumer group is behind.
type groupLag struct {
	Group      string   `json:"group"`
	State      string   `json:"state"`
	Members    int      `json:"members"`
	Lag        int64    `json:"lag"`         // records, of all partitions whose lag is known
	LagSeconds *float64 `json:"lag_seconds"` // age of the oldest record that it has not read; null: not known
}

// lagMax is how many entries a replica may be behind its leader and still count as caught up.
const lagMax = 1000

// Bounds of the disk beyond which somebody should look.
const (
	diskFreeMin    = 0.05 // of the file system
	syncMsStuckMax = 1000
)

// Bounds of what health asks about consumer groups.
const (
	groupsAsked  = 50
	groupsShown  = 10
	groupsPeriod = 5 * time.Second
)

// watchEvery is how often health -w looks.
const watchEvery = 2 * time.Second

func (a *app) clusterHealth() *cobra.Command {
	var watch, exit bool
	c := &cobra.Command{Use: "health", Short: "Check brokers, leaders, replicas and disks; exit code 3 if anything is wrong", Args: noArgs,
		Example: "  broker cluster health && echo all is well\n  broker cluster health -w                 # again whenever something changes\n  broker cluster health -e                 # returns when all is well",
		Long:    "One screen: is there a quorum and a leader for everything, is everything replicated, how are the disks, can one more broker be lost.",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(func(k *client.Client) error { return a.watchHealth(c.Context(), k, watch, exit) })
		}}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "look again and again, show what changed, until Ctrl-C")
	c.Flags().BoolVarP(&exit, "exit-when-healthy", "e", false, "look again and again until all is well")
	return c
}

// watchHealth looks once, or until what was asked for has come.
func (a *app) watchHealth(ctx context.Context, k *client.Client, watch, exit bool) error {
	var shown []byte
	for {
		h, err := a.lookHealth(ctx, k)
		switch {
		case err != nil && (!watch && !exit || ctx.Err() != nil):
			return err
		case err != nil:
			fmt.Fprintln(a.Err, "error:", err)
		default:
			var screen bytes.Buffer
			b := *a
			b.Out = &screen
			if err := b.showHealth(&h); err != nil {
				return err
			}
			if !bytes.Equal(screen.Bytes(), shown) {
				shown = screen.Bytes()
				if _, err := a.Out.Write(shown); err != nil {
					return err
				}
			}
			switch {
			case exit && h.Healthy || !watch && !exit && h.Healthy:
				return nil
			case !watch && !exit:
				return codeError(exitUnhealthy)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(watchEvery):
		}
	}
}

// answerOf is what one broker told.
type answerOf struct {
	states []client.ReplicaState
	err    error
	http   map[string]float64 // its metrics; nil: none
}

// lookHealth asks every broker at once.
func (a *app) lookHealth(ctx context.Context, k *client.Client) (health, error) {
	d, err := k.DescribeCluster(ctx)
	if err != nil {
		return health{}, err
	}
	secure, err := client.LoadTLS(a.tls)
	if err != nil {
		return health{}, usageError{err}
	}
	answers := make([]answerOf, len(d.Brokers))
	var all sync.WaitGroup
	for i, b := range d.Brokers {
		all.Go(func() {
			answers[i].states, answers[i].err = k.DescribeReplicas(ctx, b.ClientAddr, "")
			if answers[i].err == nil {
				answers[i].http = scrapeNumbers(ctx, b.HTTPAddr, secure)
			}
		})
	}
	var groups []groupLag
	all.Go(func() { groups = laggingGroups(ctx, k) })
	all.Wait()
	h := judge(&d, answers)
	h.Groups = groups
	m, err := k.DescribeMembers(ctx, client.Committed)
	if err != nil {
		return health{}, err
	}
	h.members(&m)
	return h, nil
}

// members adds what is under way. A broker that registered and was never heard is a fault: nothing says where it is.
func (h *health) members(m *client.Members) {
	h.Moving, h.Rebalancing = len(m.Moving), m.Rebalancing
	for _, b := range m.Brokers {
		at := slices.IndexFunc(h.Nodes, func(n brokerHealth) bool { return n.Node == b.Node })
		switch {
		case at >= 0:
			h.Nodes[at].Leaving = b.Leaving
		case b.Registered:
			h.Problems = append(h.Problems, problem{Node: b.Node, Problem: "the broker registered and has not said where it is: look at its log, or remove it with broker cluster remove"})
			h.Healthy = false
		}
	}
}

// laggingGroups are the consumer groups that are furthest behind. What does not answer in time is left out: a lag is no fault.
func laggingGroups(ctx context.Context, k *client.Client) []groupLag {
	ctx, cancel := context.WithTimeout(ctx, groupsPeriod)
	defer cancel()
	out := []groupLag{}
	list, err := k.ListGroups(ctx)
	if err != nil {
		return out
	}
	for _, s := range list[:min(len(list), groupsAsked)] {
		if g, err := k.DescribeGroup(ctx, s.Name); err == nil {
			out = append(out, lagOf(&g))
		}
	}
	slices.SortStableFunc(out, func(a, b groupLag) int { return cmp.Compare(b.Lag, a.Lag) })
	return out[:min(len(out), groupsShown)]
}

func lagOf(g *client.Group) groupLag {
	x := groupLag{Group: g.Name, State: g.State, Members: len(g.Members)}
	for _, p := range g.Partitions {
		if p.Lag > 0 {
			x.Lag += p.Lag
		}
		if p.LagTimeKnown && (x.LagSeconds == nil || p.LagTime.Seconds() > *x.LagSeconds) {
			s := p.LagTime.Seconds()
			x.LagSeconds = &s
		}
	}
	return x
}

// groupHealth is what all brokers together tell of one group.
type groupHealth struct {
	topic    string
	number   int32
	nodes    []uint64 // where the replicas that vote belong
	ids      []uint64 // of these replicas; empty: not known
	leader   *client.ReplicaState
	replicas []client.ReplicaState
}

// judge makes the screen of what the brokers told, which are answers by the same index as d.Brokers.
func judge(d *client.Cluster, answers []answerOf) health {
	h := health{Cluster: d.Name, ID: hex.EncodeToString(d.ID[:]), Brokers: len(d.Brokers), Topics: len(d.Topics), MetadataLeader: d.MetadataLeader, Commands: d.Commands, Upgrade: upgradeWaits(d), Problems: []problem{}, Nodes: []brokerHealth{}}
	groups, order := groupsOf(d)
	h.Partitions = len(order) - 1
	for i, b := range d.Brokers {
		h.Nodes = append(h.Nodes, oneBroker(&b, &answers[i]))
		h.Problems = append(h.Problems, brokerProblems(&b, &answers[i])...)
		for _, s := range answers[i].states {
			if g := groups[groupKey(s.Topic, s.Partition)]; g != nil {
				g.replicas = append(g.replicas, s)
				if s.Problem == "" && s.Leader == s.Node && (g.leader == nil || s.LeaderEpoch > g.leader.LeaderEpoch) {
					g.leader = &g.replicas[len(g.replicas)-1]
				}
			}
		}
	}
	good := map[uint64]int{} // replicas that would be missed, by node: groups that would have no majority without it
	for _, key := range order {
		h.group(groups[key], good)
	}
	h.canLose(d, good)
	h.rackShared(d)
	h.Healthy = len(h.Problems) == 0
	return h
}

// upgradeWaits names the brokers of an upgrade that is not finished: those whose builds know fewer commands than others.
func upgradeWaits(d *client.Cluster) string {
	newest := d.Commands
	for _, b := range d.Brokers {
		newest = max(newest, b.Commands)
	}
	var old []string
	for _, b := range d.Brokers {
		if b.Commands < newest {
			old = append(old, fmt.Sprintf("node %d (%s) knows %d", b.Node, b.Version, b.Commands))
		}
	}
	if len(old) == 0 || newest == d.Commands {
		return ""
	}
	return fmt.Sprintf("commands of version %d wait for an upgrade: %s", newest, strings.Join(old, ", "))
}

// rackShared counts the partitions whose replicas share a rack though they need not: a rack that holds none of theirs has a broker that is
// up and stays. A broker without a rack is one by itself.
func (h *health) rackShared(d *client.Cluster) {
	rack := map[uint64]string{}
	for _, b := range d.Brokers {
		if rack[b.Node] = "rack " + b.Rack; b.Rack == "" {
			rack[b.Node] = fmt.Sprint("node ", b.Node)
		}
	}
	for _, t := range d.Topics {
		for _, p := range t.Partitions {
			nodes := p.Replicas
			if len(p.Wanted) > 0 {
				nodes = p.Wanted
			}
			used := map[string]bool{}
			for _, n := range nodes {
				used[rack[n]] = true
			}
			other := slices.IndexFunc(h.Nodes, func(n brokerHealth) bool { return n.Up && !n.Leaving && !used[rack[n.Node]] })
			if len(used) == len(nodes) || other < 0 {
				continue
			}
			if h.RackShared++; h.RackShared == 1 {
				h.RackExample = fmt.Sprintf("%s is on nodes %s, and node %d is in another rack", groupKey(t.Name, p.Number), strings.Trim(fmt.Sprint(nodes), "[]"), h.Nodes[other].Node)
			}
		}
	}
}

func groupKey(topic string, n int32) string { return fmt.Sprintf("%s/%d", topic, n) }

func groupsOf(d *client.Cluster) (groups map[string]*groupHealth, order []string) {
	groups = map[string]*groupHealth{}
	add := func(topic string, n int32, nodes, ids []uint64) {
		key := groupKey(topic, n)
		groups[key] = &groupHealth{topic: topic, number: n, nodes: nodes, ids: ids}
		order = append(order, key)
	}
	add("", 0, d.MetadataNodes, d.MetadataIDs)
	for _, t := range d.Topics {
		for _, p := range t.Partitions {
			add(t.Name, p.Number, p.Replicas, p.ReplicaIDs)
		}
	}
	return groups, order
}

func oneBroker(b *client.Broker, x *answerOf) brokerHealth {
	n := brokerHealth{Node: b.Node, Version: b.Version, Rack: b.Rack, Commands: b.Commands, Up: x.err == nil, Replicas: len(x.states)}
	for _, s := range x.states {
		if s.Leader == s.Node && s.Problem == "" {
			n.Leads++
		}
		if s.Problem != "" || len(s.Faulty) > 0 {
			n.Faulty++
		}
	}
	number := func(name string, factor float64) *float64 {
		v, ok := x.http[name]
		if v *= factor; !ok {
			return nil
		}
		return &v
	}
	if rounds := x.http["lograft_sync_rounds_total"]; rounds > 0 {
		n.SyncMsAvg = number("lograft_sync_round_seconds_sum", 1000/rounds)
	}
	n.SyncMsNow = number("lograft_sync_under_way_seconds", 1000)
	n.DiskFree, n.DiskSize = number("lograft_disk_free_bytes", 1), number("lograft_disk_size_bytes", 1)
	n.DiskErrors, n.LeadershipsWon = number("lograft_disk_errors_total", 1), number("lograft_leaderships_won_total", 1)
	return n
}

func brokerProblems(b *client.Broker, x *answerOf) (out []problem) {
	if x.err != nil {
		return []problem{{Node: b.Node, Problem: "broker does not answer: " + strings.TrimPrefix(x.err.Error(), b.ClientAddr+": ")}}
	}
	free, size := x.http["lograft_disk_free_bytes"], x.http["lograft_disk_size_bytes"]
	if x.http["lograft_disk_full"] > 0 {
		out = append(out, problem{Node: b.Node, Problem: fmt.Sprintf("its disk is at its reserve (%.0f MiB free, %.0f kept): it takes no records, and where a majority is full appends get DISK_FULL: make room (broker topic trim, a lower retention, delete a topic, a larger disk); it resumes by itself", free/(1<<20), x.http["lograft_disk_reserve_bytes"]/(1<<20))})
	} else if size > 0 && free/size < diskFreeMin {
		out = append(out, problem{Node: b.Node, Problem: fmt.Sprintf("%.1f %% of the disk is free: make room, or lower retention", 100*free/size)})
	}
	if n := x.http["lograft_disk_errors_total"]; n > 0 {
		out = append(out, problem{Node: b.Node, Problem: fmt.Sprintf("%.0f writes or syncs failed since it started: look at its log and at the disk", n)})
	}
	if ms := 1000 * x.http["lograft_sync_under_way_seconds"]; ms > syncMsStuckMax {
		out = append(out, problem{Node: b.Node, Problem: fmt.Sprintf("a sync has been under way for %.1f s: the disk is slow or hangs", ms/1000)})
	}
	return out
}

// group adds one group's problems, and notes which brokers it can't do without.
func (h *health) group(g *groupHealth, missed map[uint64]int) {
	if g.leader == nil {
		h.Leaderless++
		text := "no leader: nothing can be produced, and no linearizable read answered"
		if g.topic == "" {
			text = "the metadata group has no leader: topics can't be created or deleted"
		}
		h.Problems = append(h.Problems, problem{Topic: g.topic, Partition: g.number, Problem: text})
	}
	var good []uint64
	for _, s := range g.replicas {
		for _, f := range s.Faulty {
			h.FaultyRanges++
			h.Problems = append(h.Problems, problem{s.Topic, s.Partition, s.Node, describeFaulty(f)})
		}
		if !slices.Contains(g.nodes, s.Node) {
			continue // on its way, or about to leave: it has no vote
		}
		if len(g.ids) > 0 && !slices.Contains(g.ids, s.ReplicaID) {
			h.Problems = append(h.Problems, problem{s.Topic, s.Partition, s.Node, "its replica was lost with its directory: the new one is being filled and has no vote yet"})
			h.nodeOf(s.Node).Behind++
			continue
		}
		switch l := g.leader; {
		case s.Problem != "":
			h.Problems = append(h.Problems, problem{s.Topic, s.Partition, s.Node, s.Problem})
		case l != nil && s.ReplicaID != l.ReplicaID && l.Match[s.ReplicaID]+lagMax < l.LastIndex:
			h.Problems = append(h.Problems, problem{s.Topic, s.Partition, s.Node, fmt.Sprintf("%d entries behind its leader", l.LastIndex-l.Match[s.ReplicaID])})
			h.nodeOf(s.Node).Behind++
		default:
			good = append(good, s.Node)
		}
	}
	for _, n := range g.nodes {
		told := slices.ContainsFunc(g.replicas, func(s client.ReplicaState) bool { return s.Node == n })
		if at := slices.IndexFunc(h.Nodes, func(b brokerHealth) bool { return b.Node == n }); !told && at >= 0 && h.Nodes[at].Up {
			h.Problems = append(h.Problems, problem{g.topic, g.number, n, "its broker does not know this replica (yet)"})
		}
	}
	if len(good) < len(g.nodes) {
		h.UnderReplicated++
	}
	if len(good) <= len(g.nodes)/2+1 { // without any one of them there is no majority
		for _, n := range good {
			missed[n]++
		}
	}
}

func (h *health) nodeOf(node uint64) *brokerHealth {
	i := slices.IndexFunc(h.Nodes, func(n brokerHealth) bool { return n.Node == node })
	return &h.Nodes[i]
}

// canLose says whether any one broker that is up may go without a partition losing its majority.
func (h *health) canLose(d *client.Cluster, missed map[uint64]int) {
	if h.Leaderless > 0 {
		h.WhyNot = fmt.Sprintf("%d groups have no leader already", h.Leaderless)
		return
	}
	var worst uint64
	for _, b := range d.Brokers {
		if missed[b.Node] > missed[worst] {
			worst = b.Node
		}
	}
	if missed[worst] > 0 {
		h.WhyNot = fmt.Sprintf("without broker %d, %d groups would have no majority (one or two replicas, or some are missing or behind)", worst, missed[worst])
		return
	}
	h.CanLoseOne = true
}

func (a *app) showHealth(h *health) error {
	if a.format == "json" {
		return a.writeJSON(h)
	}
	word, lose := "healthy", "yes"
	if !h.Healthy {
		word = "UNHEALTHY"
	}
	if !h.CanLoseOne {
		lose = "NO: " + h.WhyNot
	}
	moves := ""
	if h.Moving > 0 || h.Rebalancing {
		moves = fmt.Sprintf(", on the move %d", h.Moving)
	}
	notes := ""
	if h.Upgrade != "" {
		notes = "upgrade not finished: " + h.Upgrade + "\n"
	}
	if h.RackShared > 0 {
		notes += fmt.Sprintf("%s may share fate: replicas in one rack, though they need not be (%s): broker cluster rebalance\n", counted(h.RackShared, "partition"), h.RackExample)
	}
	leader := "none"
	if h.MetadataLeader != 0 {
		leader = fmt.Sprintf("node %d", h.MetadataLeader)
	}
	_, err := fmt.Fprintf(a.Out, "%s: cluster %s, %s, %s, %s, metadata leader: %s, commands of version %d\nleaderless %d, under-replicated %d, faulty ranges %d%s; can lose one more broker: %s\n%s\n",
		word, h.Cluster, counted(h.Brokers, "broker"), counted(h.Topics, "topic"), counted(h.Partitions, "partition"), leader, h.Commands, h.Leaderless, h.UnderReplicated, h.FaultyRanges, moves, lose, notes)
	if err != nil {
		return err
	}
	num := func(v *float64, format string, factor float64) string {
		if v == nil {
			return ""
		}
		return fmt.Sprintf(format, *v*factor)
	}
	rows := [][]string{{"NODE", "STATE", "LEADS", "REPLICAS", "BEHIND", "FAULTY", "SYNC-MS", "DISK-FREE-GIB", "DISK-ERRORS", "ELECTIONS-WON", "VERSION"}}
	for _, n := range h.Nodes {
		state := "up"
		if n.Leaving {
			state = "leaving"
		}
		if !n.Up {
			state = "DOWN"
		}
		rows = append(rows, []string{fmt.Sprint(n.Node), state, fmt.Sprint(n.Leads), fmt.Sprint(n.Replicas), fmt.Sprint(n.Behind), fmt.Sprint(n.Faulty),
			num(n.SyncMsAvg, "%.1f", 1), num(n.DiskFree, "%.0f", 1.0/(1<<30)), num(n.DiskErrors, "%.0f", 1), num(n.LeadershipsWon, "%.0f", 1), n.Version})
	}
	if err := a.table(rows); err != nil {
		return err
	}
	if err := a.showGroups(h.Groups); err != nil || len(h.Problems) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(a.Out); err != nil {
		return err
	}
	return a.showProblems(h.Problems)
}

func (a *app) showGroups(groups []groupLag) error {
	if len(groups) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(a.Out); err != nil {
		return err
	}
	rows := [][]string{{"GROUP", "STATE", "MEMBERS", "LAG", "LAG-SECONDS"}}
	for _, g := range groups {
		seconds := ""
		if g.LagSeconds != nil {
			seconds = fmt.Sprintf("%.1f", *g.LagSeconds)
		}
		rows = append(rows, []string{g.Group, g.State, fmt.Sprint(g.Members), fmt.Sprint(g.Lag), seconds})
	}
	return a.table(rows)
}

// problemsShown is how many problems the screen has room for; --format json has all.
const problemsShown = 40

func (a *app) showProblems(problems []problem) error {
	rows := [][]string{{"TOPIC", "PARTITION", "NODE", "PROBLEM"}}
	for _, p := range problems[:min(len(problems), problemsShown)] {
		partition, node := "", ""
		if p.Topic != "" {
			partition = fmt.Sprint(p.Partition)
		}
		if p.Node != 0 {
			node = fmt.Sprint(p.Node)
		}
		rows = append(rows, []string{p.Topic, partition, node, p.Problem})
	}
	if err := a.table(rows); err != nil || len(problems) <= problemsShown {
		return err
	}
	_, err := fmt.Fprintf(a.Out, "... and %d more: --format json shows all\n", len(problems)-problemsShown)
	return err
}
