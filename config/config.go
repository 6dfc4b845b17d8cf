// Package config is a broker's configuration: one immutable struct, loaded once from defaults, file, environment and flags
// (interface.md §3). Every leaf has a default, a flag and an environment variable; unknown keys of a file are refused; a value is
// read as its leaf's type or refused, never bent to it; all faults are reported at once, each with where it was said.
//
// What Load accepts is what a broker can start with, as far as that can be known without touching disk or network.
//
// Limitations: nothing is reloaded; an empty environment variable counts as unset.
package config

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Config is everything that a broker can be told. The tag names the key: in a file as it is, as a flag with "-" for ".", in the
// environment as LOGRAFT_ and upper case with "_" for "." and "-".
type Config struct {
	NodeID         uint64  `mapstructure:"node-id"`
	ClusterID      string  `mapstructure:"cluster-id"`
	DataDir        string  `mapstructure:"data-dir"`
	AllowTmpfs     bool    `mapstructure:"allow-tmpfs"`
	Listen         string  `mapstructure:"listen"`
	PeerListen     string  `mapstructure:"peer-listen"`
	HTTPListen     string  `mapstructure:"http-listen"`
	Advertise      string  `mapstructure:"advertise"`
	AdvertisePeer  string  `mapstructure:"advertise-peer"`
	InitialCluster string  `mapstructure:"initial-cluster"`
	Rack           string  `mapstructure:"rack"`
	Insecure       bool    `mapstructure:"insecure"`
	Workers        int     `mapstructure:"workers"`
	Log            Log     `mapstructure:"log"`
	Raft           Raft    `mapstructure:"raft"`
	Leaders        Leaders `mapstructure:"leaders"`
	TLS            TLS     `mapstructure:"tls"`
	PeerTLS        TLS     `mapstructure:"peer-tls"`
	HTTPTLS        TLS     `mapstructure:"http-tls"`
	Auth           Auth    `mapstructure:"auth"`
	Limits         Limits  `mapstructure:"limits"`
	Metrics        Metrics `mapstructure:"metrics"`
}

// Metrics says what /metrics tells.
type Metrics struct {
	Partitions bool `mapstructure:"partitions"`
	Groups     bool `mapstructure:"groups"`
}

// Log says what is logged and how.
type Log struct {
	Level  string `mapstructure:"level"`
	Format string `mapstructure:"format"`
}

// Raft is the timing of elections.
type Raft struct {
	ElectionTimeout time.Duration `mapstructure:"election-timeout"`
	Heartbeat       time.Duration `mapstructure:"heartbeat"`
}

// Leaders says who leads partitions.
type Leaders struct {
	AutoRebalance bool `mapstructure:"auto-rebalance"`
}

// TLS names the PEM files of one listener. They are read again when they change.
type TLS struct {
	Cert string `mapstructure:"cert"`
	Key  string `mapstructure:"key"`
	CA   string `mapstructure:"ca"`
	CRL  string `mapstructure:"crl"`
}

// Auth says who may use the client listener.
type Auth struct {
	Required   bool   `mapstructure:"required"`
	SuperUsers string `mapstructure:"super-users"`
	TokenKey   string `mapstructure:"token-key"`
}

// Limits bounds what clients may take.
type Limits struct {
	Connections           int `mapstructure:"connections"`
	ConnectionsPerAddress int `mapstructure:"connections-per-address"`
	BytesInFlight         int `mapstructure:"bytes-in-flight"`
	DiskReserve           int `mapstructure:"disk-reserve"`
}

// Field describes a leaf.
type Field struct {
	Key     string
	Default any // uint64, string, bool, int or time.Duration
	Usage   string
}

// ClusterIDDefault names a cluster to which nobody gave a name.
const ClusterIDDefault = "lograft"

