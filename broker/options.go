package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"lograft/broker/security"
)

// Member is a broker of the cluster's first members (`--initial-cluster`).
type Member struct {
	NodeID   uint64
	PeerAddr string
}

// Options builds a Broker. The zero value of a field that has a default means the default.
type Options struct {
	NodeID         uint64
	ClusterName    string
	DataDir        string
	AllowTmpfs     bool
	InitialCluster []Member // every broker of the cluster, this one included

	Listen, PeerListen, HTTPListen string // host:port; HTTPListen "" for none
	Advertise, AdvertisePeer       string // what others are told; "": the listen address
	Insecure                       bool   // listen beyond loopback without TLS and authentication
	Access                         Access
	Reload                         <-chan struct{} // asks to look at certificate files now; nil: only now and then

	ElectionTimeout time.Duration // lower bound of the election timeout; drawn from [it, 1.5 it)
	Heartbeat       time.Duration // one tick; a group's heartbeats go every second one
	Workers         int           // 0: number of cores, at most 4
	TailCacheBytes  int           // per group, less where there are many (tailCacheOf)
	BytesInFlight   int64         // of appends without an answer, and of answers not sent yet; 0: 256 MiB
	DiskReserve     int64         // bytes kept free on the disk (architecture D19); 0: what the groups here need (engine.Reserve)
	// NoPartitionMetrics leaves the series of each partition out of /metrics.
	NoPartitionMetrics bool
	NoGroupMetrics     bool   // leaves the lag of groups out of it
	KeepLeaders        bool   // leadership does not go back to preferred leaders by itself
	AutoCreate         bool   // --dev: topics come to be when first used
	Rack               string // of this broker; empty: it is a rack by itself
	Version            string
	Logger             *slog.Logger
}

// Defaults of Options (performance.md "Settings").
const (
	ElectionTimeoutDefault = time.Second
	HeartbeatDefault       = 100 * time.Millisecond
	tailCacheBytesDefault  = 16 << 20
	workersMax             = 64
)

// complete fills in defaults and reports every fault at once.
func (o Options) complete(cores int) (Options, error) {
	if o.ClusterName == "" {
		o.ClusterName = "lograft"
	}
	if o.ElectionTimeout == 0 {
		o.ElectionTimeout = ElectionTimeoutDefault
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = HeartbeatDefault
	}
	if o.Workers == 0 {
		o.Workers = min(max(cores, 1), 4)
	}
	if o.TailCacheBytes == 0 {
		o.TailCacheBytes = tailCacheBytesDefault
	}
	if o.Advertise == "" {
		o.Advertise = o.Listen
	}
	if o.AdvertisePeer == "" {
		o.AdvertisePeer = o.PeerListen
	}
	if o.Access.Limits == (security.Limits{}) {
		o.Access.Limits = security.DefaultLimits()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if o.NodeID == 0 {
		fault("node id 0: must be >= 1: set --node-id")
	}
	if o.DataDir == "" {
		fault("no data directory: set --data-dir")
	}
	if o.Workers < 1 || o.Workers > workersMax {
		fault("%d workers: must be in [1, %d]", o.Workers, workersMax)
	}
	if ticks := o.ElectionTimeout / o.Heartbeat; ticks < 3 || ticks > 1000 {
		fault("election timeout %v with heartbeat %v: their ratio must be in [3, 1000]", o.ElectionTimeout, o.Heartbeat)
	}
	for _, l := range []struct {
		flag, addr string
		open       bool
	}{
		{"--listen", o.Listen, o.Access.TLS.Empty() || !o.Access.Required},
		{"--peer-listen", o.PeerListen, o.Access.PeerTLS.CA == ""},
		{"--http-listen", o.HTTPListen, o.Access.HTTPTLS.CA == ""},
	} {
		if err := checkListen(l.flag, l.addr, l.open && !o.Insecure); err != nil {
			faults = append(faults, err)
		}
	}
	me := 0
	seen := map[uint64]bool{}
	for _, m := range o.InitialCluster {
		if seen[m.NodeID] {
			fault("--initial-cluster names node %d twice", m.NodeID)
		}
		seen[m.NodeID] = true
		if m.NodeID == o.NodeID {
			me++
		}
	}
	if me == 0 {
		fault("--initial-cluster does not name this broker (node %d): add %d=%s", o.NodeID, o.NodeID, o.AdvertisePeer)
	}
	return o, errors.Join(faults...)
}

// checkListen refuses to listen beyond loopback without protection.
func checkListen(flag, addr string, open bool) error {
	if addr == "" && flag == "--http-listen" {
		return nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s %q: want host:port: %w", flag, addr, err)
	}
	if !open || host == "localhost" {
		return nil
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%s %s is not loopback and has no TLS or does not ask who connects: anyone who reaches it can read and write everything; set both, listen on 127.0.0.1, or say --insecure", flag, addr)
}
