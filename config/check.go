package config

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds, those of broker.Options.
const (
	workersMax = 64
	// An election timeout is this many heartbeats.
	electionTicksMin = 3
	electionTicksMax = 1000
	connectionsMax   = 1_000_000
	diskReserveMin   = 1 << 20
)

// Member is a broker of --initial-cluster.
type Member struct {
	NodeID uint64
	Addr   string // peer address, host:port
}

// Members are the brokers of InitialCluster, or this one alone. The error names the first part that is none.
func (c *Config) Members() ([]Member, error) {
	if c.InitialCluster == "" {
		if c.AdvertisePeer != "" {
			return []Member{{c.NodeID, c.AdvertisePeer}}, nil
		}
		return []Member{{c.NodeID, c.PeerListen}}, nil
	}
	var members []Member
	for _, part := range strings.Split(c.InitialCluster, ",") {
		id, addr, ok := strings.Cut(strings.TrimSpace(part), "=")
		node, err := strconv.ParseUint(id, 10, 64)
		if !ok || err != nil || checkAddress(addr) != nil {
			return nil, fmt.Errorf(`initial-cluster: %q is not ID=HOST:PORT: write it as "1=H:P,2=H:P,3=H:P"`, part)
		}
		members = append(members, Member{node, addr})
	}
	return members, nil
}

// check gives every fault. Keys in bad have one already and hold a default here.
func (c *Config) check(bad map[string]bool) (faults []error) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	oneOf := func(key, value string, words ...string) {
		if !slices.Contains(words, value) {
			fault("%s %q: want %s", key, value, strings.Join(words, ", "))
		}
	}
	oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	oneOf("log.format", c.Log.Format, "text", "json", "auto")
	if c.NodeID == 0 {
		fault("node-id 0: node ids begin at 1: set --node-id")
	}
	if c.DataDir == "" {
		fault("no data directory: set --data-dir")
	}
	if c.ClusterID == "" {
		fault("cluster-id is empty: set --cluster-id, or leave it away")
	}
	if len(c.Rack) > rackBytesMax || !utf8.ValidString(c.Rack) || strings.ContainsFunc(c.Rack, func(r rune) bool { return !unicode.IsPrint(r) }) {
		fault("rack %.40q: want at most %d bytes of printable UTF-8, or none", c.Rack, rackBytesMax)
	}
	if c.Workers < 0 || c.Workers > workersMax {
		fault("workers %d: want 1 to %d, or 0 to have it chosen", c.Workers, workersMax)
	}
	if !bad["raft.heartbeat"] && !bad["raft.election-timeout"] {
		faults = append(faults, c.Raft.check()...)
	}
	faults = append(faults, c.checkAccess()...)
	faults = append(faults, c.checkAddresses(bad["insecure"])...)
	if !bad["node-id"] && !bad["initial-cluster"] {
		faults = append(faults, c.checkMembers()...)
	}
	return faults
}

// rackBytesMax bounds a rack's name.
const rackBytesMax = 249

func (r *Raft) check() []error {
	if r.Heartbeat <= 0 {
		return []error{fmt.Errorf("raft.heartbeat %v: must be more than 0", r.Heartbeat)}
	}
	if ticks := r.ElectionTimeout / r.Heartbeat; ticks < electionTicksMin || ticks > electionTicksMax {
		return []error{fmt.Errorf("raft.election-timeout %v with raft.heartbeat %v: want %d to %d heartbeats in an election timeout",
			r.ElectionTimeout, r.Heartbeat, electionTicksMin, electionTicksMax)}
	}
	return nil
}

// checkAddresses looks at what is listened on and what others are told. insecureUnknown: nobody knows what --insecure was to be.
func (c *Config) checkAddresses(insecureUnknown bool) (faults []error) {
	for _, l := range []struct{ key, addr, advertiseKey, advertise string }{
		{"listen", c.Listen, "advertise", c.Advertise},
		{"peer-listen", c.PeerListen, "advertise-peer", c.AdvertisePeer},
		{"http-listen", c.HTTPListen, "", ""},
	} {
		if l.advertise != "" {
			if err := checkAddress(l.advertise); err != nil {
				faults = append(faults, fmt.Errorf("%s %q: %w", l.advertiseKey, l.advertise, err))
			} else if unspecified(l.advertise) {
				faults = append(faults, fmt.Errorf("%s %s can't be reached by others: name this machine", l.advertiseKey, l.advertise))
			}
		}
		if l.addr == "" && l.key == "http-listen" {
			continue
		}
		if err := checkAddress(l.addr); err != nil {
			faults = append(faults, fmt.Errorf("%s %q: %w", l.key, l.addr, err))
			continue
		}
		if lacks := c.lacks(l.key); lacks != "" && !c.Insecure && !insecureUnknown && !loopback(l.addr) {
			faults = append(faults, fmt.Errorf("%s %s is not loopback, and anyone who reaches it can read and write everything: %s, listen on 127.0.0.1, or say --insecure", l.key, l.addr, lacks))
		}
		if l.advertiseKey != "" && l.advertise == "" && unspecified(l.addr) {
			faults = append(faults, fmt.Errorf("%s %s is not what others can reach: tell them with --%s HOST:PORT", l.key, l.addr, l.advertiseKey))
		}
	}
	return faults
}

