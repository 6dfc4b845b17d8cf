package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"lograft/cli"
	"lograft/config"
)

// notDefault sets every leaf to a valid value that is not its default; text that YAML could take for something else is among them.
var notDefault = map[string]string{
	"node-id": "2", "cluster-id": "007", "data-dir": `a "b": #c`, "allow-tmpfs": "true", "listen": "0.0.0.0:1", "peer-listen": "0.0.0.0:2", "http-listen": "",
	"advertise": "h:3", "advertise-peer": "h:4", "initial-cluster": "1=a:1,2=h:4", "insecure": "true", "rack": "r9", "workers": "5",
	"log.level": "debug", "log.format": "json", "raft.election-timeout": "1.5s", "raft.heartbeat": "70ms",
	"tls.cert": "a", "tls.key": "b", "tls.ca": "c", "tls.crl": "d", "peer-tls.cert": "e", "peer-tls.key": "f", "peer-tls.ca": "g", "peer-tls.crl": "h",
	"http-tls.cert": "i", "http-tls.key": "j", "http-tls.ca": "k", "http-tls.crl": "l", "auth.required": "true", "auth.super-users": "root, admin", "auth.token-key": "m",
	"limits.connections": "17", "limits.connections-per-address": "19", "limits.bytes-in-flight": "20000000", "limits.disk-reserve": "3000000", "metrics.partitions": "false",
	"metrics.groups": "false", "leaders.auto-rebalance": "false",
}

func load(t *testing.T, args ...string) config.Config {
	t.Helper()
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddFlags(set)
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	c, _, err := config.Load(set)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What broker config show writes is a file from which the same configuration is loaded, whatever is in it; config env names every leaf.
func TestConfigShowIsAFile(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	var args []string
	for _, f := range config.Fields() {
		value, ok := notDefault[f.Key]
		if !ok {
			t.Fatalf("no value for %s: give this test one", f.Key)
		}
		args = append(args, "--"+config.Flag(f.Key)+"="+value)
	}
	run := func(args ...string) string {
		var out, errs bytes.Buffer
		if code := cli.Run(t.Context(), "broker", args, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs}, cli.Hooks{}); code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, code, &errs)
		}
		return out.String()
	}
	file := filepath.Join(t.TempDir(), "shown.yaml")
	if err := os.WriteFile(file, []byte(run(append([]string{"config", "show"}, args...)...)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := load(t, "--config", file), load(t, args...); got != want {
		t.Errorf("loaded from what was shown: %+v\nwant %+v", got, want)
	}
	file = filepath.Join(t.TempDir(), "shown.json")
	if err := os.WriteFile(file, []byte(run(append([]string{"config", "show", "--format", "json"}, args...)...)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := load(t, "--config", file), load(t, args...); got != want {
		t.Errorf("loaded from what was shown as JSON: %+v\nwant %+v", got, want)
	}
	env := run("config", "env")
	for _, f := range config.Fields() {
		if !strings.Contains(env, config.Env(f.Key)+" ") {
			t.Errorf("config env does not name %s", config.Env(f.Key))
		}
	}
}
