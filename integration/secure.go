package integration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Secure says that every listener of a cluster has TLS and that clients must prove who they are. The files are those of `broker cert`.
type Secure struct {
	// Clients get certificates beside SuperUser, by whose certificate the cluster's own commands run.
	Clients []string
	Serve   []string // added to every broker's command line
}

// SuperUser may do everything in a secure cluster.
const SuperUser = "admin"

const clusterID = "integration"

func (c *Cluster) certDir() string { return filepath.Join(c.opts.Dir, "certs") }

// CertFile and KeyFile are of a client's certificate, CAFile of the authority of all.
func (c *Cluster) CertFile(user string) string {
	return filepath.Join(c.certDir(), "client-"+user+".crt")
}

// KeyFile is a client's private key.
func (c *Cluster) KeyFile(user string) string {
	return filepath.Join(c.certDir(), "client-"+user+".key")
}

// CAFile is the authority's certificate.
func (c *Cluster) CAFile() string { return filepath.Join(c.certDir(), "ca.crt") }

// brokerFile is broker N's certificate (crt) or key.
func (c *Cluster) brokerFile(id int, suffix string) string {
	return filepath.Join(c.certDir(), fmt.Sprintf("broker-%d.%s", id, suffix))
}

// makeCerts runs `broker cert` for brokers and clients; it may be run again to replace all but the authority.
func (c *Cluster) makeCerts(ctx context.Context, brokers bool, clients ...string) error {
	args := []string{"cert", "--dir", c.certDir(), "--cluster-id", clusterID}
	if brokers {
		var list []string
		for _, n := range c.nodes {
			list = append(list, fmt.Sprintf("%d=127.0.0.1", n.ID))
		}
		args = append(args, "--brokers", strings.Join(list, ","))
	}
	if len(clients) > 0 {
		args = append(args, "--clients", strings.Join(clients, ","))
	}
	r, err := c.opts.Bin.Run(ctx, "", nil, "broker", args...)
	if err == nil {
		err = r.Err()
	}
	return err
}

// secureArgs are a broker's flags.
func (n *Node) secureArgs() (args []string) {
	c := n.cluster
	for _, l := range []string{"", "peer-", "http-"} {
		args = append(args, "--"+l+"tls-cert", c.brokerFile(n.ID, "crt"), "--"+l+"tls-key", c.brokerFile(n.ID, "key"), "--"+l+"tls-ca", c.CAFile())
	}
	args = append(args, "--auth-required", "--auth-super-users", SuperUser)
	return append(args, c.opts.Secure.Serve...)
}

// secureEnv is the environment of commands run by a user, "" for nobody.
func (c *Cluster) secureEnv(user string) []string {
	if c.opts.Secure == nil {
		return nil
	}
	env := []string{"LOGRAFT_CLIENT_TLS_CA=" + c.CAFile()}
	if user != "" {
		env = append(env, "LOGRAFT_CLIENT_TLS_CERT="+c.CertFile(user), "LOGRAFT_CLIENT_TLS_KEY="+c.KeyFile(user))
	}
	return env
}

// TLS is the configuration of a client that shows a user's certificate, none for "".
func (c *Cluster) TLS(user string) (*tls.Config, error) {
	text, err := os.ReadFile(c.CAFile())
	if err != nil {
		return nil, err
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	if !t.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", c.CAFile())
	}
	if user == "" {
		return t, nil
	}
	pair, err := tls.LoadX509KeyPair(c.CertFile(user), c.KeyFile(user))
	t.Certificates = []tls.Certificate{pair}
	return t, err
}
