package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"lograft/certs"
	"lograft/config"
)

// certCommand makes certificates for trying out (docs/security.md).
func (a *app) certCommand() *cobra.Command {
	var dir, cluster string
	var brokers, clients []string
	c := &cobra.Command{Use: "cert", Short: "Make a development authority and certificates of brokers and clients", Args: noArgs,
		Example: `  broker cert --dir certs --brokers 1=localhost,2=localhost,3=localhost --clients admin,alice
  broker serve --tls-cert certs/broker-1.crt --tls-key certs/broker-1.key --tls-ca certs/ca.crt \
    --peer-tls-cert certs/broker-1.crt --peer-tls-key certs/broker-1.key --peer-tls-ca certs/ca.crt --auth-required --auth-super-users admin
  broker topic list --tls-ca certs/ca.crt --tls-cert certs/client-admin.crt --tls-key certs/client-admin.key`,
		Long: "Makes an authority in --dir, or uses the one there, and certificates that it signs, valid for a year. Keys are readable by their owner alone. Not for production.",
		RunE: func(*cobra.Command, []string) error {
			if len(brokers) == 0 && len(clients) == 0 {
				return usagef("nothing to make: name --brokers ID=HOST or --clients NAME: see broker cert --help")
			}
			members, err := parseCertBrokers(brokers)
			if err != nil {
				return err
			}
			authority, err := certs.Open(dir)
			if err != nil {
				return err
			}
			rows := [][]string{{"WHO", "CERTIFICATE", "KEY"}, {"authority", authority.CA(), "-"}}
			for _, m := range members {
				p, err := authority.Broker(cluster, m.node, m.hosts)
				if err != nil {
					return err
				}
				rows = append(rows, []string{fmt.Sprintf("broker %d", m.node), p.Cert, p.Key})
			}
			for _, name := range clients {
				p, err := authority.Client(name)
				if err != nil {
					return usageError{err}
				}
				rows = append(rows, []string{"client " + name, p.Cert, p.Key})
			}
			return a.table(rows)
		}}
	c.Flags().StringVar(&dir, "dir", "certs", "directory of the authority and of all it signs")
	c.Flags().StringVar(&cluster, "cluster-id", config.ClusterIDDefault, "cluster that the brokers' certificates are for")
	c.Flags().StringSliceVar(&brokers, "brokers", nil, "brokers, each ID=HOST[+HOST...]: the names or addresses by which clients reach them")
	c.Flags().StringSliceVar(&clients, "clients", nil, "principals")
	return c
}

type certBroker struct {
	node  uint64
	hosts []string
}

func parseCertBrokers(list []string) (out []certBroker, err error) {
	for _, s := range list {
		id, hosts, ok := strings.Cut(s, "=")
		var b certBroker
		if _, err := fmt.Sscanf(id, "%d", &b.node); err != nil || !ok || hosts == "" || b.node == 0 {
			return nil, usagef("--brokers %q: want ID=HOST, for example 1=localhost+127.0.0.1", s)
		}
		b.hosts = strings.Split(hosts, "+")
		out = append(out, b)
	}
	return out, nil
}
