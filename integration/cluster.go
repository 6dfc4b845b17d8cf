package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// pollEvery is how often a condition of another process is looked at.
const pollEvery = 20 * time.Millisecond

// Options say what cluster to make.
type Options struct {
	Bin   Binaries
	Dir   string // an existing folder of ours; each broker gets node-N and node-N.log in it
	Nodes int    // 1 to 9
	// First is how many of them the cluster is born with, 0: all. Start without names starts these; the others know themselves and the
	// first two.
	First int
	// Serve is added to every `broker serve`.
	Serve []string
	// Links puts a Link between every two brokers.
	Links bool
	// ClientLinks puts a Link before every broker's clients, which know no other address of it.
	ClientLinks bool
	// Secure, if not nil, says that nobody gets in who does not prove who he is.
	Secure *Secure
	// DataDir says where a broker's data is; nil: in Dir.
	DataDir func(id int) (string, error)
}

// Cluster is a set of `broker serve` processes on loopback. One goroutine owns it.
type Cluster struct {
	opts  Options
	nodes []*Node
	links map[[2]int]*Link // by who dials whom
	front map[int]*Link    // what clients dial, by broker; nil: the broker itself
}

// Node is one broker of a cluster.
type Node struct {
	ID      int
	Client  string // host:port
	Peer    string
	HTTP    string
	DataDir string
	LogFile string

	cluster *Cluster
	proc    *process // of the last start; nil before the first
}

// New chooses ports and makes the data directories. It starts nothing.
func New(o Options) (*Cluster, error) {
	if o.Nodes < 1 || o.Nodes > 9 {
		return nil, fmt.Errorf("%d nodes: 1 to 9 are possible", o.Nodes)
	}
	if err := o.Bin.Check(); err != nil {
		return nil, err
	}
	ports, err := FreePorts(3 * o.Nodes)
	if err != nil {
		return nil, err
	}
	if o.First == 0 {
		o.First = o.Nodes
	}
	c := &Cluster{opts: o}
	for i := range o.Nodes {
		n := &Node{
			ID: i + 1, Client: ports[3*i], Peer: ports[3*i+1], HTTP: ports[3*i+2],
			DataDir: filepath.Join(o.Dir, fmt.Sprintf("node-%d", i+1)),
			LogFile: filepath.Join(o.Dir, fmt.Sprintf("node-%d.log", i+1)),
			cluster: c,
		}
		if o.DataDir != nil {
			if n.DataDir, err = o.DataDir(n.ID); err != nil {
				return nil, err
			}
		} else if err := os.MkdirAll(n.DataDir, 0o755); err != nil {
			return nil, err
		}
		c.nodes = append(c.nodes, n)
	}
	if o.Secure != nil {
		if err := c.makeCerts(context.Background(), true, append([]string{SuperUser}, o.Secure.Clients...)...); err != nil {
			return nil, err
		}
	}
	if o.Links {
		if err := c.makeLinks(); err != nil {
			return c, err
		}
	}
	if o.ClientLinks {
		c.front = map[int]*Link{}
		for _, n := range c.nodes {
			if c.front[n.ID], err = NewLink(n.Client); err != nil {
				return c, err
			}
		}
	}
	return c, nil
}

func (c *Cluster) makeLinks() error {
	c.links = map[[2]int]*Link{}
	for _, a := range c.nodes {
		for _, b := range c.nodes {
			if a == b {
				continue
			}
			l, err := NewLink(b.Peer)
			if err != nil {
				return err
			}
			c.links[[2]int{a.ID, b.ID}] = l
		}
	}
	return nil
}

// Link is what one broker dials to reach another.
func (c *Cluster) Link(from, to int) *Link { return c.links[[2]int{from, to}] }

// Around are all links of a broker, those that it dials and those that dial it.
func (c *Cluster) Around(id int) (links []*Link) {
	for _, n := range c.Others(id) {
		links = append(links, c.Link(id, n.ID), c.Link(n.ID, id))
	}
	return links
}

// FreePorts returns count different loopback addresses on which nothing listens. They lie below the range from which Linux and
// macOS take the ports of outgoing connections, so that a broker that is down does not find its port taken when it comes back.
func FreePorts(count int) ([]string, error) {
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	var addrs []string
	for tries := 0; len(addrs) < count; tries++ {
		if tries > 200+10*count {
			return nil, fmt.Errorf("found %d of %d free ports between 10000 and 30000 on 127.0.0.1", len(addrs), count)
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000)))
		if err != nil {
			continue
		}
		held = append(held, l)
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// Node is the broker with this id, 1 to Options.Nodes.
func (c *Cluster) Node(id int) *Node { return c.nodes[id-1] }

// Nodes are all brokers by id.
func (c *Cluster) Nodes() []*Node { return c.nodes }

// Others are all brokers but the given ones.
func (c *Cluster) Others(ids ...int) []*Node {
	var others []*Node
	for _, n := range c.nodes {
		if !slices.Contains(ids, n.ID) {
			others = append(others, n)
		}
	}
	return others
}

// Brokers is the list of client addresses as -b and LOGRAFT_BROKERS take it.
func (c *Cluster) Brokers() string {
	var addrs []string
	for _, n := range c.nodes {
		if l := c.front[n.ID]; l != nil {
			addrs = append(addrs, l.Address())
			continue
		}
		addrs = append(addrs, n.Client)
	}
	return strings.Join(addrs, ",")
}

