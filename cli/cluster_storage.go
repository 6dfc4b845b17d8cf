package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"lograft/client"
)

// describeFaulty says what is damaged and what is being done about it.
func describeFaulty(f client.FaultyRange) string {
	if f.To == 0 {
		return fmt.Sprintf("damaged from entry %d on (file %020d.log, byte %d: %s): served by the other replicas until a leader overwrites it", f.From, f.Segment, f.Position, f.Reason)
	}
	return fmt.Sprintf("entries %d to %d are damaged (file %020d.log, byte %d: %s): under repair from the other replicas, which serve them", f.From, f.To, f.Segment, f.Position, f.Reason)
}

// scrubPollEvery is how often brokers are asked how far they are.
const scrubPollEvery = 200 * time.Millisecond

func (a *app) clusterScrub() *cobra.Command {
	return &cobra.Command{Use: "scrub [TOPIC]", Short: "Check every byte of every replica and compare the replicas; exit code 3 if anything is wrong", Args: cobra.MaximumNArgs(1),
		Example: "  broker cluster scrub\n  broker cluster scrub orders --format json",
		Long: "Every replica of the topic, or of all topics and the metadata group, reads its files and holds them against their checksums, at once\n" +
			"instead of at the pace of the daily check in the background. What is damaged is repaired from the other replicas. Then the hashes of\n" +
			"the sealed segments are compared: the same segment is the same bytes on every replica.",
		RunE: func(c *cobra.Command, args []string) error {
			topic := ""
			if len(args) == 1 {
				topic = args[0]
			}
			return a.with(func(k *client.Client) error { return a.scrub(c.Context(), k, topic) })
		}}
}

func (a *app) scrub(ctx context.Context, k *client.Client, topic string) error {
	d, err := k.DescribeCluster(ctx)
	if err != nil {
		return err
	}
	var asked []string
	var failed []problem
	first := map[replicaKey]client.ReplicaScrub{}
	for _, b := range d.Brokers {
		states, err := k.Scrub(ctx, b.ClientAddr, topic, true)
		if err != nil {
			failed = append(failed, problem{Node: b.Node, Problem: "not checked: " + err.Error()})
			continue
		}
		asked = append(asked, b.ClientAddr)
		for _, s := range states {
			first[keyOf(&s)] = s
		}
	}
	if len(asked) == 0 {
		return fmt.Errorf("no broker could be asked: %s", failed[0].Problem)
	}
	all, lost, err := a.waitScrub(ctx, k, topic, asked)
	if err != nil {
		return err
	}
	report := scrubReport(all, first)
	return a.showScrub(report, append(failed, lost...))
}

// waitScrub asks until no check runs and nothing that was found is still under repair, for a while after the last check ended.
func (a *app) waitScrub(ctx context.Context, k *client.Client, topic string, asked []string) (all []client.ReplicaScrub, lost []problem, err error) {
	bar := newBar(a, false, -1, "scrub")
	if bar != nil {
		defer bar.Finish()
	}
	const repairWait = 10 * time.Second
	var done time.Time
	for {
		all, lost = nil, nil
		var bytes, total int64
		running, faulty := false, false
		for _, addr := range asked {
			states, err := k.Scrub(ctx, addr, topic, false)
			if err != nil {
				if ctx.Err() != nil {
					return nil, nil, ctx.Err()
				}
				lost = append(lost, problem{Problem: addr + " does not answer any more: " + err.Error()})
				continue
			}
			for _, s := range states {
				running, faulty = running || s.Running, faulty || len(s.Faulty) > 0
				bytes, total = bytes+s.Bytes, total+s.Total
			}
			all = append(all, states...)
		}
		if bar != nil {
			bar.ChangeMax64(max(total, 1))
			_ = bar.Set64(bytes)
		}
		switch {
		case running:
			done = time.Time{}
		case done.IsZero():
			done = time.Now()
		}
		if !running && (!faulty || time.Since(done) > repairWait) {
			return all, lost, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(scrubPollEvery):
		}
	}
}

