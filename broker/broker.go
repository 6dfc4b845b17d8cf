// Package broker builds a whole broker from its parts and runs it: data directory, journal, replicas, engine, mesh and services.
// Build order is stop order reversed: rpc drains first (leadership moved away), then engine, logs, mesh (architecture §5).
//
// boot.go, controller.go and groups.go are deterministic and shared with broker/sim; broker.go, node.go, host.go and birth.go adapt
// them to goroutines, sockets and clocks.
package broker

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"lograft/api/codec"
	"lograft/broker/cluster"
	"lograft/broker/datadir"
	"lograft/broker/engine"
	"lograft/broker/partition"
	"lograft/broker/transport"
	"lograft/segment/journal"
	"lograft/segment/vfs"
)

// Timing and bounds of a broker's own doings.
const (
	bootRenewal      = 10 * time.Minute // architecture D11
	clockEvery       = 500 * time.Millisecond
	registerEvery    = time.Second
	drainTimeout     = 3 * time.Second
	stopTimeout      = 2 * time.Second
	coldReaders      = 4
	readBytesIdle    = 32 << 20 // memory of reads that waits for the next ones
	requestBytesMax  = 16 << 20
	streamsPerConn   = 1000
	clientWindow     = 4 << 20
	clientConnWindow = 16 << 20
	handshakeTimeout = 10 * time.Second
	headerBytesMax   = 16 << 10
	elementsMax      = 1 << 17 // of one message's lists
	clientIdleMax    = 10 * time.Minute
)

// Broker is one broker. New starts nothing; Run blocks and its caller owns it.
type Broker struct {
	opts    Options
	running atomic.Pointer[node]
}

// New checks the options and reports every fault at once.
func New(o Options) (*Broker, error) {
	o, err := o.complete(runtime.GOMAXPROCS(0))
	if err != nil {
		return nil, err
	}
	return &Broker{opts: o}, nil
}

// listeners are all ports of a broker. They are taken before anything is made on disk.
type listeners struct {
	client, peer, http net.Listener
}

func listenOn(flag, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s %s is in use: stop what listens there, or choose another address", flag, addr)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", flag, addr, err)
	}
	return l, nil
}

func (b *Broker) listen() (ls listeners, err error) {
	for _, x := range []struct {
		flag, addr string
		to         *net.Listener
	}{{"--listen", b.opts.Listen, &ls.client}, {"--peer-listen", b.opts.PeerListen, &ls.peer}, {"--http-listen", b.opts.HTTPListen, &ls.http}} {
		if x.addr == "" {
			continue
		}
		l, e := listenOn(x.flag, x.addr)
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		*x.to = l
	}
	if err != nil {
		ls.close()
	}
	return ls, err
}

func (ls *listeners) close() {
	for _, l := range []net.Listener{ls.client, ls.peer, ls.http} {
		if l != nil {
			_ = l.Close() // it may be closed already by who served it
		}
	}
}

// Run starts the broker and blocks until ctx is done and everything is stopped, or something fails that the broker can't go on
// without. Nothing is left half-made by an error before the cluster is born.
func (b *Broker) Run(ctx context.Context) (err error) {
	access, err := openAccess(b.opts)
	if err != nil {
		return err
	}
	ls, err := b.listen()
	if err != nil {
		return err
	}
	defer ls.close()
	dir, err := datadir.Open(datadir.Options{Dir: b.opts.DataDir, ClusterName: b.opts.ClusterName, NodeID: b.opts.NodeID,
		AllowTmpfs: b.opts.AllowTmpfs, Random: func(p []byte) { _, _ = crand.Read(p) }})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	j, err := journal.OpenWAL(dir.Path() + "/journal")
	if err != nil {
		return fmt.Errorf("journal of %s: %w", dir.Path(), err)
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	loaded, err := j.Load()
	if err != nil {
		return fmt.Errorf("journal of %s: %w", dir.Path(), err)
	}
	n := newNode(b.opts, access, dir, j, ls)
	return b.serve(ctx, n, &loaded)
}

// serve runs the listeners that answer before the broker has joined, waits for the cluster's birth, then runs the rest.
func (b *Broker) serve(ctx context.Context, n *node, loaded *journal.Loaded) error {
	early, stopEarly := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEarly()
	g, gctx := errgroup.WithContext(early)
	g.Go(func() error { return n.mesh.Serve(n.limited.peer) })
	if n.ls.http != nil {
		srv := b.httpServer(n)
		g.Go(func() error {
			if err := srv.Serve(n.access.httpListener(n.limited.http)); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("--http-listen %s: %w", n.ls.http.Addr(), err)
			}
			return nil
		})
		defer srv.Close()
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(gctx, stop)() // a listener that fails ends the broker
	err := n.join(run, loaded)
	if err == nil {
		err = n.boot()
	}
	if err == nil {
		b.running.Store(n) // only now: the HTTP handlers read what boot has set
		err = n.run(run)
	}
	n.mesh.Stop()
	stopEarly()
	if n.ls.http != nil {
		_ = n.ls.http.Close()
	}
	if e := g.Wait(); e != nil && !errors.Is(e, net.ErrClosed) {
		err = errors.Join(err, e)
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil // asked to stop
	}
	return err
}

// run runs everything that boot has built until ctx is done.
func (n *node) run(ctx context.Context) error {
	// The parts stop one after the other: each group of goroutines has its own context.
	engineCtx, stopEngine := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEngine()
	meshCtx, stopMesh := context.WithCancel(context.WithoutCancel(ctx))
	defer stopMesh()
	var engines, others errgroup.Group
	engines.Go(func() error {
		err := n.engine.Run(engineCtx)
		if err != nil {
			n.fail(err)
		}
		return err
	})
	others.Go(func() error { return n.mesh.Run(meshCtx) })
	others.Go(func() error { n.control(meshCtx); return nil })
	others.Go(func() error { n.register(meshCtx); return nil })
	others.Go(func() error { n.tellClock(meshCtx); return nil })
	others.Go(func() error { n.watchSpace(meshCtx); return nil })
	others.Go(func() error { n.watchCertificates(meshCtx); return nil })
	others.Go(func() error {
		err := n.renewBoot(meshCtx)
		if err != nil {
			n.fail(err)
		}
		return err
	})
	srv, told := n.clientServer()
	others.Go(func() error { n.tellHealth(meshCtx, told, srv); return nil })
	others.Go(func() error {
		if err := srv.Serve(n.limited.client); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			err = fmt.Errorf("--listen %s: %w", n.ls.client.Addr(), err)
			n.fail(err)
			return err
		}
		return nil
	})
	n.log.Info("broker is up", "client", n.ls.client.Addr().String(), "peer", n.ls.peer.Addr().String(), "groups", len(n.parts.Replicas))

	var err error
	select {
	case <-ctx.Done():
		n.drain()
	case err = <-n.failed:
	}
	stopServer(srv)
	stopEngine()
	engineErr := engines.Wait()
	stopMesh()
	if e := others.Wait(); err == nil {
		err = e
	}
	if err == nil {
		err = engineErr
	}
	if errors.Is(err, ErrRemoved) {
		n.log.Error("broker stopped: the other brokers took it out of the cluster", "err", err)
	} else {
		n.log.Info("broker stopped", "err", err)
	}
	return err
}

