package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lograft/client"
	"lograft/config"
)

// finding is one thing that doctor looked at.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // ok, warn or fail
	Detail string `json:"detail"`
}

// Words of a finding.
const (
	statusOK   = "ok"
	statusWarn = "warn"
	statusFail = "fail"
)

// Bounds of doctor's judgement.
const (
	doctorSyncs      = 20
	doctorSyncBytes  = 4 << 10
	openFilesMin     = 10_000
	diskFreeWarn     = 0.2
	clockSkewMax     = 2 * time.Second // Date of HTTP has a resolution of a second
	peerDialTimeout  = 2 * time.Second
	syncBelowTimeout = 10 // a sync should take less than this part of the election timeout
)

func (a *app) doctorCommand() *cobra.Command {
	c := &cobra.Command{Use: "doctor", Short: "Look at this machine, its configuration and the cluster for what will go wrong", Args: noArgs,
		Example:           "  broker doctor --config /etc/lograft/lograft.yaml   # before the first start\n  broker doctor -b host:7400                         # the cluster too",
		Long:              "Checks configuration, data directory, sync time, limits, ports and peers of a broker that would start with these flags, and, with -b or $LOGRAFT_BROKERS, the cluster. Exit code 3 if a check fails; warnings are no failure.",
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.checkFormat() },
		RunE: func(c *cobra.Command, _ []string) error {
			found := a.doctor(c)
			if len(a.brokers) > 0 {
				found = append(found, a.doctorCluster(c.Context())...)
			}
			return a.showFindings(found)
		}}
	a.formatFlag(c)
	config.AddFlags(c.Flags()) // --tls-ca and so on are the broker's here
	a.brokersFlag(c)
	a.tls = client.TLSFiles{CA: os.Getenv("LOGRAFT_CLIENT_TLS_CA"), Cert: os.Getenv("LOGRAFT_CLIENT_TLS_CERT"), Key: os.Getenv("LOGRAFT_CLIENT_TLS_KEY"), System: os.Getenv("LOGRAFT_CLIENT_TLS") != ""}
	return c
}

// doctor looks at what a broker with this configuration would find.
func (a *app) doctor(c *cobra.Command) (found []finding) {
	add := func(check, status, format string, args ...any) {
		found = append(found, finding{check, status, fmt.Sprintf(format, args...)})
	}
	cfg, src, err := config.Load(c.Flags())
	if err != nil {
		for _, line := range strings.Split(err.Error(), "\n") {
			add("configuration", statusFail, "%s", line)
		}
		return found
	}
	add("configuration", statusOK, "%s", orWord(src.File, "no file; defaults, environment and flags"))
	found = append(found, checkDisk(cfg)...)
	if limit, ok := openFiles(); ok && limit < openFilesMin {
		add("open files", statusWarn, "at most %d: every partition needs some; raise it to %d or more (ulimit -n, LimitNOFILE=)", limit, openFilesMin)
	} else if ok {
		add("open files", statusOK, "at most %d", limit)
	}
	for _, l := range []struct{ name, addr string }{{"listen", cfg.Listen}, {"peer-listen", cfg.PeerListen}, {"http-listen", cfg.HTTPListen}} {
		if l.addr != "" {
			found = append(found, checkPort(l.name, l.addr))
		}
	}
	return append(found, checkPeers(c.Context(), cfg)...)
}

// checkDisk looks at the data directory, or at where it would be made.
func checkDisk(cfg config.Config) (found []finding) {
	dir := cfg.DataDir
	for {
		if st, err := os.Stat(dir); err == nil {
			if !st.IsDir() {
				return []finding{{"data directory", statusFail, fmt.Sprintf("%s is no directory: set --data-dir", dir)}}
			}
			break
		}
		up := filepath.Dir(dir)
		if up == dir {
			return []finding{{"data directory", statusFail, fmt.Sprintf("%s: nothing of it exists: set --data-dir", cfg.DataDir)}}
		}
		dir = up
	}
	took, err := syncTimes(dir)
	if err != nil {
		return []finding{{"data directory", statusFail, fmt.Sprintf("%s takes no files: %v: give it to the user that runs the broker", dir, err)}}
	}
	found = append(found, finding{"data directory", statusOK, fmt.Sprintf("%s takes files", dir)})
	mid, worst := took[len(took)/2], took[len(took)-1]
	detail := fmt.Sprintf("%d bytes: median %.2f ms, longest %.2f ms, election timeout %v", doctorSyncBytes, float64(mid.Microseconds())/1000, float64(worst.Microseconds())/1000, cfg.Raft.ElectionTimeout)
	switch limit := cfg.Raft.ElectionTimeout / syncBelowTimeout; {
	case mid < 20*time.Microsecond:
		found = append(found, finding{"sync", statusWarn, detail + ": too fast for a disk: is it memory, or a disk that answers before it has written?"})
	case mid > limit:
		found = append(found, finding{"sync", statusFail, detail + ": leaders will be lost to syncs: use a faster disk, or raise raft.election-timeout"})
	case worst > limit:
		found = append(found, finding{"sync", statusWarn, detail + ": the longest is near what costs a leader its place: what else uses this disk?"})
	default:
		found = append(found, finding{"sync", statusOK, detail})
	}
	if free, size, ok := diskSpace(dir); ok {
		f := finding{"disk space", statusOK, fmt.Sprintf("%.1f of %.1f GiB free", float64(free)/(1<<30), float64(size)/(1<<30))}
		if float64(free) < diskFreeWarn*float64(size) {
			f.Status, f.Detail = statusWarn, f.Detail+": make room, or bound topics with retention.bytes"
		}
		found = append(found, f)
	}
	return found
}

