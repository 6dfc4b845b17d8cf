package cli

import (
	"encoding/hex"
	"fmt"

	"github.com/spf13/cobra"

	"lograft/client"
)

func (a *app) clusterCommand() *cobra.Command {
	c := &cobra.Command{Use: "cluster", Short: "Show the cluster and its health", Args: noArgs, Example: "  broker cluster info\n  broker cluster health",
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.checkFormat() }}
	a.clientFlags(c)
	a.formatFlag(c)
	c.AddCommand(a.clusterInfo(), a.clusterHealth(), a.clusterScrub())
	return c
}

type brokerJSON struct {
	Node    uint64 `json:"node"`
	Client  string `json:"client"`
	Peer    string `json:"peer"`
	HTTP    string `json:"http"`
	Version string `json:"version"`
}

func (a *app) clusterInfo() *cobra.Command {
	return &cobra.Command{Use: "info", Short: "Show brokers and what they hold", Args: noArgs, Example: "  broker cluster info --format json",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(func(k *client.Client) error {
				d, err := k.DescribeCluster(c.Context())
				if err != nil {
					return err
				}
				if a.format == "json" {
					brokers := []brokerJSON{}
					for _, b := range d.Brokers {
						brokers = append(brokers, brokerJSON{b.Node, b.ClientAddr, b.PeerAddr, b.HTTPAddr, b.Version})
					}
					return a.writeJSON(map[string]any{"name": d.Name, "id": hex.EncodeToString(d.ID[:]), "brokers": brokers, "topics": len(d.Topics), "metadata_leader": d.MetadataLeader})
				}
				fmt.Fprintf(a.Err, "cluster %s (%s), %d topics, metadata leader: node %d\n", d.Name, hex.EncodeToString(d.ID[:]), len(d.Topics), d.MetadataLeader)
				rows := [][]string{{"NODE", "CLIENTS", "PEERS", "HTTP", "VERSION"}}
				for _, b := range d.Brokers {
					rows = append(rows, []string{fmt.Sprint(b.Node), b.ClientAddr, b.PeerAddr, b.HTTPAddr, b.Version})
				}
				return a.table(rows)
			})
		}}
}
