package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"lograft/broker/security"
	"lograft/certs"
)

// DevOptions are of RunDev.
type DevOptions struct {
	Nodes   int  // 1 to 9
	TLS     bool // with certificates made for this run: clients prove themselves as principal DevUser
	Version string
	Logger  *slog.Logger
	// Say prints a line for the person who started it.
	Say func(line string)
}

// DevUser is the principal that may do everything in a dev cluster with TLS.
const DevUser = "dev"

const devCluster = "dev"

// devNodesMax is how many brokers RunDev starts at most.
const devNodesMax = 9

// DevAddress is the loopback address of a port of dev node i: 0 for clients, 1 for peers, 2 for HTTP.
func DevAddress(node, port int) string {
	return fmt.Sprintf("127.0.0.1:%d", 7400+10*(node-1)+port)
}

// RunDev runs a whole cluster in this process on loopback, with temporary data, until ctx is done; then the data is removed.
func RunDev(ctx context.Context, o DevOptions) (err error) {
	if o.Nodes < 1 || o.Nodes > devNodesMax {
		return fmt.Errorf("%d nodes: 1 to %d are possible", o.Nodes, devNodesMax)
	}
	dir, err := os.MkdirTemp("", "lograft-dev-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var members []Member
	for i := 1; i <= o.Nodes; i++ {
		members = append(members, Member{NodeID: uint64(i), PeerAddr: DevAddress(i, 1)})
	}
	accesses, err := devAccess(o, filepath.Join(dir, "certs"))
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for i := 1; i <= o.Nodes; i++ {
		b, err := New(Options{NodeID: uint64(i), ClusterName: devCluster, Access: accesses[i-1], DataDir: filepath.Join(dir, fmt.Sprintf("node-%d", i)), AllowTmpfs: true, InitialCluster: members,
			Listen: DevAddress(i, 0), PeerListen: DevAddress(i, 1), HTTPListen: DevAddress(i, 2), AutoCreate: true, Version: o.Version, Logger: o.Logger})
		if err != nil {
			return err
		}
		o.Say(fmt.Sprintf("node %d: clients %s, peers %s, HTTP %s", i, DevAddress(i, 0), DevAddress(i, 1), DevAddress(i, 2)))
		g.Go(func() error { return b.Run(ctx) })
	}
	o.Say("data: " + dir + " (removed at the end); stop with Ctrl-C")
	return g.Wait()
}

// devAccess is each node's access: open, or with TLS for clients and peers.
func devAccess(o DevOptions, dir string) ([]Access, error) {
	accesses := make([]Access, o.Nodes)
	if !o.TLS {
		return accesses, nil
	}
	authority, err := certs.Open(dir)
	if err != nil {
		return nil, err
	}
	for i := range accesses {
		p, err := authority.Broker(devCluster, uint64(i+1), []string{"localhost", "127.0.0.1"})
		if err != nil {
			return nil, err
		}
		files := security.Files{Cert: p.Cert, Key: p.Key, CA: authority.CA()}
		accesses[i] = Access{TLS: files, PeerTLS: files, Required: true, SuperUsers: []string{DevUser}}
	}
	p, err := authority.Client(DevUser)
	if err != nil {
		return nil, err
	}
	o.Say(fmt.Sprintf("clients: --tls-ca %s --tls-cert %s --tls-key %s", authority.CA(), p.Cert, p.Key))
	return accesses, nil
}
