package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"lograft/client"
)

func (a *app) topicTrim() *cobra.Command {
	var before string
	var partition int32
	yes := false
	c := &cobra.Command{Use: "trim NAME --before-offset N", Short: "Give up the oldest records of a topic", Args: args1("topic"), ValidArgsFunction: a.completeTopics(1),
		Example: "  broker topic trim orders --before-offset 1000 --partition 0\n  broker topic trim orders --before-offset end --yes    # everything, in every partition",
		RunE: func(c *cobra.Command, args []string) error {
			if before == "" {
				return usagef("say up to where: --before-offset N, or end")
			}
			offset := client.TrimAll
			if before != "end" {
				var err error
				if offset, err = strconv.ParseInt(before, 10, 64); err != nil || offset < 0 {
					return usagef("--before-offset %q: want an offset from 0 on, or end", before)
				}
			}
			if partition < -1 {
				return usagef("--partition %d: want a partition number from 0 on", partition)
			}
			where := "every partition"
			if partition >= 0 {
				where = fmt.Sprintf("partition %d", partition)
			}
			if err := a.confirm(yes, fmt.Sprintf("giving up the records before offset %s in %s of topic %q", before, where, args[0])); err != nil {
				return err
			}
			return a.with(func(k *client.Client) error { return a.trim(c, k, args[0], partition, offset) })
		}}
	c.Flags().StringVar(&before, "before-offset", "", "the first offset that is kept, or end")
	c.Flags().Int32Var(&partition, "partition", -1, "partition (default: all)")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

type trimmedJSON struct {
	Partition     int32 `json:"partition"`
	LogStart      int64 `json:"log_start"`
	HighWatermark int64 `json:"high_watermark"`
}

// trim trims the partitions one after the other and says where each begins now, as far as it came.
func (a *app) trim(c *cobra.Command, k *client.Client, topic string, partition int32, before int64) error {
	numbers := []int32{partition}
	if partition < 0 {
		t, err := k.DescribeTopic(c.Context(), topic)
		if err != nil {
			return err
		}
		numbers = numbers[:0]
		for _, p := range t.Partitions {
			numbers = append(numbers, p.Number)
		}
	}
	rows, list := [][]string{{"PARTITION", "LOG-START", "HIGH-WATERMARK"}}, []trimmedJSON{}
	var failed error
	for _, n := range numbers {
		x, err := k.TrimPartition(c.Context(), topic, n, before)
		if err != nil {
			failed = fmt.Errorf("%s/%d: %w", topic, n, asUsage(err))
			break
		}
		rows = append(rows, []string{fmt.Sprint(n), fmt.Sprint(x.LogStart), fmt.Sprint(x.HighWatermark)})
		list = append(list, trimmedJSON(x))
	}
	if failed != nil && len(list) == 0 {
		return failed
	}
	var err error
	if a.format == "json" {
		err = a.writeJSON(list)
	} else {
		err = a.table(rows)
	}
	if failed != nil {
		return failed
	}
	return err
}
