package cli

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"lograft/client"
)

func (a *app) clusterCommand() *cobra.Command {
	c := &cobra.Command{Use: "cluster", Short: "Show the cluster and its health, change its brokers", Args: noArgs,
		Example:           "  broker cluster info\n  broker cluster health\n  broker cluster add 4=10.0.0.4:7401\n  broker cluster decommission 3 -w && broker cluster remove 3",
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.checkFormat() }}
	a.clientFlags(c)
	a.formatFlag(c)
	c.AddCommand(a.clusterInfo(), a.clusterHealth(), a.clusterScrub(), a.clusterRecover(), a.clusterAdd(), a.clusterRemove(), a.clusterDecommission(), a.clusterRebalance(), a.clusterTransfer())
	return c
}

type brokerJSON struct {
	Node    uint64 `json:"node"`
	Client  string `json:"client"`
	Peer    string `json:"peer"`
	HTTP    string `json:"http"`
	Version string `json:"version"`
	Rack    string `json:"rack"`
	Away    bool   `json:"away"`     // not reached for a while: it gets no replicas
	Known   uint32 `json:"commands"` // newest version of commands that its build carries out; 0: it did not register
	State   string `json:"state"`    // member, leaving, added (not started yet), or unknown (the metadata did not tell)
	Holds   int    `json:"replicas"` // of partitions, those on the move counted too
}

// memberState is one word for a broker's place in the cluster.
func memberState(b *client.MemberBroker) string {
	switch {
	case !b.Registered:
		return "added"
	case b.Leaving:
		return "leaving"
	}
	return "member"
}

// brokersOf joins what brokers said of themselves with who has a place in the cluster.
func brokersOf(d *client.Cluster, m *client.Members) (list []brokerJSON) {
	list = []brokerJSON{}
	for _, b := range d.Brokers {
		list = append(list, brokerJSON{Node: b.Node, Client: b.ClientAddr, Peer: b.PeerAddr, HTTP: b.HTTPAddr, Version: b.Version, Known: b.Commands, Rack: b.Rack, Away: b.Away, State: "unknown"})
	}
	for i := range m.Brokers {
		b := &m.Brokers[i]
		at := slices.IndexFunc(list, func(x brokerJSON) bool { return x.Node == b.Node })
		if at < 0 {
			at = len(list)
			list = append(list, brokerJSON{Node: b.Node, Peer: b.PeerAddr})
		}
		list[at].State, list[at].Holds = memberState(b), b.Held
	}
	slices.SortFunc(list, func(a, b brokerJSON) int { return cmp.Compare(a.Node, b.Node) })
	return list
}

func (a *app) clusterInfo() *cobra.Command {
	return &cobra.Command{Use: "info", Short: "Show brokers and what they hold", Args: noArgs, Example: "  broker cluster info --format json",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(func(k *client.Client) error {
				d, err := k.DescribeCluster(c.Context())
				if err != nil {
					return err
				}
				m, err := k.DescribeMembers(c.Context(), client.Committed)
				if err != nil {
					return err
				}
				brokers := brokersOf(&d, &m)
				if a.format == "json" {
					return a.writeJSON(map[string]any{"name": d.Name, "id": hex.EncodeToString(d.ID[:]), "brokers": brokers, "topics": len(d.Topics), "metadata_leader": d.MetadataLeader, "commands": d.Commands})
				}
				fmt.Fprintf(a.Err, "cluster %s (%s), %s, metadata leader: node %d, commands of version %d\n", d.Name, hex.EncodeToString(d.ID[:]), counted(len(d.Topics), "topic"), d.MetadataLeader, d.Commands)
				rows := [][]string{{"NODE", "STATE", "REPLICAS", "CLIENTS", "PEERS", "HTTP", "RACK", "COMMANDS", "VERSION"}}
				for _, b := range brokers {
					state := b.State
					if b.Away {
						state += ", away"
					}
					rows = append(rows, []string{fmt.Sprint(b.Node), state, fmt.Sprint(b.Holds), b.Client, b.Peer, b.HTTP, b.Rack, fmt.Sprint(b.Known), b.Version})
				}
				return a.table(rows)
			})
		}}
}
