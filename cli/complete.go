package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"lograft/client"
)

// completeTimeout bounds what a press of Tab waits for.
const completeTimeout = 2 * time.Second

// completing answers a press of Tab with names that a broker knows. Without one there is nothing to offer, and nothing is said.
func (a *app) completing(limit int, names func(context.Context, *client.Client) []string) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if limit > 0 && len(args) >= limit {
			return nil, cobra.ShellCompDirectiveDefault
		}
		k, err := a.dial()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer k.Close()
		ctx, cancel := context.WithTimeout(c.Context(), completeTimeout)
		defer cancel()
		return names(ctx, k), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeTopics offers topics for the first limit arguments; 0: for all.
func (a *app) completeTopics(limit int) cobra.CompletionFunc {
	return a.completing(limit, func(ctx context.Context, k *client.Client) (names []string) {
		topics, err := k.ListTopics(ctx)
		if err != nil {
			return nil
		}
		for _, t := range topics {
			names = append(names, t.Name)
		}
		return names
	})
}

// completeGroups offers consumer groups for the first argument.
func (a *app) completeGroups() cobra.CompletionFunc {
	return a.completing(1, func(ctx context.Context, k *client.Client) (names []string) {
		groups, err := k.ListGroups(ctx)
		if err != nil {
			return nil
		}
		for _, g := range groups {
			names = append(names, g.Name)
		}
		return names
	})
}
