package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"lograft/client"
)

// parseSettings reads -c key=value.
func parseSettings(words []string) (list []client.ConfigEntry, err error) {
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			return nil, usagef("-c %q: want key=value", w)
		}
		list = append(list, client.ConfigEntry{Key: k, Value: v})
	}
	return list, nil
}

func (a *app) topicAlter() *cobra.Command {
	var settings, unset []string
	var partitions int32
	c := &cobra.Command{Use: "alter NAME", Short: "Change settings of a topic, or add partitions", Args: args1("topic"), ValidArgsFunction: a.completeTopics(1),
		Example: "  broker topic alter orders -c retention.ms=86400000 -c max.message.bytes=4194304\n  broker topic alter orders --unset retention.ms\n  broker topic alter orders --partitions 12",
		RunE: func(c *cobra.Command, args []string) error {
			set, err := parseSettings(settings)
			if err != nil {
				return err
			}
			more := c.Flags().Changed("partitions")
			if len(set)+len(unset) == 0 && !more {
				return usagef("nothing to change: say -c key=value, --unset key or --partitions N")
			}
			if more && partitions < 1 {
				return usagef("--partitions %d: a topic has at least one", partitions)
			}
			return a.with(func(k *client.Client) error {
				var t client.Topic
				if len(set)+len(unset) > 0 {
					if t, err = k.AlterTopic(c.Context(), args[0], set, unset); err != nil {
						return asUsage(err)
					}
				}
				if more {
					if t, err = k.AddPartitions(c.Context(), args[0], partitions); err != nil {
						return asUsage(err)
					}
				}
				if a.format == "json" {
					return a.writeJSON(toTopicJSON(&t, nil))
				}
				_, err = fmt.Fprintf(a.Out, "altered %s: %d partitions%s\n", t.Name, len(t.Partitions), givenSettings(&t))
				return err
			})
		}}
	c.Flags().StringArrayVarP(&settings, "config", "c", nil, "setting, key=value; may be repeated (broker topic describe lists them)")
	c.Flags().StringArrayVar(&unset, "unset", nil, "setting that goes back to its default; may be repeated")
	c.Flags().Int32Var(&partitions, "partitions", 0, "number of partitions that the topic shall have then; they never become fewer")
	return c
}

// givenSettings are the settings that somebody set, in words.
func givenSettings(t *client.Topic) (words string) {
	for _, s := range t.Config {
		if s.Given {
			words += ", " + s.Key + "=" + s.Value
		}
	}
	return words
}