// syncTimes writes and syncs a small file some times; the durations are sorted.
func syncTimes(dir string) ([]time.Duration, error) {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, doctorSyncBytes)
	var took []time.Duration
	for i := range doctorSyncs {
		began := time.Now()
		if _, err := f.WriteAt(block, int64(i*len(block))); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took, nil
}

func checkPort(name, addr string) finding {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return finding{name, statusWarn, fmt.Sprintf("%s: %v: fine if this broker runs; else stop what listens there, or choose another", addr, errors.Unwrap(err))}
	}
	_ = l.Close()
	return finding{name, statusOK, addr + " is free"}
}

// checkPeers tries to reach the other brokers of --initial-cluster.
func checkPeers(ctx context.Context, cfg config.Config) (found []finding) {
	members, err := cfg.Members()
	if err != nil {
		return nil // told with the configuration
	}
	if len(members) == 1 {
		return []finding{{"peers", statusWarn, "a cluster of one: losing this disk loses everything; see --initial-cluster"}}
	}
	if len(members)%2 == 0 {
		found = append(found, finding{"peers", statusWarn, fmt.Sprintf("%d brokers bear the loss of no more than %d would: use an odd number", len(members), len(members)-1)})
	}
	for _, m := range members {
		if m.NodeID == cfg.NodeID {
			continue
		}
		name := fmt.Sprintf("peer %d", m.NodeID)
		began := time.Now()
		conn, err := (&net.Dialer{Timeout: peerDialTimeout}).DialContext(ctx, "tcp", m.Addr)
		if err != nil {
			found = append(found, finding{name, statusWarn, fmt.Sprintf("%s: %v: fine before its first start; else look at address and firewall", m.Addr, err)})
			continue
		}
		_ = conn.Close()
		f := finding{name, statusOK, fmt.Sprintf("%s answers in %.1f ms", m.Addr, float64(time.Since(began).Microseconds())/1000)}
		if took := time.Since(began); took > cfg.Raft.Heartbeat {
			f.Status, f.Detail = statusWarn, f.Detail+": slower than a heartbeat; raise raft.heartbeat and raft.election-timeout"
		}
		found = append(found, f)
	}
	return found
}

// doctorCluster looks at the cluster that -b names.
func (a *app) doctorCluster(ctx context.Context) (found []finding) {
	k, err := a.dial()
	if err != nil {
		return []finding{{"cluster", statusFail, err.Error()}}
	}
	defer k.Close()
	h, err := a.lookHealth(ctx, k)
	if err != nil {
		return []finding{{"cluster", statusFail, err.Error()}}
	}
	f := finding{"cluster", statusOK, fmt.Sprintf("%d brokers, %d partitions, healthy", h.Brokers, h.Partitions)}
	if !h.Healthy {
		f.Status, f.Detail = statusFail, fmt.Sprintf("%d problems, the first: %s: see broker cluster health", len(h.Problems), h.Problems[0].Problem)
	}
	found = append(found, f)
	if !h.CanLoseOne {
		found = append(found, finding{"redundancy", statusWarn, h.WhyNot})
	}
	var versions []string
	for _, n := range h.Nodes {
		if !slices.Contains(versions, n.Version) {
			versions = append(versions, n.Version)
		}
	}
	if len(versions) > 1 {
		found = append(found, finding{"versions", statusWarn, "brokers run " + strings.Join(versions, ", ") + ": finish the upgrade"})
	}
	return append(found, a.checkClocks(ctx, k)...)
}

// checkClocks compares the clocks that brokers' HTTP answers show with this machine's.
func (a *app) checkClocks(ctx context.Context, k *client.Client) (found []finding) {
	d, err := k.DescribeCluster(ctx)
	if err != nil {
		return nil
	}
	for _, b := range d.Brokers {
		skew, err := clockSkew(ctx, b.HTTPAddr)
		if err != nil {
			continue
		}
		f := finding{fmt.Sprintf("clock of %d", b.Node), statusOK, "within 2 s of this machine's"}
		if skew.Abs() > clockSkewMax {
			f.Status = statusWarn
			f.Detail = fmt.Sprintf("%v from this machine's: append times follow the majority; set up NTP", skew.Round(time.Second))
		}
		found = append(found, f)
	}
	return found
}

func clockSkew(ctx context.Context, addr string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, httpTimeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/version", nil)
	if err != nil {
		return 0, err
	}
	r, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(q)
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	at, err := http.ParseTime(r.Header.Get("Date"))
	return time.Until(at), err
}

func (a *app) showFindings(found []finding) error {
	failed := slices.ContainsFunc(found, func(f finding) bool { return f.Status == statusFail })
	var err error
	if a.format == "json" {
		err = a.writeJSON(map[string]any{"ok": !failed, "findings": found})
	} else {
		rows := [][]string{{"CHECK", "STATUS", "DETAIL"}}
		for _, f := range found {
			rows = append(rows, []string{f.Check, f.Status, f.Detail})
		}
		err = a.table(rows)
	}
	if err == nil && failed {
		return codeError(exitUnhealthy)
	}
	return err
}
