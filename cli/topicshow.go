package cli

import (
	"encoding/hex"
	"fmt"

	"github.com/spf13/cobra"

	"lograft/client"
)

// topicJSON is a topic as --format json shows it.
type topicJSON struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"`
	Config     map[string]string `json:"config"` // every setting
	Settings   []settingJSON     `json:"settings"`
	Partitions []partitionJSON   `json:"partitions"`
}

type settingJSON struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	Default string `json:"default"`
	Source  string `json:"source"`
}

type partitionJSON struct {
	Partition   int32    `json:"partition"`
	Leader      uint64   `json:"leader"`
	LeaderEpoch int32    `json:"leader_epoch"`
	Replicas    []uint64 `json:"replicas"`            // nodes of those that vote
	MovingTo    []uint64 `json:"moving_to,omitempty"` // while it is on the move: nodes of those that shall
	// From the brokers that answered: absent elsewhere, and while no replica could be asked.
	LogStart      *int64        `json:"log_start,omitempty"`
	HighWatermark *int64        `json:"high_watermark,omitempty"`
	SizeBytes     *int64        `json:"size_bytes,omitempty"`
	States        []replicaJSON `json:"replica_states,omitempty"`
}

// replicaJSON is a replica as its own broker sees it. Lag is in Raft entries behind the leader's log; -1: the leader did not say.
type replicaJSON struct {
	Node          uint64 `json:"node"`
	LogStart      int64  `json:"log_start"`
	HighWatermark int64  `json:"high_watermark"`
	SizeBytes     int64  `json:"size_bytes"`
	Lag           int64  `json:"lag"`
	Problem       string `json:"problem,omitempty"`
}

func settingSource(s *client.Setting) string {
	if s.Given {
		return "topic"
	}
	return "default"
}

func toTopicJSON(t *client.Topic, states []client.ReplicaState) topicJSON {
	out := topicJSON{Name: t.Name, ID: hex.EncodeToString(t.ID[:]), Config: map[string]string{}, Settings: []settingJSON{}, Partitions: []partitionJSON{}}
	for i := range t.Config {
		s := &t.Config[i]
		out.Config[s.Key] = s.Value
		out.Settings = append(out.Settings, settingJSON{s.Key, s.Value, s.Default, settingSource(s)})
	}
	for _, p := range t.Partitions {
		q := partitionJSON{Partition: p.Number, Leader: p.Leader, LeaderEpoch: p.LeaderEpoch, Replicas: p.Replicas, MovingTo: p.Wanted}
		q.States = replicaStates(p.Number, states)
		for i := range q.States {
			if s := &q.States[i]; s.Problem == "" && (q.HighWatermark == nil || s.Node == p.Leader) {
				q.LogStart, q.HighWatermark, q.SizeBytes = &s.LogStart, &s.HighWatermark, &s.SizeBytes
			}
		}
		out.Partitions = append(out.Partitions, q)
	}
	return out
}

// replicaStates are one partition's replicas, with how far each is behind.
func replicaStates(partition int32, states []client.ReplicaState) (out []replicaJSON) {
	var leader *client.ReplicaState
	for i := range states {
		s := &states[i]
		if s.Partition == partition && s.Match != nil && (leader == nil || s.LeaderEpoch > leader.LeaderEpoch) {
			leader = s
		}
	}
	for i := range states {
		s := &states[i]
		if s.Partition != partition {
			continue
		}
		r := replicaJSON{Node: s.Node, LogStart: s.LogStart, HighWatermark: s.HighWatermark, SizeBytes: s.SizeBytes, Lag: -1, Problem: s.Problem}
		if leader != nil {
			if match, ok := leader.Match[s.ReplicaID]; ok {
				r.Lag = int64(leader.LastIndex - min(match, leader.LastIndex))
			}
		}
		out = append(out, r)
	}
	return out
}

func (a *app) topicDescribe() *cobra.Command {
	return &cobra.Command{Use: "describe NAME", Short: "Show partitions, leaders, replicas and settings of a topic", Args: args1("topic"), ValidArgsFunction: a.completeTopics(1),
		Example: "  broker topic describe orders\n  broker topic describe orders --format json | jq .settings",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(func(k *client.Client) error {
				t, err := k.DescribeTopic(c.Context(), args[0])
				if err != nil {
					return err
				}
				states, err := k.TopicReplicas(c.Context(), args[0])
				if err != nil {
					return err
				}
				leadersOf(&t, states)
				out := toTopicJSON(&t, states)
				if a.format == "json" {
					return a.writeJSON(out)
				}
				if err := a.table(partitionRows(&out)); err != nil {
					return err
				}
				fmt.Fprintln(a.Out)
				rows := [][]string{{"SETTING", "VALUE", "DEFAULT", "SOURCE"}}
				for _, s := range out.Settings {
					rows = append(rows, []string{s.Key, s.Value, s.Default, s.Source})
				}
				return a.table(rows)
			})
		}}
}

// partitionRows is the table of partitions. MAX-LAG is of the replica that is furthest behind, in Raft entries.
func partitionRows(t *topicJSON) [][]string {
	rows := [][]string{{"PARTITION", "LEADER", "EPOCH", "REPLICAS", "LOG-START", "HIGH-WATERMARK", "SIZE", "MAX-LAG"}}
	number := func(v *int64) string {
		if v == nil {
			return ""
		}
		return fmt.Sprint(*v)
	}
	for i := range t.Partitions {
		p := &t.Partitions[i]
		leader, lag := "", ""
		if p.Leader != 0 {
			leader = fmt.Sprint(p.Leader)
		}
		worst := int64(-1)
		for _, s := range p.States {
			worst = max(worst, s.Lag)
		}
		if worst >= 0 {
			lag = fmt.Sprint(worst)
		}
		where := nodes(p.Replicas)
		if len(p.MovingTo) > 0 {
			where += "->" + nodes(p.MovingTo)
		}
		rows = append(rows, []string{fmt.Sprint(p.Partition), leader, fmt.Sprint(p.LeaderEpoch), where, number(p.LogStart), number(p.HighWatermark), number(p.SizeBytes), lag})
	}
	return rows
}

// leadersOf takes the newest leader that any replica knows: the broker that described the topic may hold none.
func leadersOf(t *client.Topic, states []client.ReplicaState) {
	for _, s := range states {
		if int(s.Partition) >= len(t.Partitions) {
			continue
		}
		if p := &t.Partitions[s.Partition]; s.Leader != 0 && (p.Leader == 0 || s.LeaderEpoch > p.LeaderEpoch) {
			p.Leader, p.LeaderEpoch = s.Leader, s.LeaderEpoch
		}
	}
}
