package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"lograft/config"
)

// brokerCommand is the program broker: serve when no command word is given.
func (a *app) brokerCommand() *cobra.Command {
	dev, nodes, secure := false, 1, false
	run := func(c *cobra.Command, _ []string) error {
		if dev {
			if err := devTakes(c.Flags()); err != nil {
				return err
			}
			return a.dev(c, nodes, secure)
		}
		for _, f := range []string{"nodes", "tls"} {
			if c.Flags().Changed(f) {
				return usagef("--%s goes with --dev: see broker --help", f)
			}
		}
		return a.serve(c)
	}
	root := &cobra.Command{Use: "broker", Short: "A replicated append-only log: topics, partitions, one Raft group each",
		Example: `  broker --dev --nodes 3                                 # a whole cluster in one process, temporary data
  broker serve --node-id 1 --data-dir /data              # one broker; see broker serve --help
  broker topic create orders --partitions 3
  broker cluster health`,
		Args: noArgs, RunE: run}
	serve := &cobra.Command{Use: "serve", Short: "Run a broker", Args: noArgs, RunE: run,
		Example: `  broker serve --data-dir /data                          # a cluster of one
  broker serve --node-id 1 --data-dir /data --initial-cluster "1=a:7401,2=b:7401,3=c:7401" --listen a:7400 --peer-listen a:7401 --http-listen a:7402 --insecure
  broker serve --config /etc/lograft/lograft.yaml`,
		Long: "Runs one broker until SIGINT or SIGTERM. Every flag is also a key of the file and an environment variable (broker config env)."}
	for _, c := range []*cobra.Command{root, serve} {
		config.AddFlags(c.Flags())
		c.Flags().BoolVar(&dev, "dev", false, "a whole cluster in this process on loopback, temporary data, topics created on first use")
		c.Flags().IntVar(&nodes, "nodes", 1, "brokers of --dev")
		c.Flags().BoolVar(&secure, "tls", false, "--dev with certificates made for the run")
	}
	root.AddCommand(
		serve,
		a.topicCommand(),
		a.groupCommand(),
		a.clusterCommand(),
		a.logCommand(),
		a.configCommand(),
		a.certCommand(),
		a.userCommand(),
		a.aclCommand(),
		a.quotaCommand(),
		a.produceCommand(),
		a.consumeCommand(),
		a.benchCommand(),
		a.doctorCommand(),
		a.debugCommand(),
	)
	root.AddCommand(a.versionCommand())
	return root
}

func (a *app) load(c *cobra.Command) (config.Config, config.Source, error) {
	cfg, src, err := config.Load(c.Flags())
	if err != nil {
		return cfg, src, usageError{err}
	}
	return cfg, src, nil
}

func (a *app) serve(c *cobra.Command) error {
	cfg, src, err := a.load(c)
	if err != nil {
		return err
	}
	log, level := a.logger(cfg.Log)
	if src.File != "" {
		log.Info("configuration", "file", src.File)
	}
	ctx, stop := context.WithCancel(c.Context())
	defer stop()
	reload := make(chan struct{})
	g := new(errgroup.Group)
	g.Go(func() error { a.reloadOnHangup(ctx, c, cfg, log, level, reload); return nil })
	err = a.hooks.Serve(ctx, cfg, log, reload)
	stop()
	_ = g.Wait()
	return err
}

// reloadOnHangup reads the configuration again on each SIGHUP: the log level and certificates change at once, whatever else differs
// is named as needing a restart. A configuration with faults changes nothing.
func (a *app) reloadOnHangup(ctx context.Context, c *cobra.Command, running config.Config, log *slog.Logger, level *slog.LevelVar, reload chan<- struct{}) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
		}
		now, _, err := config.Load(c.Flags())
		if err != nil {
			log.Error("SIGHUP: the configuration has faults, nothing of it is taken over", "err", err)
		} else {
			_ = level.UnmarshalText([]byte(now.Log.Level))
			running.Log.Level = now.Log.Level
			if keys := config.Changed(running, now); len(keys) > 0 {
				log.Warn("SIGHUP: these keys differ from what runs and need a restart", "keys", keys)
			}
			log.Info("SIGHUP: configuration and certificates are read again", "level", now.Log.Level)
		}
		select {
		case <-ctx.Done():
			return
		case reload <- struct{}{}:
		}
	}
}