type replicaKey struct {
	topic     string
	partition int32
	node      uint64
}

func keyOf(s *client.ReplicaScrub) replicaKey { return replicaKey{s.Topic, s.Partition, s.Node} }

// scrubbed is one replica's line of the report.
type scrubbed struct {
	Topic     string   `json:"topic"` // empty: the metadata group
	Partition int32    `json:"partition"`
	Node      uint64   `json:"node"`
	Bytes     int64    `json:"bytes"`
	Sealed    int      `json:"sealed_segments"`
	Found     uint64   `json:"damaged_found"`
	Repaired  uint64   `json:"entries_repaired"`
	Problems  []string `json:"problems"` // what is still wrong
}

// scrubReport compares the replicas of each partition. first is what each said when the check began.
func scrubReport(all []client.ReplicaScrub, first map[replicaKey]client.ReplicaScrub) []scrubbed {
	type segmentKey struct {
		topic     string
		partition int32
		base      uint64
	}
	seen := map[segmentKey]client.SealedSegment{}
	holder := map[segmentKey]uint64{}
	var report []scrubbed
	for i := range all {
		s := &all[i]
		before := first[keyOf(s)]
		row := scrubbed{Topic: s.Topic, Partition: s.Partition, Node: s.Node, Bytes: s.Bytes, Sealed: len(s.Segments), Found: s.Found - min(before.Found, s.Found),
			Repaired: s.Repaired - min(before.Repaired, s.Repaired), Problems: []string{}}
		if s.Problem != "" {
			row.Problems = append(row.Problems, s.Problem)
		}
		for _, f := range s.Faulty {
			row.Problems = append(row.Problems, describeFaulty(f))
		}
		for _, f := range s.Segments {
			k := segmentKey{s.Topic, s.Partition, f.Base}
			old, ok := seen[k]
			if !ok {
				seen[k], holder[k] = f, s.Node
			} else if old != f {
				row.Problems = append(row.Problems, fmt.Sprintf("segment %d (entries to %d, %d bytes, hash %x) is another one than on node %d (to %d, %d bytes, hash %x)",
					f.Base, f.Last, f.Bytes, f.Hash[:4], holder[k], old.Last, old.Bytes, old.Hash[:4]))
			}
		}
		report = append(report, row)
	}
	return report
}

func (a *app) showScrub(report []scrubbed, failed []problem) error {
	bad := len(failed) > 0
	rows := [][]string{{"TOPIC", "PARTITION", "NODE", "BYTES", "SEALED", "FOUND", "REPAIRED", "STATE"}}
	for _, r := range report {
		state := "ok"
		if len(r.Problems) > 0 {
			state, bad = fmt.Sprintf("%d problems", len(r.Problems)), true
		}
		name := r.Topic
		if name == "" {
			name = "(metadata)"
		}
		rows = append(rows, []string{name, fmt.Sprint(r.Partition), fmt.Sprint(r.Node), fmt.Sprint(r.Bytes), fmt.Sprint(r.Sealed), fmt.Sprint(r.Found), fmt.Sprint(r.Repaired), state})
	}
	if a.format == "json" {
		if failed == nil {
			failed = []problem{}
		}
		if err := a.writeJSON(map[string]any{"healthy": !bad, "replicas": report, "not_checked": failed}); err != nil {
			return err
		}
	} else {
		if err := a.table(rows); err != nil {
			return err
		}
		for _, r := range report {
			for _, p := range r.Problems {
				fmt.Fprintf(a.Err, "%s/%d on node %d: %s\n", r.Topic, r.Partition, r.Node, p)
			}
		}
		for _, p := range failed {
			fmt.Fprintf(a.Err, "node %d: %s\n", p.Node, p.Problem)
		}
	}
	if bad {
		return codeError(exitUnhealthy)
	}
	return nil
}
