package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func load(t *testing.T, args ...string) (Config, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(set)
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	c, _, err := Load(set)
	return c, err
}

// leaves are the keys of a struct's leaves, by their tags.
func leaves(t reflect.Type, prefix string) (keys []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		key := prefix + f.Tag.Get("mapstructure")
		if f.Type.Kind() == reflect.Struct {
			keys = append(keys, leaves(f.Type, key+".")...)
		} else {
			keys = append(keys, key)
		}
	}
	return keys
}

// Every leaf of the struct is in the table, and the table has nothing else.
func TestTableIsComplete(t *testing.T) {
	want := map[string]bool{}
	for _, k := range leaves(reflect.TypeFor[Config](), "") {
		want[k] = true
	}
	for _, f := range fields {
		if !want[f.Key] {
			t.Errorf("%s is in the table and not in the struct", f.Key)
		}
		delete(want, f.Key)
	}
	for k := range want {
		t.Errorf("%s is in the struct and not in the table", k)
	}
}

// other is a valid value of a leaf that is not its default.
func other(f Field) string {
	switch f.Key {
	case "log.level":
		return "warn"
	case "log.format":
		return "json"
	case "initial-cluster":
		return "1=h:1,2=h:2"
	case "raft.heartbeat":
		return "70ms"
	case "limits.disk-reserve":
		return "2000000"
	}
	switch f.Default.(type) {
	case uint64, int:
		return "7"
	case bool:
		return "true"
	case time.Duration:
		return "7s"
	}
	return "127.0.0.1:1" // addresses; any text
}

// company is what must be said with a leaf so that the whole is valid.
func company(key string) map[string]string {
	const file = "127.0.0.1:1" // any text
	switch section, leaf, _ := strings.Cut(key, "."); {
	case leaf == "cert" && section == "peer-tls":
		return map[string]string{section + ".key": file, section + ".ca": file}
	case leaf == "cert":
		return map[string]string{section + ".key": file}
	case leaf == "key" && section != "peer-tls":
		return map[string]string{section + ".cert": file}
	case leaf == "ca" || leaf == "key":
		return map[string]string{section + ".cert": file, section + ".key": file, section + ".ca": file}
	case leaf == "crl":
		return map[string]string{section + ".cert": file, section + ".key": file, section + ".ca": file}
	case key == "auth.required":
		return map[string]string{"auth.super-users": file}
	}
	return nil
}

// asFile is a file that sets one key.
func asFile(key, value string) string {
	if a, b, ok := strings.Cut(key, "."); ok {
		return a + ":\n  " + b + ": " + value + "\n"
	}
	return key + ": " + value + "\n"
}

// write makes a file and returns its path.
func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// values are all leaves of c as text, by key.
func values(v reflect.Value, prefix string, into map[string]string) map[string]string {
	for i := range v.NumField() {
		key := prefix + v.Type().Field(i).Tag.Get("mapstructure")
		if v.Field(i).Kind() == reflect.Struct {
			values(v.Field(i), key+".", into)
		} else {
			into[key] = fmt.Sprint(v.Field(i).Interface())
		}
	}
	return into
}

// Every leaf can be set by environment, by flag and by file: the value arrives, and no other leaf changes.
func TestEveryLeafIsReachable(t *testing.T) {
	base, err := load(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		for _, how := range []string{"env", "flag", "file"} {
			t.Run(f.Key+"/"+how, func(t *testing.T) {
				var args []string
				want := values(reflect.ValueOf(base), "", map[string]string{})
				for k, v := range company(f.Key) {
					if k != f.Key {
						t.Setenv(Env(k), v)
						want[k] = v
					}
				}
				switch how {
				case "env":
					t.Setenv(Env(f.Key), other(f))
				case "flag":
					args = []string{"--" + Flag(f.Key) + "=" + other(f)}
				case "file":
					args = []string{"--config", write(t, asFile(f.Key, other(f)))}
				}
				c, err := load(t, args...)
				if err != nil {
					t.Fatal(err)
				}
				want[f.Key] = other(f)
				if got := values(reflect.ValueOf(c), "", map[string]string{}); !reflect.DeepEqual(got, want) {
					t.Errorf("%s=%s:\n got %v\nwant %v", f.Key, other(f), got, want)
				}
			})
		}
	}
}

// A flag wins over the environment, the environment over the file.
func TestOrder(t *testing.T) {
	file := write(t, "node-id: 2\nworkers: 2\ncluster-id: two\n")
	t.Setenv("LOGRAFT_NODE_ID", "3")
	t.Setenv("LOGRAFT_WORKERS", "3")
	c, err := load(t, "--config", file, "--node-id", "4")
	if err != nil || c.NodeID != 4 || c.Workers != 3 || c.ClusterID != "two" {
		t.Errorf("%+v, %v", c, err)
	}
}