// fields are all leaves, in the order in which they are shown.
var fields = []Field{
	{"node-id", uint64(1), "this broker's node id, unique in the cluster"},
	{"cluster-id", ClusterIDDefault, "name of the cluster; brokers of another name are refused"},
	{"data-dir", "lograft-data", "directory of this broker's data"},
	{"allow-tmpfs", false, "accept a data directory in memory: everything is lost with the power"},
	{"listen", "127.0.0.1:7400", "host:port for clients"},
	{"peer-listen", "127.0.0.1:7401", "host:port for other brokers"},
	{"http-listen", "127.0.0.1:7402", "host:port for health and profiles; empty: none"},
	{"advertise", "", "host:port that clients are told (default: --listen)"},
	{"advertise-peer", "", "host:port that other brokers are told (default: --peer-listen)"},
	{"initial-cluster", "", `every broker's node id and peer address, "1=H:P,2=H:P,3=H:P" (default: this broker alone)`},
	{"rack", "", "name of what can fail together with this broker (a rack, a zone): replicas of a partition go to different ones; empty: none"},
	{"insecure", false, "listen beyond loopback without TLS and authentication"},
	{"workers", 0, "goroutines that run the partitions (default: one per core, at most 4)"},
	{"log.level", "info", "debug, info, warn or error"},
	{"log.format", "auto", "text, json, or auto: json unless the output is a terminal"},
	{"raft.election-timeout", time.Second, "a follower without a leader for so long, and up to half as long again, stands for election"},
	{"raft.heartbeat", 100 * time.Millisecond, "interval of heartbeats and unit of all Raft time"},
	{"leaders.auto-rebalance", true, "leadership goes back to preferred leaders by itself, one partition after the other, 30 election timeouts after all replicas are caught up"},
	{"tls.cert", "", "PEM file with the certificate chain shown to clients; empty: no TLS"},
	{"tls.key", "", "PEM file with its private key"},
	{"tls.ca", "", "PEM file with the authorities of clients' certificates; empty: clients show none"},
	{"tls.crl", "", "PEM file with clients' certificates that are revoked"},
	{"peer-tls.cert", "", "PEM file with the certificate shown to brokers: SAN lograft://cluster/CLUSTER-ID/node/N (broker cert); empty: no TLS"},
	{"peer-tls.key", "", "PEM file with its private key"},
	{"peer-tls.ca", "", "PEM file with the authorities of brokers' certificates"},
	{"peer-tls.crl", "", "PEM file with brokers' certificates that are revoked"},
	{"http-tls.cert", "", "PEM file with the certificate shown on the HTTP port; empty: no TLS"},
	{"http-tls.key", "", "PEM file with its private key"},
	{"http-tls.ca", "", "PEM file with the authorities of who may see more than /livez and /readyz; empty: everyone may"},
	{"http-tls.crl", "", "PEM file with their certificates that are revoked"},
	{"auth.required", false, "clients must prove who they are and may do only what ACLs allow"},
	{"auth.super-users", "", "principals that may do everything, separated by commas: the first administrators"},
	{"auth.token-key", "", "PEM file with the public key (Ed25519, ECDSA, RSA) that signs clients' bearer tokens (JWT); empty: none are taken"},
	{"limits.connections", 10_000, "connections of clients in all"},
	{"limits.connections-per-address", 1_000, "connections of clients from one address"},
	{"limits.bytes-in-flight", 256 << 20, "bytes of batches that appends without an answer may hold, and as many of answers not sent yet; then OVERLOADED"},
	{"limits.disk-reserve", 0, "bytes kept free on the disk for what is under way; below, appends are refused with DISK_FULL (default: what the partitions here need, at most 5 % of the disk)"},
	{"metrics.partitions", true, "series of each partition in /metrics; false leaves the sums"},
	{"metrics.groups", true, "members and lag of each consumer group in /metrics"},
}

// Fields lists all leaves.
func Fields() []Field { return slices.Clone(fields) }

const envPrefix = "LOGRAFT"

// Env is the environment variable of a key.
func Env(key string) string {
	return envPrefix + "_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
}

// Flag is the flag of a key.
func Flag(key string) string { return strings.ReplaceAll(key, ".", "-") }

// AddFlags defines --config and a flag for every leaf.
func AddFlags(set *pflag.FlagSet) {
	set.String("config", "", "configuration file (default: $LOGRAFT_CONFIG, ./lograft.yaml, $XDG_CONFIG_HOME/lograft/, /etc/lograft/)")
	for _, f := range fields {
		switch d := f.Default.(type) {
		case uint64:
			set.Uint64(Flag(f.Key), d, f.Usage)
		case int:
			set.Int(Flag(f.Key), d, f.Usage)
		case bool:
			set.Bool(Flag(f.Key), d, f.Usage)
		case string:
			set.String(Flag(f.Key), d, f.Usage)
		case time.Duration:
			set.Duration(Flag(f.Key), d, f.Usage)
		}
	}
}
