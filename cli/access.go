package cli

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"lograft/client"
)

// loginFlags say how a command proves who runs it, beside a certificate.
type loginFlags struct{ user, passwordFile, tokenFile string }

func (l *loginFlags) read() (client.Login, error) {
	if l.user == "" && l.passwordFile != "" {
		return client.Login{}, usagef("--password-file without --user: whose password is it?")
	}
	if l.user == "" {
		return client.Login{TokenFile: l.tokenFile}, nil
	}
	if l.passwordFile == "" {
		return client.Login{}, usagef("--user without --password-file: put the password into a file that only you can read")
	}
	password, err := readSecret(l.passwordFile)
	return client.Login{User: l.user, Password: password, TokenFile: l.tokenFile}, err
}

// readSecret reads a file whose end of line is not part of the secret.
func readSecret(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", usageError{err}
	}
	if secret := strings.TrimRight(string(text), "\r\n"); secret != "" {
		return secret, nil
	}
	return "", usagef("%s is empty: it should hold a password", file)
}

// accessParent is a command whose subcommands all talk to brokers.
func (a *app) accessParent(use, short, example string) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: noArgs, Example: example,
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.checkFormat() }}
	a.clientFlags(c)
	a.formatFlag(c)
	return c
}

func (a *app) userCommand() *cobra.Command {
	c := a.accessParent("user", "Make and delete users with passwords", "  broker user create alice --new-password-file alice.password\n  broker user list")
	var file string
	create := &cobra.Command{Use: "create NAME", Short: "Make a user, or give it a new password", Args: args1("user name"),
		Example: "  broker user create alice                                  # asks for the password\n  broker user create alice --new-password-file alice.password\n  echo secret | broker user create alice --new-password-file -",
		Long:    "Brokers keep SCRAM verifiers, never passwords: the password does not leave this process. A new user may do nothing: see broker acl allow.",
		RunE: func(c *cobra.Command, args []string) error {
			password, err := a.newPassword(file)
			if err != nil {
				return err
			}
			return a.with(func(k *client.Client) error {
				if err := k.PutUser(c.Context(), args[0], password); err != nil {
					return err
				}
				fmt.Fprintf(a.Err, "user %s has this password now; what it may do: broker acl allow %[1]s ...\n", args[0])
				return nil
			})
		}}
	create.Flags().StringVar(&file, "new-password-file", "", "file with the password, - for standard input (default: ask on the terminal)")
	list := &cobra.Command{Use: "list", Short: "List users", Args: noArgs, Example: "  broker user list --format json",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(func(k *client.Client) error {
				users, err := k.ListUsers(c.Context())
				if err != nil {
					return err
				}
				if a.format == "json" {
					out := []map[string]any{}
					for _, u := range users {
						out = append(out, map[string]any{"name": u.Name, "mechanisms": u.Mechanisms})
					}
					return a.writeJSON(out)
				}
				rows := [][]string{{"NAME", "MECHANISMS"}}
				for _, u := range users {
					rows = append(rows, []string{u.Name, strings.Join(u.Mechanisms, ",")})
				}
				return a.table(rows)
			})
		}}
	yes := false
	del := &cobra.Command{Use: "delete NAME", Short: "Delete a user; its sessions end", Args: args1("user name"), Example: "  broker user delete alice --yes",
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.confirm(yes, "deleting user "+args[0]); err != nil {
				return err
			}
			return a.with(func(k *client.Client) error { return k.DeleteUser(c.Context(), args[0]) })
		}}
	del.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.AddCommand(create, list, del)
	return c
}

func (a *app) newPassword(file string) (string, error) {
	switch {
	case file == "-":
		text, err := io.ReadAll(io.LimitReader(a.In, 4096))
		if secret := strings.TrimRight(string(text), "\r\n"); err == nil && secret == "" {
			return "", usagef("standard input is empty: it should hold the password")
		} else if err != nil {
			return "", err
		} else {
			return secret, nil
		}
	case file != "":
		return readSecret(file)
	case !terminal(a.In):
		return "", usagef("no terminal to ask for the password: name a file with --new-password-file")
	}
	in := a.In.(*os.File)
	var said [2]string
	for i, prompt := range []string{"Password: ", "Once more: "} {
		fmt.Fprint(a.Err, prompt)
		b, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(a.Err)
		if err != nil {
			return "", err
		}
		said[i] = string(b)
	}
	if said[0] != said[1] || said[0] == "" {
		return "", usagef("the two are not the same, or empty: nothing was changed")
	}
	return said[0], nil
}