// faultsOf are the lines of an error.
func faultsOf(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

// Each mistake is one fault, which names where it was said and what would be right.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name, file string
		args       []string
		says       []string // the one fault
	}{
		{"unknown key", "node-idd: 2\n", nil, []string{"c.yaml", `"node-idd"`, "config show"}},
		{"unknown key in a section", "log:\n  colour: red\n", nil, []string{"c.yaml", `"log.colour"`}},
		{"a section as a value", "log: debug\n", nil, []string{"c.yaml", `"log"`}},
		{"a value as a section", "node-id:\n  a: 1\n", nil, []string{"c.yaml", `"node-id.a"`}},
		{"a fraction", "node-id: 1.7\n", nil, []string{"c.yaml: node-id", `"1.7"`, "whole number"}},
		{"a negative node", "node-id: -1\n", nil, []string{"c.yaml: node-id", `"-1"`}},
		{"a number as text", "cluster-id: 007\n", nil, []string{"c.yaml: cluster-id", "quotes"}},
		{"a list as text", "data-dir: [a, b]\n", nil, []string{"c.yaml: data-dir"}},
		{"a number as a switch", "insecure: 7\n", nil, []string{"c.yaml: insecure", "true or false"}},
		{"no unit", "raft:\n  heartbeat: 100\n", nil, []string{"c.yaml: raft.heartbeat", `"100"`, "100ms"}},
		{"node 0", "", []string{"--node-id=0"}, []string{"node-id 0", "--node-id"}},
		{"no data directory", "", []string{"--data-dir="}, []string{"--data-dir"}},
		{"no cluster id", "", []string{"--cluster-id="}, []string{"--cluster-id"}},
		{"too many workers", "workers: 65\n", nil, []string{"workers 65", "64"}},
		{"less than no workers", "", []string{"--workers=-1"}, []string{"workers -1"}},
		{"a certificate without key", "tls:\n  cert: c\n", nil, []string{"tls.cert", "tls.key"}},
		{"authorities without certificate", "http-tls:\n  ca: c\n", nil, []string{"http-tls.cert", "http-tls.key"}},
		{"revocations without authority", "tls:\n  cert: c\n  key: k\n  crl: r\n", nil, []string{"tls.crl", "tls.ca"}},
		{"peers that prove nothing", "peer-tls:\n  cert: c\n  key: k\n", nil, []string{"peer-tls.ca"}},
		{"nobody may do anything", "", []string{"--auth-required", "--auth-super-users= , "}, []string{"auth.super-users", "administrator"}},
		{"no connections", "", []string{"--limits-connections=0"}, []string{"limits.connections 0", "1 to 1000000"}},
		{"TLS without rights beyond loopback", "", []string{"--listen=10.0.0.1:1", "--tls-cert=c", "--tls-key=k"}, []string{"10.0.0.1:1", "auth.required", "--insecure"}},
		{"no heartbeat", "", []string{"--raft-heartbeat=0s"}, []string{"raft.heartbeat 0s"}},
		{"slow heartbeat", "", []string{"--raft-heartbeat=334ms"}, []string{"334ms", "3 to 1000"}},
		{"fast heartbeat", "", []string{"--raft-heartbeat=999us"}, []string{"999µs", "3 to 1000"}},
		{"loud", "", []string{"--log-level=loud"}, []string{"log.level", `"loud"`, "debug, info, warn, error"}},
		{"log format", "", []string{"--log-format=xml"}, []string{"log.format", `"xml"`, "text, json, auto"}},
		{"a rack that can't be printed", "", []string{"--rack=a\nb"}, []string{"rack", "printable"}},
		{"a rack with too long a name", "", []string{"--rack=" + strings.Repeat("r", 250)}, []string{"rack", "249"}},
		{"no port", "", []string{"--listen=127.0.0.1"}, []string{"listen", "HOST:PORT"}},
		{"too high a port", "", []string{"--http-listen=127.0.0.1:65536"}, []string{"http-listen", "65535"}},
		{"not loopback", "", []string{"--peer-listen=10.0.0.1:7401"}, []string{"peer-listen 10.0.0.1:7401", "--insecure"}},
		{"a name that may be anything", "", []string{"--http-listen=example.org:1"}, []string{"http-listen", "--insecure"}},
		{"everywhere, and no address to tell", "", []string{"--insecure", "--listen=0.0.0.0:7400"}, []string{"listen 0.0.0.0:7400", "--advertise HOST:PORT"}},
		{"everywhere, and no address for peers", "", []string{"--insecure", "--peer-listen=[::]:7401"}, []string{"--advertise-peer HOST:PORT"}},
		{"everywhere is no address to tell", "", []string{"--advertise=0.0.0.0:1"}, []string{"advertise 0.0.0.0:1", "reach"}},
		{"an address to tell without a port", "", []string{"--advertise-peer=h"}, []string{"advertise-peer", "HOST:PORT"}},
		{"members without addresses", "", []string{"--initial-cluster=1,2"}, []string{"initial-cluster", `"1"`, "1=H:P"}},
		{"not a member", "", []string{"--initial-cluster=2=h:1,3=h:1"}, []string{"node 1", "1=HOST:PORT"}},
		{"twice a member", "", []string{"--initial-cluster=1=h:1,2=h:1,2=h:2"}, []string{"node 2 twice"}},
		{"member 0", "", []string{"--initial-cluster=0=h:1,1=h:1"}, []string{"node 0"}},
		{"a reserve that holds nothing", "", []string{"--limits-disk-reserve=1048575"}, []string{"limits.disk-reserve 1048575", "1 MiB"}},
		{"no file", "", []string{"--config=/nosuch/c.yaml", "--initial-cluster=9=h:1"}, []string{"/nosuch/c.yaml"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := c.args
			if c.file != "" {
				args = append([]string{"--config", write(t, c.file)}, args...)
			}
			_, err := load(t, args...)
			faults := faultsOf(err)
			if len(faults) != 1 {
				t.Fatalf("%d faults, want one: %v", len(faults), err)
			}
			for _, want := range c.says {
				if !strings.Contains(faults[0], want) {
					t.Errorf("%s: does not say %q", faults[0], want)
				}
			}
		})
	}
}

