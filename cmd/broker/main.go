// Command broker runs a broker and administers clusters; see broker --help.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"

	"lograft/broker"
	"lograft/broker/security"
	"lograft/cli"
	"lograft/config"
)

func main() {
	os.Exit(cli.Main("broker", cli.Hooks{Version: cli.Version(), Serve: serve, Dev: dev, Log: inspectLogs, CutLog: cutLog}))
}

func serve(ctx context.Context, c config.Config, log *slog.Logger, reload <-chan struct{}) error {
	o, err := options(c, log)
	if err != nil {
		return cli.Usage(err)
	}
	o.Reload = reload
	b, err := broker.New(o)
	if err != nil {
		return cli.Usage(err)
	}
	var pace sync.WaitGroup
	defer pace.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pace.Go(func() { cli.PaceHeap(ctx) })
	if err = b.Run(ctx); errors.Is(err, broker.ErrRemoved) {
		return cli.Removed(err)
	}
	return err
}

// options hands every leaf of c on, but for c.Log, of which log was made.
func options(c config.Config, log *slog.Logger) (broker.Options, error) {
	members, err := c.Members()
	if err != nil {
		return broker.Options{}, err
	}
	o := broker.Options{NodeID: c.NodeID, ClusterName: c.ClusterID, DataDir: c.DataDir, AllowTmpfs: c.AllowTmpfs,
		Listen: c.Listen, PeerListen: c.PeerListen, HTTPListen: c.HTTPListen, Advertise: c.Advertise, AdvertisePeer: c.AdvertisePeer, Insecure: c.Insecure,
		ElectionTimeout: c.Raft.ElectionTimeout, Heartbeat: c.Raft.Heartbeat, Workers: c.Workers, NoPartitionMetrics: !c.Metrics.Partitions, NoGroupMetrics: !c.Metrics.Groups, KeepLeaders: !c.Leaders.AutoRebalance, Rack: c.Rack, Version: cli.Version(), Logger: log}
	o.Access = broker.Access{TLS: security.Files(c.TLS), PeerTLS: security.Files(c.PeerTLS), HTTPTLS: security.Files(c.HTTPTLS),
		Required: c.Auth.Required, SuperUsers: c.SuperUsers(), TokenKey: c.Auth.TokenKey,
		Limits: security.Limits{Conns: c.Limits.Connections, ConnsPerAddr: c.Limits.ConnectionsPerAddress}}
	o.BytesInFlight, o.DiskReserve = int64(c.Limits.BytesInFlight), int64(c.Limits.DiskReserve)
	for _, m := range members {
		o.InitialCluster = append(o.InitialCluster, broker.Member{NodeID: m.NodeID, PeerAddr: m.Addr})
	}
	return o, nil
}

func dev(ctx context.Context, o cli.DevOptions, log *slog.Logger) error {
	return broker.RunDev(ctx, broker.DevOptions{Nodes: o.Nodes, TLS: o.TLS, Version: cli.Version(), Logger: log, Say: o.Say})
}