// aclFlags name the resources of an ACL.
type aclFlags struct {
	topic, group string
	cluster      bool
}

func (f *aclFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.topic, "topic", "", "topic, * for all, or a prefix that ends in *")
	c.Flags().StringVar(&f.group, "group", "", "consumer group, * for all, or a prefix that ends in *")
	c.Flags().BoolVar(&f.cluster, "cluster", false, "the cluster: users, ACLs, brokers")
}

// principalsOf are the principals of an argument, separated by commas; a comma that is part of a name has a backslash before it.
func principalsOf(arg string) (list []string, err error) {
	const comma = "\x00" // in no argument
	for _, name := range strings.Split(strings.ReplaceAll(arg, `\,`, comma), ",") {
		if name == "" {
			return nil, usagef("%q names an empty principal: separate principals by one comma, and write \\, for a comma in a name", arg)
		}
		list = append(list, strings.ReplaceAll(name, comma, ","))
	}
	return list, nil
}

// acls are the ACLs that a command line means: principals and operations separated by commas, one resource.
func (f *aclFlags) acls(args []string, deny bool) (list []client.ACL, err error) {
	if len(args) != 2 {
		return nil, usagef("want PRINCIPAL[,PRINCIPAL...] OPERATION[,OPERATION...]: see --help")
	}
	principals, err := principalsOf(args[0])
	if err != nil {
		return nil, err
	}
	one := client.ACL{Deny: deny}
	set := 0
	for _, r := range []struct {
		kind, name string
		given      bool
	}{{"topic", f.topic, f.topic != ""}, {"group", f.group, f.group != ""}, {"cluster", "*", f.cluster}} {
		if r.given {
			one.Kind, one.Name = r.kind, r.name
			set++
		}
	}
	if set != 1 {
		return nil, usagef("name one resource: --topic NAME, --group NAME or --cluster")
	}
	if name, ok := strings.CutSuffix(one.Name, "*"); ok && name != "" {
		one.Name, one.Prefix = name, true
	}
	for _, one.Principal = range principals {
		for _, one.Operation = range strings.Split(args[1], ",") {
			list = append(list, one)
		}
	}
	return list, nil
}

func (a *app) aclCommand() *cobra.Command {
	c := a.accessParent("acl", "Say who may do what", "  broker acl allow alice read,describe --topic orders\n  broker acl allow loader write --topic 'log-*'\n  broker acl deny eve all --topic '*'\n  broker acl list")
	const long = "Operations: all, read, write, create, delete, alter, describe. Who may read, write, alter or delete something may describe it. A deny beats every allow; what no ACL allows is denied. Principals: a certificate's common name, a user, a token's subject, or * for everyone; several separated by commas (\\, for a comma in a name)."
	for _, v := range []struct {
		word, short string
		deny        bool
	}{{"allow", "Allow a principal operations", false}, {"deny", "Deny a principal operations, whatever is allowed elsewhere", true}} {
		f := &aclFlags{}
		cmd := &cobra.Command{Use: v.word + " PRINCIPAL[,PRINCIPAL...] OPERATION[,OPERATION...]", Short: v.short, Long: long, Example: "  broker acl " + v.word + " alice,bob read --topic orders\n  broker acl " + v.word + " alice read --group 'team-*'\n  broker acl " + v.word + " admin all --cluster",
			RunE: func(c *cobra.Command, args []string) error {
				list, err := f.acls(args, v.deny)
				if err != nil {
					return err
				}
				return a.changeACLs(c, list, nil)
			}}
		f.add(cmd)
		c.AddCommand(cmd)
	}
	f, deny := &aclFlags{}, false
	remove := &cobra.Command{Use: "remove PRINCIPAL[,PRINCIPAL...] OPERATION[,OPERATION...]", Short: "Remove ACLs, exactly as they are listed", Example: "  broker acl remove alice read --topic orders\n  broker acl remove eve all --topic '*' --deny",
		RunE: func(c *cobra.Command, args []string) error {
			list, err := f.acls(args, deny)
			if err != nil {
				return err
			}
			return a.changeACLs(c, nil, list)
		}}
	f.add(remove)
	remove.Flags().BoolVar(&deny, "deny", false, "the ACL is one that denies")
	c.AddCommand(remove, a.aclList())
	return c
}

