// Package cli is the commands of the three binaries (interface.md §2). It talks to brokers through package client only; what runs a
// broker is handed in by cmd/broker.
//
// stdout carries data, everything for people goes to stderr. Exit codes: 0 ok, 1 an item failed, 2 usage, 3 unhealthy, 4 unavailable
// or timed out, 5 a broker that was removed from its cluster, 130 interrupted; a broken pipe is 0.
package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"lograft/client"
	"lograft/config"
)

// Exit codes.
const (
	exitOK          = 0
	exitItemFailed  = 1
	exitUsage       = 2
	exitUnhealthy   = 3
	exitUnavailable = 4
	exitRemoved     = 5
	exitInterrupted = 130
)

// DevOptions are of `broker --dev`.
type DevOptions struct {
	Nodes int
	TLS   bool
	Say   func(line string)
}

// Hooks are what cmd/broker gives to cli.
type Hooks struct {
	Version string
	// Serve runs a broker; reload is ready when certificate files should be looked at.
	Serve func(ctx context.Context, c config.Config, log *slog.Logger, reload <-chan struct{}) error
	Dev   func(context.Context, DevOptions, *slog.Logger) error
	// Log reads a data directory offline; entry, if not nil, is called with every good entry.
	Log func(dir string, entry func(LogEntry) error) (LogReport, error)
	// CutLog says what giving up the end of a group's damaged log costs; accept has the next start of its broker do it.
	CutLog func(dir string, accept bool) (LogCut, error)
}

// Streams are where a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// app is one run of a program.
type app struct {
	Streams
	hooks   Hooks
	brokers []string
	tls     client.TLSFiles
	login   loginFlags
	format  string // of admin answers: text or json
}

// Main runs a program with the process's arguments and streams and returns its exit code.
func Main(program string, hooks Hooks) int {
	floor := make([]byte, heapFloorBytes)
	defer runtime.KeepAlive(floor)
	// A reader that went away is told by an error of write, which is no failure, instead of a signal.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	return Run(ctx, program, os.Args[1:], Streams{os.Stdin, os.Stdout, os.Stderr}, hooks)
}

// Run runs a program (broker, produce, consume) with args and returns its exit code.
func Run(ctx context.Context, program string, args []string, s Streams, hooks Hooks) int {
	a := &app{Streams: s, hooks: hooks}
	var root *cobra.Command
	switch program {
	case "produce":
		root = a.produceCommand()
	case "consume":
		root = a.consumeCommand()
	default:
		root = a.brokerCommand()
	}
	root.SetArgs(args)
	root.SetIn(s.In)
	var help bytes.Buffer // what cobra writes; it hides failures of writing
	root.SetOut(&help)
	root.SetErr(s.Err)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.Version = hooks.Version
	root.SetVersionTemplate(versionTemplate + builtWith() + "\n")
	root.SetHelpTemplate("{{with .Example}}{{.}}\n\n{{end}}{{with (or .Long .Short)}}{{.}}\n\n{{end}}{{.UsageString}}")
	root.SetUsageTemplate(usageTemplate)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%v: see %s --help", flagFault(err), c.CommandPath())
	})
	err := root.ExecuteContext(ctx)
	if help.Len() > 0 {
		_, failed := s.Out.Write(help.Bytes())
		err = errors.Join(err, failed)
	}
	return a.exit(ctx, err)
}

// flagWants says what a flag of a type takes.
var flagWants = map[string]string{"uint64": "a whole number from 0 on", "int": "a whole number", "int32": "a whole number", "int64": "a whole number", "float64": "a number",
	"int32Slice": "whole numbers divided by commas", "duration": "a duration like 500ms, 10s or 5m", "bool": "true or false"}

// flagFault says what is wrong with a flag's value in the words of all other faults.
func flagFault(err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) || flagWants[bad.GetFlag().Value.Type()] == "" {
		return err
	}
	what := "want " + flagWants[bad.GetFlag().Value.Type()]
	if errors.Is(err, strconv.ErrRange) {
		what = "the number is too large"
	}
	return fmt.Errorf("--%s %q: %s", bad.GetFlag().Name, bad.GetValue(), what)
}

// usageTemplate is cobra's without the examples, which come first.
const usageTemplate = `Usage:{{if .Runnable}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} [command]

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding }} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableInheritedFlags}}

Common flags:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
`

// usageError is a mistake in the command line.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// codeError ends a command with an exit code; what there was to say was said.
type codeError int

// removedError ends a broker that was removed from its cluster.
type removedError struct{ error }