// Start starts the given brokers, all first ones if none is given. It does not wait for them.
func (c *Cluster) Start(nodes ...*Node) error {
	if len(nodes) == 0 {
		nodes = c.nodes[:c.opts.First]
	}
	for _, n := range nodes {
		if err := n.Start(); err != nil {
			return err
		}
	}
	return nil
}

// WaitReady returns when the given brokers, all first ones if none is given, say that they have joined and caught up.
func (c *Cluster) WaitReady(ctx context.Context, nodes ...*Node) error {
	if len(nodes) == 0 {
		nodes = c.nodes[:c.opts.First]
	}
	for _, n := range nodes {
		if err := n.waitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends the given brokers, all if none is given, with SIGTERM as an operator would: all are told first, then all are waited
// for. Each must exit with 0.
func (c *Cluster) Stop(ctx context.Context, nodes ...*Node) error {
	if len(nodes) == 0 {
		nodes = c.nodes
	}
	var errs []error
	for _, n := range nodes {
		if n.Running() {
			errs = append(errs, n.proc.signal(syscall.SIGTERM))
		}
	}
	for _, n := range nodes {
		if n.proc == nil {
			continue
		}
		code, err := n.proc.wait(ctx)
		if err == nil && code != 0 {
			err = fmt.Errorf("exit code %d, want 0; its log ends with:\n%s", code, n.LogTail())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("node %d after SIGTERM: %w", n.ID, err))
		}
	}
	return errors.Join(errs...)
}

// Close kills whatever still runs, paused brokers too. It leaves the files alone.
func (c *Cluster) Close() {
	for _, n := range c.nodes {
		if n.proc != nil {
			n.proc.kill()
		}
	}
	for _, l := range c.links {
		l.Close()
	}
	for _, l := range c.front {
		l.Close()
	}
}

// serveArgs is the command line of `broker serve`.
func (n *Node) serveArgs() []string {
	var initial []string
	for _, peer := range n.cluster.nodes {
		known := n.cluster.opts.First
		if n.ID > known {
			known = 2
		}
		if peer.ID > known && peer != n {
			continue
		}
		address := peer.Peer
		if l := n.cluster.Link(n.ID, peer.ID); l != nil {
			address = l.Address()
		}
		initial = append(initial, fmt.Sprintf("%d=%s", peer.ID, address))
	}
	args := []string{
		"serve", "--node-id", fmt.Sprint(n.ID), "--data-dir", n.DataDir,
		"--listen", n.Client, "--peer-listen", n.Peer, "--http-listen", n.HTTP,
		"--initial-cluster", strings.Join(initial, ","), "--cluster-id", clusterID,
	}
	if l := n.cluster.front[n.ID]; l != nil {
		args = append(args, "--advertise", l.Address())
	}
	if onTmpfs(n.DataDir) {
		args = append(args, "--allow-tmpfs")
	}
	if n.cluster.opts.Secure != nil {
		args = append(args, n.secureArgs()...)
	}
	return append(args, n.cluster.opts.Serve...)
}

// Start starts the broker; its output is appended to LogFile.
func (n *Node) Start() error {
	if n.Running() {
		return fmt.Errorf("node %d runs already", n.ID)
	}
	log, err := os.OpenFile(n.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	n.proc, err = startProcess(n.cluster.opts.Bin.Path("broker"), n.serveArgs(), cleanEnv(), log)
	return err
}

// Running reports whether the broker's process is there (it may be paused).
func (n *Node) Running() bool { return n.proc != nil && !n.proc.ended() }

// Pid is the process id of the last start.
func (n *Node) Pid() int { return n.proc.pid() }

// Kill ends the broker with SIGKILL and waits until it is gone.
func (n *Node) Kill() error {
	if !n.Running() {
		return fmt.Errorf("node %d does not run", n.ID)
	}
	n.proc.kill()
	return nil
}

// Pause stops the broker's process with SIGSTOP; its sockets stay open.
func (n *Node) Pause() error { return n.proc.signal(syscall.SIGSTOP) }

// Resume lets a paused broker go on with SIGCONT.
func (n *Node) Resume() error { return n.proc.signal(syscall.SIGCONT) }

// LogTail is the end of the broker's output.
func (n *Node) LogTail() string { return tail(n.LogFile, 4096) }

func (n *Node) waitReady(ctx context.Context) error {
	last := errors.New("not asked yet")
	err := Until(ctx, func() (bool, error) {
		if !n.Running() {
			return false, fmt.Errorf("the process has ended; its log ends with:\n%s", n.LogTail())
		}
		last = n.Ready(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("node %d is not ready: %w (last answer: %v)", n.ID, err, last)
	}
	return nil
}

// Ready asks the broker's /readyz once; nil means that it has joined, caught up and is not draining.
func (n *Node) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	// A transport of its own: no idle connection, and so no goroutine, outlives the call.
	transport, scheme := &http.Transport{DisableKeepAlives: true}, "http://"
	if n.cluster != nil && n.cluster.opts.Secure != nil {
		var err error
		if transport.TLSClientConfig, err = n.cluster.TLS(""); err != nil {
			return err
		}
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+n.HTTP+"/readyz", nil)
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1024))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	return nil
}

// Until looks at a condition again and again until it holds, fails, or ctx ends.
func Until(ctx context.Context, condition func() (bool, error)) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		ok, err := condition()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// cleanEnv is our environment without the settings of a developer's own broker.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "LOGRAFT_") })
}