// devTakes refuses flags of a broker that --dev would pass over: its addresses, data and cluster are its own.
func devTakes(set *pflag.FlagSet) (err error) {
	set.Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "dev", "nodes", "tls", "log-level", "log-format":
		default:
			err = errors.Join(err, usagef("--%s has no effect with --dev: leave it out, or say broker serve", f.Name))
		}
	})
	return err
}

// dev runs until interrupted, which is the way to end it.
func (a *app) dev(c *cobra.Command, nodes int, secure bool) error {
	if nodes < 1 || nodes > 9 {
		return usagef("--nodes %d: 1 to 9 are possible", nodes)
	}
	level := config.Log{Level: "warn", Format: "auto"}
	for flag, to := range map[string]*string{"log-level": &level.Level, "log-format": &level.Format} {
		if c.Flags().Changed(flag) {
			*to, _ = c.Flags().GetString(flag)
		}
	}
	log, _ := a.logger(level)
	return a.hooks.Dev(c.Context(), DevOptions{Nodes: nodes, TLS: secure, Say: func(line string) { fmt.Fprintln(a.Err, line) }}, log)
}

// Usage marks an error as a mistake in flags or configuration: exit code 2.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

type envJSON struct {
	Variable string `json:"variable"`
	Key      string `json:"key"`
	Meaning  string `json:"meaning"`
}

func (a *app) configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Show and check the configuration", Args: noArgs,
		Example: "  broker config show --config lograft.yaml\n  broker config validate --config lograft.yaml\n  broker config env",
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return a.checkFormat()
		}}
	a.formatFlag(c)
	show := &cobra.Command{Use: "show", Short: "Show every key with the value that serve would use", Args: noArgs, Example: "  broker config show",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, _, err := a.load(c)
			if err != nil {
				return err
			}
			if a.format == "json" {
				return a.writeJSON(cfg.Tree())
			}
			_, err = io.WriteString(a.Out, cfg.YAML())
			return err
		}}
	validate := &cobra.Command{Use: "validate", Short: "Check the configuration and name every fault", Args: noArgs, Example: "  broker config validate --config lograft.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			_, src, err := a.load(c)
			if err == nil && a.format == "json" {
				return a.writeJSON(map[string]any{"ok": true, "file": src.File})
			}
			if err == nil {
				fmt.Fprintln(a.Err, "ok:", orWord(src.File, "no file; defaults, environment and flags"))
			}
			return err
		}}
	env := &cobra.Command{Use: "env", Short: "Show the environment variable of every key", Args: noArgs, Example: "  broker config env",
		RunE: func(*cobra.Command, []string) error {
			rows := [][]string{{"VARIABLE", "KEY", "MEANING"}}
			list := []envJSON{}
			for _, f := range config.Fields() {
				rows = append(rows, []string{config.Env(f.Key), f.Key, f.Usage})
				list = append(list, envJSON{config.Env(f.Key), f.Key, f.Usage})
			}
			if a.format == "json" {
				return a.writeJSON(list)
			}
			return a.table(rows)
		}}
	for _, s := range []*cobra.Command{show, validate} {
		config.AddFlags(s.Flags())
	}
	c.AddCommand(show, validate, env)
	return c
}

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return s
}

// confirm asks before something is destroyed: on a terminal a person, elsewhere --yes must have said it.
func (a *app) confirm(yes bool, what string) error {
	if yes {
		return nil
	}
	if !terminal(a.In) || !terminal(a.Err) {
		return usagef("%s can't be undone: say --yes", what)
	}
	fmt.Fprintf(a.Err, "%s can't be undone. Go on? [y/N] ", what)
	var answer string
	if _, err := fmt.Fscanln(a.In, &answer); err != nil || !strings.EqualFold(answer, "y") && !strings.EqualFold(answer, "yes") {
		return errors.New("nothing was changed")
	}
	return nil
}