// Removed marks an error as the end of a broker that was removed from its cluster: exit code 5, which tells a supervisor not to start it
// again.
func Removed(err error) error { return removedError{err} }

func (c codeError) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// exit says what went wrong and gives the exit code.
func (a *app) exit(ctx context.Context, err error) int {
	var code codeError
	var usage usageError
	var removed removedError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, syscall.EPIPE):
		return exitOK
	case errors.As(err, &code):
		return int(code)
	case ctx.Err() != nil && (errors.Is(err, context.Canceled) || client.Unavailable(err)):
		return exitInterrupted
	}
	fmt.Fprintln(a.Err, "error:", err)
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &removed):
		return exitRemoved
	case client.Unavailable(err):
		return exitUnavailable
	}
	return exitItemFailed
}

// clientFlags adds what every command that talks to brokers takes.
func (a *app) clientFlags(c *cobra.Command) {
	a.brokersFlag(c)
	a.tlsFlags(c)
}

func (a *app) brokersFlag(c *cobra.Command) {
	list := strings.FieldsFunc(os.Getenv("LOGRAFT_BROKERS"), func(r rune) bool { return r == ',' || r == ' ' })
	c.PersistentFlags().StringSliceVarP(&a.brokers, "brokers", "b", list, "client addresses, any one suffices ($LOGRAFT_BROKERS; default "+client.BrokerDefault+")")
}

func (a *app) tlsFlags(c *cobra.Command) {
	for _, f := range []struct {
		to          *string
		name, usage string
	}{
		{&a.tls.CA, "tls-ca", "PEM file with the authorities of brokers' certificates: connect with TLS"},
		{&a.tls.Cert, "tls-cert", "PEM file with this client's certificate"},
		{&a.tls.Key, "tls-key", "PEM file with its private key"},
		{&a.login.user, "user", "user that proves itself by password"},
		{&a.login.passwordFile, "password-file", "file with the user's password"},
		{&a.login.tokenFile, "token-file", "file with a signed token (JWT)"},
	} {
		env := "LOGRAFT_CLIENT_" + strings.ToUpper(strings.ReplaceAll(f.name, "-", "_"))
		c.PersistentFlags().StringVar(f.to, f.name, os.Getenv(env), f.usage+" ($"+env+")")
	}
	c.PersistentFlags().BoolVar(&a.tls.System, "tls", os.Getenv("LOGRAFT_CLIENT_TLS") != "", "connect with TLS and the system's authorities ($LOGRAFT_CLIENT_TLS)")
}

// formatFlag adds --format of admin commands.
func (a *app) formatFlag(c *cobra.Command) {
	c.PersistentFlags().StringVar(&a.format, "format", "text", "text or json")
}

func (a *app) checkFormat() error {
	if a.format != "text" && a.format != "json" {
		return usagef("--format %q: want text or json", a.format)
	}
	return nil
}

// dial makes a client of the brokers named.
func (a *app) dial() (*client.Client, error) {
	secure, err := client.LoadTLS(a.tls)
	if err != nil {
		return nil, usageError{err}
	}
	login, err := a.login.read()
	if err != nil {
		return nil, err
	}
	k, err := client.New(client.Options{Brokers: a.brokers, TLS: secure, Login: login})
	if err != nil {
		return nil, usageError{err}
	}
	return k, nil
}

// with runs a function with a client.
func (a *app) with(f func(*client.Client) error) error {
	k, err := a.dial()
	if err != nil {
		return err
	}
	defer k.Close()
	return f(k)
}

// terminal reports whether w is one.
func terminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// logger logs to stderr as configured; the level can be changed later.
func (a *app) logger(c config.Log) (*slog.Logger, *slog.LevelVar) {
	level := &slog.LevelVar{}
	_ = level.UnmarshalText([]byte(c.Level)) // what is no level stays info
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" || c.Format == "auto" && !terminal(a.Err) {
		return slog.New(slog.NewJSONHandler(a.Err, o)), level
	}
	return slog.New(slog.NewTextHandler(a.Err, o)), level
}

// args1 wants exactly one argument, which is a what.
func args1(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usagef("%s wants one argument, a %s: see %s --help", c.CommandPath(), what, c.CommandPath())
		}
		return nil
	}
}

func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		var hint string
		c.SuggestionsMinimumDistance = 2
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			hint = fmt.Sprintf(" (did you mean %s?)", strings.Join(near, ", "))
		}
		return usagef("unknown command or argument %q%s: see %s --help", args[0], hint, c.CommandPath())
	}
	return nil
}
