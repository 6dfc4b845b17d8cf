package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"lograft/client"
)

func (a *app) topicCommand() *cobra.Command {
	c := &cobra.Command{Use: "topic", Short: "Create, show, change and delete topics", Args: noArgs,
		Example: "  broker topic create orders --partitions 3 --replication-factor 3 -c retention.ms=86400000\n  broker topic list\n  broker topic describe orders\n" +
			"  broker topic alter orders -c retention.bytes=10737418240\n  broker topic trim orders --before-offset 1000\n  broker topic delete orders --yes",
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return a.checkFormat()
		}}
	a.clientFlags(c)
	a.formatFlag(c)
	c.AddCommand(a.topicCreate(), a.topicList(), a.topicDescribe(), a.topicAlter(), a.topicTrim(), a.topicReassign(), a.topicDelete())
	return c
}

func (a *app) topicCreate() *cobra.Command {
	var spec client.TopicSpec
	var settings []string
	c := &cobra.Command{Use: "create NAME", Short: "Create a topic", Args: args1("topic"),
		Example: "  broker topic create orders\n  broker topic create orders --partitions 6 --replication-factor 3 -c segment.bytes=134217728",
		RunE: func(c *cobra.Command, args []string) error {
			spec.Name = args[0]
			if spec.Partitions < 1 {
				return usagef("--partitions %d: a topic has at least one", spec.Partitions)
			}
			if spec.ReplicationFactor < 0 {
				return usagef("--replication-factor %d: want 1 to 5", spec.ReplicationFactor)
			}
			var err error
			if spec.Config, err = parseSettings(settings); err != nil {
				return err
			}
			return a.with(func(k *client.Client) error {
				t, err := k.CreateTopic(c.Context(), spec)
				if err != nil {
					return asUsage(err)
				}
				if a.format == "json" {
					return a.writeJSON(toTopicJSON(&t, nil))
				}
				_, err = fmt.Fprintf(a.Out, "created %s: %s, %s each\n", t.Name, counted(len(t.Partitions), "partition"), counted(len(t.Partitions[0].Replicas), "replica"))
				return err
			})
		}}
	c.Flags().Int32Var(&spec.Partitions, "partitions", 1, "number of partitions")
	c.Flags().Int32Var(&spec.ReplicationFactor, "replication-factor", 0, "replicas of each partition, 1 to 5 (default: 3, or one per broker if there are fewer)")
	c.Flags().StringArrayVarP(&settings, "config", "c", nil, "setting, key=value; may be repeated (broker topic describe lists them)")
	return c
}

// asUsage makes a refused argument a usage error.
func asUsage(err error) error {
	var e *client.Error
	if errors.As(err, &e) && e.Reason == client.ReasonInvalid {
		return usageError{err}
	}
	return err
}

func (a *app) topicList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List all topics", Args: noArgs, Example: "  broker topic list\n  broker topic list --format json",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(func(k *client.Client) error {
				topics, err := k.ListTopics(c.Context())
				if err != nil {
					return err
				}
				if a.format == "json" {
					list := []topicJSON{}
					for i := range topics {
						list = append(list, toTopicJSON(&topics[i], nil))
					}
					return a.writeJSON(list)
				}
				rows := [][]string{{"NAME", "PARTITIONS", "REPLICAS"}}
				for _, t := range topics {
					rows = append(rows, []string{t.Name, fmt.Sprint(len(t.Partitions)), fmt.Sprint(len(t.Partitions[0].Replicas))})
				}
				return a.table(rows)
			})
		}}
}

func nodes(list []uint64) string {
	words := make([]string, len(list))
	for i, n := range list {
		words[i] = fmt.Sprint(n)
	}
	return strings.Join(words, ",")
}

// deleteVerb is the command that deletes a what by name. warning says of what, all that goes with it.
func (a *app) deleteVerb(what, warning string, complete cobra.CompletionFunc, do func(context.Context, *client.Client, string) error) *cobra.Command {
	yes := false
	c := &cobra.Command{Use: "delete NAME", Args: args1(what), ValidArgsFunction: complete,
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.confirm(yes, fmt.Sprintf(warning, args[0])); err != nil {
				return err
			}
			return a.with(func(k *client.Client) error {
				if err := do(c.Context(), k, args[0]); err != nil {
					return err
				}
				if a.format == "json" {
					return a.writeJSON(map[string]string{"deleted": args[0]})
				}
				_, err := fmt.Fprintf(a.Out, "deleted %s\n", args[0])
				return err
			})
		}}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func (a *app) topicDelete() *cobra.Command {
	c := a.deleteVerb("topic", "deleting topic %q with all its records", a.completeTopics(1),
		func(ctx context.Context, k *client.Client, name string) error { return k.DeleteTopic(ctx, name) })
	c.Short, c.Example = "Delete a topic and all its records", "  broker topic delete orders --yes"
	return c
}