// clientServer is the gRPC server of the client API.
func (n *node) clientServer() (*grpc.Server, *health.Server) {
	srv := grpc.NewServer(grpc.Creds(n.access.clientCredentials()), grpc.ConnectionTimeout(handshakeTimeout), grpc.MaxHeaderListSize(headerBytesMax),
		grpc.StreamInterceptor(n.guard.Stream),
		grpc.ForceServerCodecV2(codec.Codec{ElementsMax: elementsMax, Malformed: n.services.Malformed}), grpc.MaxRecvMsgSize(requestBytesMax), grpc.MaxConcurrentStreams(streamsPerConn),
		grpc.InitialWindowSize(clientWindow), grpc.InitialConnWindowSize(clientConnWindow),
		grpc.ReadBufferSize(64<<10), grpc.WriteBufferSize(64<<10),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, MaxConnectionIdle: clientIdleMax}))
	to := n.guard.Before(srv)
	n.services.Register(to)
	h := health.NewServer()
	h.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING) // tellHealth says more
	healthpb.RegisterHealthServer(to, h)
	reflection.Register(to)
	return srv, h
}

// stopServer lets calls end for a short while, then ends them.
func stopServer(srv *grpc.Server) {
	done := make(chan struct{})
	go func() { // ends when Stop or the last call does
		srv.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(stopTimeout):
		srv.Stop()
		<-done
	}
}

// drain moves leadership away so that clients find new leaders before this broker is gone.
func (n *node) drain() {
	n.draining.Store(true)
	n.log.Info("draining: leadership moves away")
	end := time.Now().Add(drainTimeout)
	for len(n.parts.View().Seats()) > 1 && time.Now().Before(end) {
		n.engine.PostAll(engine.Event{Drain: true})
		time.Sleep(20 * time.Millisecond)
		if _, mine, _ := n.dir.led(); mine == 0 {
			return
		}
	}
}

func randomID() (id [16]byte) {
	_, _ = crand.Read(id[:])
	return id
}

func randomUint64() uint64 {
	id := randomID()
	return binary.LittleEndian.Uint64(id[:])
}

// heartbeatTicks is how many ticks lie between two heartbeats of a group: two, if that leaves five within the shortest election timeout.
// Heartbeats are all that a group costs when nothing happens in it.
func heartbeatTicks(electionTicks int) int {
	if electionTicks >= 10 {
		return 2
	}
	return 1
}

// bootOptions are Boot's for real files.
func (n *node) bootOptions() BootOptions {
	ticks := int(n.opts.ElectionTimeout / n.opts.Heartbeat)
	prefer := partition.PreferWindowsDefault
	if n.opts.KeepLeaders {
		prefer = 0
	}
	return BootOptions{Node: n.opts.NodeID, Dir: cluster.ID(n.data.Identity().DirID), FS: countingFS{vfs.OS(), &n.disk}, DataDir: n.data.Path(), Journal: n.journal, Seed: randomUint64(),
		ElectionTicks: ticks, HeartbeatTicks: heartbeatTicks(ticks), TailCacheBytes: n.opts.TailCacheBytes, Each: onEveryCore, PreferWindows: prefer,
		OnView: func() { n.controls.Put(controlEvent{view: true}) }}
}

// onEveryCore is BootOptions.Each: opening a log is half computing, half waiting for the disk.
func onEveryCore(n int, do func(i int)) {
	g := new(errgroup.Group)
	g.SetLimit(2 * runtime.GOMAXPROCS(0))
	for i := range n {
		g.Go(func() error { do(i); return nil })
	}
	_ = g.Wait() // do returns no error
}

var _ transport.Handler = (*node)(nil)
