package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"lograft/client"
)

func (a *app) debugCommand() *cobra.Command {
	c := &cobra.Command{Use: "debug", Short: "Collect what helps to find a fault", Args: noArgs, Example: "  broker debug bundle",
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	a.clientFlags(c)
	c.AddCommand(a.debugBundle())
	return c
}

func (a *app) debugBundle() *cobra.Command {
	var out string
	var profile time.Duration
	c := &cobra.Command{Use: "bundle", Short: "Write metrics, profiles, health and metadata of every broker into one archive", Args: noArgs,
		Example: "  broker debug bundle\n  broker debug bundle -o /tmp/b.tar.gz --cpu 30s",
		Long:    "Holds no records, keys or passwords: names and settings of topics, addresses of brokers, metrics, goroutines and profiles. What can't be had is told in errors.txt.",
		RunE: func(c *cobra.Command, _ []string) error {
			if profile < 0 || profile > 5*time.Minute {
				return usagef("--cpu %v: want 0 to 5m", profile)
			}
			if out == "" {
				out = "lograft-debug-" + time.Now().UTC().Format("20060102-150405") + ".tar.gz"
			}
			return a.with(func(k *client.Client) error { return a.bundle(c.Context(), k, out, profile) })
		}}
	c.Flags().StringVarP(&out, "output", "o", "", "file to write (default: lograft-debug-TIME.tar.gz)")
	c.Flags().DurationVar(&profile, "cpu", 5*time.Second, "length of the CPU profiles; 0: none")
	return c
}

// bundle is an archive while it grows. Its parts come from many goroutines.
type bundle struct {
	mu     sync.Mutex
	tar    *tar.Writer
	at     time.Time
	parts  int
	errors strings.Builder
	failed error // of writing
}

func (b *bundle) add(name string, data []byte, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		fmt.Fprintf(&b.errors, "%s: %v\n", name, err)
		return
	}
	if b.failed != nil {
		return
	}
	if b.failed = b.tar.WriteHeader(&tar.Header{Name: "lograft-debug/" + name, Mode: 0o644, Size: int64(len(data)), ModTime: b.at, Typeflag: tar.TypeReg}); b.failed == nil {
		_, b.failed = b.tar.Write(data)
	}
	b.parts++
}

// addJSON adds a value, or why there is none.
func (b *bundle) addJSON(name string, v any, err error) {
	var text []byte
	if err == nil {
		text, err = marshal(v)
	}
	b.add(name, append(text, '\n'), err)
}

// bundle writes the archive. One that holds nothing of any broker is no bundle.
func (a *app) bundle(ctx context.Context, k *client.Client, name string, profile time.Duration) (err error) {
	d, err := k.DescribeCluster(ctx)
	if err != nil {
		return err
	}
	secure, err := client.LoadTLS(a.tls)
	if err != nil {
		return usageError{err}
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("-o %s: %w", name, err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(name)
		}
	}()
	if err := a.writeBundle(ctx, f, k, &d, secure, profile); err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.Out, name)
	return err
}

func (a *app) writeBundle(ctx context.Context, w io.Writer, k *client.Client, d *client.Cluster, secure *tls.Config, profile time.Duration) error {
	z := gzip.NewWriter(w)
	b := &bundle{tar: tar.NewWriter(z), at: time.Now()}
	b.addJSON("about.json", map[string]string{"version": a.hooks.Version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH, "time": b.at.UTC().Format(time.RFC3339)}, nil)
	b.addJSON("cluster.json", d, nil)
	h, err := a.lookHealth(ctx, k)
	b.addJSON("health.json", h, err)
	var all sync.WaitGroup
	for _, x := range d.Brokers {
		all.Go(func() { collectBroker(ctx, b, k, &x, secure, profile) })
	}
	all.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if b.errors.Len() > 0 {
		fmt.Fprint(a.Err, "not all could be had, errors.txt tells:\n", b.errors.String())
		b.add("errors.txt", []byte(b.errors.String()), nil)
	}
	return errors.Join(b.failed, b.tar.Close(), z.Close())
}

// collectBroker adds what one broker tells.
func collectBroker(ctx context.Context, b *bundle, k *client.Client, x *client.Broker, secure *tls.Config, profile time.Duration) {
	dir := fmt.Sprintf("node-%d/", x.Node)
	states, err := k.DescribeReplicas(ctx, x.ClientAddr, "")
	b.addJSON(dir+"replicas.json", states, err)
	type page struct{ name, path string }
	pages := []page{{"metrics.txt", "/metrics"}, {"version.json", "/version"}, {"livez.txt", "/livez"}, {"readyz.txt", "/readyz"},
		{"goroutines.txt", "/debug/pprof/goroutine?debug=2"}, {"heap.pprof", "/debug/pprof/heap"}, {"allocs.pprof", "/debug/pprof/allocs"}}
	if s := int(profile.Seconds()); s > 0 {
		pages = append(pages, page{"cpu.pprof", fmt.Sprintf("/debug/pprof/profile?seconds=%d", s)}, page{"block.pprof", fmt.Sprintf("/debug/pprof/block?seconds=%d", s)})
	}
	for _, p := range pages {
		text, err := getHTTP(ctx, x.HTTPAddr, p.path, secure, httpTimeout+profile)
		b.add(dir+p.name, bytes.Clone(text), err)
	}
}