// Faults of the environment name the variable, and those of all sources come in one error.
func TestAllFaultsAtOnce(t *testing.T) {
	t.Setenv("LOGRAFT_WORKERS", "many")
	t.Setenv("LOGRAFT_ALLOW_TMPFS", "perhaps")
	file := write(t, "node-idd: 2\nraft:\n  heartbeat: 100\nlog:\n  colour: red\n")
	_, err := load(t, "--config", file, "--log-level=loud", "--initial-cluster=x", "--listen=0.0.0.0:1")
	faults := faultsOf(err)
	for _, want := range []string{"LOGRAFT_WORKERS", "LOGRAFT_ALLOW_TMPFS", `"node-idd"`, `"log.colour"`, "raft.heartbeat", "loud", "initial-cluster", "--insecure", "--advertise"} {
		if n := slices.IndexFunc(faults, func(f string) bool { return strings.Contains(f, want) }); n < 0 {
			t.Errorf("no fault says %q", want)
		}
	}
	if len(faults) != 9 {
		t.Errorf("%d faults, want 9:\n%v", len(faults), err)
	}
}

// What is right at its bounds is accepted.
func TestBounds(t *testing.T) {
	for _, args := range [][]string{
		{"--raft-heartbeat=333ms"}, {"--raft-heartbeat=1ms"}, {"--workers=64"}, {"--http-listen="}, {"--listen=localhost:0"}, {"--listen=[::1]:65535"},
		{"--insecure", "--listen=0.0.0.0:7400", "--advertise=h:1", "--peer-listen=:7401", "--advertise-peer=h:2"}, {"--insecure", "--listen=10.0.0.1:1"},
		{"--insecure", "--http-listen=0.0.0.0:7402"}, {"--limits-connections=1"}, {"--limits-disk-reserve=1048576"}, {"--limits-bytes-in-flight=1"}, {"--limits-connections-per-address=1000000"},
		{"--listen=10.0.0.1:1", "--tls-cert=c", "--tls-key=k", "--auth-required", "--auth-super-users= a, b"},
		{"--peer-listen=10.0.0.1:1", "--peer-tls-cert=c", "--peer-tls-key=k", "--peer-tls-ca=a"}, {"--http-listen=10.0.0.1:1", "--http-tls-cert=c", "--http-tls-key=k", "--http-tls-ca=a"}, {"--initial-cluster= 1=h:1, 2=h:2 "}, {"--node-id=18446744073709551615"},
	} {
		if _, err := load(t, args...); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// Without --initial-cluster the broker is alone, at the address that it tells others.
func TestMembers(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []Member
	}{
		{nil, []Member{{1, "127.0.0.1:7401"}}},
		{[]string{"--node-id=4", "--advertise-peer=h:9"}, []Member{{4, "h:9"}}},
		{[]string{"--node-id=2", "--initial-cluster=1=a:1, 2=b:2"}, []Member{{1, "a:1"}, {2, "b:2"}}},
	} {
		k, err := load(t, c.args...)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.Members(); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, %v, want %v", c.args, got, err, c.want)
		}
	}
}