// lacks says what must be set before a listener may be reached from beyond loopback, "" if nothing.
func (c *Config) lacks(listener string) string {
	switch {
	case listener == "listen" && (c.TLS.Cert == "" || !c.Auth.Required):
		return "set tls.cert, tls.key and auth.required"
	case listener == "peer-listen" && c.PeerTLS.CA == "":
		return "set peer-tls.cert, peer-tls.key and peer-tls.ca"
	case listener == "http-listen" && c.HTTPTLS.CA == "":
		return "set http-tls.cert, http-tls.key and http-tls.ca"
	}
	return ""
}

func (c *Config) checkAccess() (faults []error) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	for _, s := range []struct {
		key string
		TLS
	}{{"tls", c.TLS}, {"peer-tls", c.PeerTLS}, {"http-tls", c.HTTPTLS}} {
		if (s.Cert == "") != (s.Key == "") || s.Cert == "" && s.TLS != (TLS{}) {
			fault("%s: a certificate and its key go together: set both %[1]s.cert and %[1]s.key", s.key)
		}
		if s.CRL != "" && s.CA == "" {
			fault("%s.crl without %[1]s.ca: a revocation list needs the authority that signed it", s.key)
		}
	}
	if c.PeerTLS.Cert != "" && c.PeerTLS.CA == "" {
		fault("peer-tls.ca is not set: brokers prove themselves to each other: name the authority of their certificates")
	}
	if c.Auth.Required && len(c.SuperUsers()) == 0 {
		fault("auth.required without auth.super-users: nobody could give rights to anyone: name the first administrator")
	}
	for _, l := range []struct {
		key string
		n   int
	}{{"limits.connections", c.Limits.Connections}, {"limits.connections-per-address", c.Limits.ConnectionsPerAddress}} {
		if l.n < 1 || l.n > connectionsMax {
			fault("%s %d: want 1 to %d", l.key, l.n, connectionsMax)
		}
	}
	if n := c.Limits.BytesInFlight; n < 1 { // one batch always fits
		fault("limits.bytes-in-flight %d: want at least 1", n)
	}
	if n := c.Limits.DiskReserve; n != 0 && n < diskReserveMin {
		fault("limits.disk-reserve %d: want at least %d (1 MiB), or 0 to have it chosen", n, diskReserveMin)
	}
	return faults
}

// SuperUsers are the principals of auth.super-users.
func (c *Config) SuperUsers() (names []string) {
	for _, s := range strings.Split(c.Auth.SuperUsers, ",") {
		if s = strings.TrimSpace(s); s != "" {
			names = append(names, s)
		}
	}
	return names
}

func (c *Config) checkMembers() (faults []error) {
	members, err := c.Members()
	if err != nil {
		return []error{err}
	}
	seen := map[uint64]bool{}
	for _, m := range members {
		if seen[m.NodeID] {
			faults = append(faults, fmt.Errorf("initial-cluster names node %d twice", m.NodeID))
		}
		if m.NodeID == 0 && c.InitialCluster != "" {
			faults = append(faults, fmt.Errorf("initial-cluster names node 0: node ids begin at 1"))
		}
		seen[m.NodeID] = true
	}
	if !seen[c.NodeID] {
		faults = append(faults, fmt.Errorf("initial-cluster does not name this broker, node %d: add %d=HOST:PORT, or set --node-id to one that it names", c.NodeID, c.NodeID))
	}
	return faults
}

// checkAddress wants host:port with a numeric port.
func checkAddress(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("want HOST:PORT, the port a number up to 65535")
	}
	return nil
}

// host is an address's host; the address was checked.
func host(addr string) string {
	h, _, _ := net.SplitHostPort(addr)
	return h
}

func loopback(addr string) bool {
	ip := net.ParseIP(host(addr))
	return host(addr) == "localhost" || ip != nil && ip.IsLoopback()
}

// unspecified reports whether addr stands for every address of the machine.
func unspecified(addr string) bool {
	ip := net.ParseIP(host(addr))
	return host(addr) == "" || ip != nil && ip.IsUnspecified()
}