func (a *app) changeACLs(c *cobra.Command, add, remove []client.ACL) error {
	return a.with(func(k *client.Client) error {
		n, err := k.ChangeACLs(c.Context(), add, remove)
		if err != nil {
			return err
		}
		what := "added"
		if len(remove) > 0 {
			what = "removed"
		}
		fmt.Fprintf(a.Err, "ACLs %s: %d, so already: %d\n", what, n, int64(len(add)+len(remove))-n)
		return nil
	})
}

func (a *app) aclList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List ACLs", Args: noArgs, Example: "  broker acl list --format json",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(func(k *client.Client) error {
				acls, err := k.ListACLs(c.Context())
				if err != nil {
					return err
				}
				if a.format == "json" {
					out := []map[string]any{}
					for _, x := range acls {
						out = append(out, map[string]any{"principal": x.Principal, "kind": x.Kind, "name": x.Name, "prefix": x.Prefix, "operation": x.Operation, "deny": x.Deny})
					}
					return a.writeJSON(out)
				}
				rows := [][]string{{"PRINCIPAL", "VERDICT", "OPERATION", "RESOURCE", "NAME"}}
				for _, x := range acls {
					verdict, name := "allow", x.Name
					if x.Deny {
						verdict = "deny"
					}
					if x.Prefix {
						name += "*"
					}
					rows = append(rows, []string{x.Principal, verdict, x.Operation, x.Kind, name})
				}
				return a.table(rows)
			})
		}}
}

func (a *app) quotaCommand() *cobra.Command {
	c := a.accessParent("quota", "Bound what principals may take of each broker", "  broker quota set loader --produce-bytes 10485760\n  broker quota set '*' --requests 1000 --connections 20\n  broker quota list")
	var q client.Quota
	set := &cobra.Command{Use: "set PRINCIPAL[,PRINCIPAL...]", Short: "Set a principal's quota, * for each that has none of its own; without a bound it is removed", Args: args1("principal"),
		Example: "  broker quota set loader --produce-bytes 10485760 --requests 500\n  broker quota set loader                                 # no quota any more",
		Long: "Of each broker; bytes and requests per second, connections at once (produce, consume and broker hold one to each broker that they use). Who\n" +
			"goes beyond is refused with QUOTA and told when to come back; it holds at once, for open connections too.",
		RunE: func(c *cobra.Command, args []string) error {
			principals, err := principalsOf(args[0])
			if err != nil {
				return err
			}
			return a.with(func(k *client.Client) error {
				for _, q.Principal = range principals {
					if err := k.PutQuota(c.Context(), q); err != nil {
						return err
					}
				}
				return nil
			})
		}}
	set.Flags().Uint64Var(&q.ProduceBytes, "produce-bytes", 0, "bytes of batches appended per second; 0: no bound")
	set.Flags().Uint64Var(&q.FetchBytes, "fetch-bytes", 0, "bytes of batches fetched per second; 0: no bound")
	set.Flags().Uint64Var(&q.Requests, "requests", 0, "requests per second; 0: no bound")
	set.Flags().Uint64Var(&q.Connections, "connections", 0, "connections open at once; 0: no bound")
	list := &cobra.Command{Use: "list", Short: "List quotas", Args: noArgs, Example: "  broker quota list",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(func(k *client.Client) error {
				quotas, err := k.ListQuotas(c.Context())
				if err != nil {
					return err
				}
				if a.format == "json" {
					out := []map[string]any{}
					for _, q := range quotas {
						out = append(out, map[string]any{"principal": q.Principal, "produce_bytes": q.ProduceBytes, "fetch_bytes": q.FetchBytes, "requests": q.Requests, "connections": q.Connections})
					}
					return a.writeJSON(out)
				}
				rows := [][]string{{"PRINCIPAL", "PRODUCE-BYTES", "FETCH-BYTES", "REQUESTS", "CONNECTIONS"}}
				bound := func(n uint64) string {
					if n == 0 {
						return "-"
					}
					return strconv.FormatUint(n, 10)
				}
				for _, q := range quotas {
					rows = append(rows, []string{q.Principal, bound(q.ProduceBytes), bound(q.FetchBytes), bound(q.Requests), bound(q.Connections)})
				}
				return a.table(rows)
			})
		}}
	c.AddCommand(set, list)
	return c
}
