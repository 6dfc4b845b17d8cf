package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// Handler takes what comes from peers. Its methods are called by many goroutines and must not block for long.
type Handler interface {
	// Greet gives this broker's own greeting.
	Greet() Hello
	// Check decides whether to talk to the broker that greets so; the error is shown at both ends.
	Check(peer Hello) error
	// Seated says whether a broker that Check took may still speak for its node.
	Seated(peer Hello) error
	// Join registers the broker that greets so with a directory that is new to the cluster, or says where that can be done.
	Join(ctx context.Context, peer Hello) (Joined, error)
	// Frame takes a frame's messages; Decode's rules of ownership hold.
	Frame(from uint64, msgs []GroupMessage)
	// Clock takes what a peer's clock shows, ms, and whether its disk is at its reserve.
	Clock(from uint64, wall int64, full bool)
	// Dropped names messages to node `to` that are not sent.
	Dropped(to uint64, refs []Ref)
	// Peer says that frames to a broker pass now, or no longer.
	Peer(node uint64, up bool)
}

// Credentials proves who is at the ends of a link.
type Credentials interface {
	// Listen is for the streams of others; Dial is for a stream to a node, 0: to any node of the cluster.
	Listen() credentials.TransportCredentials
	Dial(node uint64) credentials.TransportCredentials
	// Prove checks that the caller of a stream is the node that it says it is.
	Prove(stream context.Context, node uint64) error
}

// Options builds a Mesh.
type Options struct {
	Node        uint64
	Peers       map[uint64]string // node id -> peer address of the other brokers, until SetPeers
	Handler     Handler
	Logger      *slog.Logger
	Credentials Credentials // nil: nobody proves anything (loopback, --insecure)
}

// listenCredentials and dialCredentials are in the clear where nobody proves anything.
func listenCredentials(c Credentials) credentials.TransportCredentials {
	if c == nil {
		return insecure.NewCredentials()
	}
	return c.Listen()
}

func dialCredentials(c Credentials, node uint64) credentials.TransportCredentials {
	if c == nil {
		return insecure.NewCredentials()
	}
	return c.Dial(node)
}

// Waits between two tries to reach a peer; each is drawn from [half, full) so that brokers don't try in step.
const (
	retryMin         = 50 * time.Millisecond
	retryMax         = 2 * time.Second
	startQuiet       = 3 * time.Second // brokers that are started together wait for each other: no news
	handshakeTimeout = 3 * time.Second
	joinTimeout      = 20 * time.Second
	windowBytes      = 8 << 20
	headerBytesMax   = 16 << 10
	idleMax          = 30 * time.Second // of a connection without a stream
)

// Mesh is this broker's end of the streams to and from all others. New starts nothing.
type Mesh struct {
	opts Options
	srv  *grpc.Server
	// refusals are written now and then: strangers must not fill a log.
	refusals rate.Sometimes
	// links are replaced as a whole by SetPeers, under mu; Send and the like read them without it.
	links atomic.Pointer[map[uint64]*peer]

	mu      sync.Mutex
	running context.Context // of Run; nil: before it, or when it ends
	workers sync.WaitGroup  // goroutines of links
	inbound map[*inbound]struct{}
}

// inbound is a stream that a peer opened.
type inbound struct {
	peer    Hello
	refused atomic.Bool // by Recheck: its next message is not taken
}

// peer is the way to one broker.
type peer struct {
	links [classes]link
	stop  context.CancelFunc // nil: not started
}

// link is the way to one peer in one class: a queue and the goroutine that empties it.
type link struct {
	to    uint64
	addr  string
	class Class

	mu    sync.Mutex
	peer  Hello                   // who greeted on the stream that is up
	end   context.CancelCauseFunc // of the stream; nil: none is up
	queue queue
	clock []byte // newest clock message to send, nil if sent
	wake  chan struct{}
	again chan struct{} // holds one if the peer has opened a stream to us while none was up to it: it can be reached
	retry retry         // owned by keep
	stats LinkStats
}

func newPeer(node uint64, addr string) *peer {
	p := &peer{}
	for c := range p.links {
		l := &p.links[c]
		l.to, l.addr, l.class, l.wake, l.again = node, addr, Class(c), make(chan struct{}, 1), make(chan struct{}, 1)
		l.retry.wait = retryMin
	}
	return p
}

// New makes a mesh.
func New(o Options) *Mesh {
	m := &Mesh{opts: o, inbound: map[*inbound]struct{}{}, refusals: rate.Sometimes{First: 10, Interval: time.Second}}
	m.links.Store(&map[uint64]*peer{})
	m.SetPeers(o.Peers)
	m.srv = grpc.NewServer(grpc.Creds(listenCredentials(o.Credentials)), grpc.ConnectionTimeout(handshakeTimeout), grpc.MaxHeaderListSize(headerBytesMax),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, MaxConnectionIdle: idleMax}), grpc.ForceServerCodecV2(rawCodec{}), grpc.MaxRecvMsgSize(FrameBytesMax),
		grpc.InitialWindowSize(windowBytes), grpc.InitialConnWindowSize(windowBytes), grpc.MaxConcurrentStreams(64),
		grpc.ReadBufferSize(64<<10), grpc.WriteBufferSize(64<<10),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}))
	m.srv.RegisterService(serviceDesc(m), m)
	return m
}

// Send hands a frame to the stream of its class. It never blocks: what can't be queued is reported to Handler.Dropped.
func (m *Mesh) Send(to uint64, class Class, f Frame) {
	p := (*m.links.Load())[to]
	if p == nil {
		m.opts.Handler.Dropped(to, f.Refs)
		return
	}
	l := &p.links[class]
	l.mu.Lock()
	dropped := l.queue.put(f)
	l.stats.sent(&f, len(dropped))
	l.mu.Unlock()
	l.notify()
	if len(dropped) > 0 {
		m.opts.Handler.Dropped(to, dropped)
	}
}

// SendClock tells every peer what this broker's clock shows, ms, and whether its disk is at its reserve.
func (m *Mesh) SendClock(wall int64, full bool) {
	for _, p := range *m.links.Load() {
		l := &p.links[Control]
		l.mu.Lock()
		l.clock = encodeClock(wall, full)
		l.mu.Unlock()
		l.notify()
	}
}

func (l *link) notify() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Serve takes streams of peers until Stop.
func (m *Mesh) Serve(lis net.Listener) error {
	if err := m.srv.Serve(lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("peer listener %s: %w", lis.Addr(), err)
	}
	return nil
}

// Stop ends Serve at once.
func (m *Mesh) Stop() { m.srv.Stop() }

// SetPeers says who the other brokers are and where. Streams to those that are gone or have moved end; what waits for them is dropped
// and named. Others are left alone.
func (m *Mesh) SetPeers(peers map[uint64]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := *m.links.Load()
	next := make(map[uint64]*peer, len(peers))
	for node, addr := range peers {
		p := old[node]
		if p == nil || p.links[0].addr != addr {
			p = newPeer(node, addr)
		}
		next[node] = p
	}
	m.links.Store(&next)
	for node, p := range old {
		if next[node] != p && p.stop != nil {
			p.stop()
		}
	}
	m.start()
}

// start starts the links that have no goroutines yet, if Run is there to wait for them. mu is held.
func (m *Mesh) start() {
	if m.running == nil {
		return
	}
	for _, p := range *m.links.Load() {
		if p.stop != nil {
			continue
		}
		ctx, cancel := context.WithCancel(m.running)
		p.stop = cancel
		for c := range p.links {
			m.workers.Go(func() { m.keep(ctx, &p.links[c]) })
		}
	}
}

// Run keeps a stream per peer and class until ctx is done.
func (m *Mesh) Run(ctx context.Context) error {
	m.mu.Lock()
	m.running = ctx
	m.start()
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	m.running = nil
	for _, p := range *m.links.Load() {
		if p.stop != nil {
			p.stop()
		}
	}
	m.mu.Unlock()
	m.workers.Wait()
	return nil
}

func (m *Mesh) admit(in *inbound) {
	in.peer.Seats = nil
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inbound[in] = struct{}{}
}

func (m *Mesh) forget(in *inbound) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.inbound, in)
}

// Recheck asks Handler.Seated about everyone who is connected, because what it knows has changed, and ends the streams of those that it
// refuses now.
func (m *Mesh) Recheck() {
	m.mu.Lock()
	var ins []*inbound
	for in := range m.inbound {
		ins = append(ins, in)
	}
	m.mu.Unlock()
	for _, in := range ins {
		if m.opts.Handler.Seated(in.peer) != nil {
			in.refused.Store(true)
		}
	}
	for _, p := range *m.links.Load() {
		for c := range p.links {
			l := &p.links[c]
			l.mu.Lock()
			peer, end := l.peer, l.end
			l.mu.Unlock()
			if end == nil {
				continue
			}
			if err := m.opts.Handler.Seated(peer); err != nil {
				end(err)
			}
		}
	}
}

// Up reports whether frames of the control class pass to a broker now.
func (m *Mesh) Up(node uint64) bool {
	p := (*m.links.Load())[node]
	if p == nil {
		return false
	}
	l := &p.links[Control]
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queue.up
}

// keep connects a link again and again.
func (m *Mesh) keep(ctx context.Context, l *link) {
	said := ""
	began := time.Now()
	for ctx.Err() == nil {
		tried := time.Now()
		err := m.stream(ctx, l)
		l.mu.Lock()
		was, dropped := l.queue.up, l.queue.close()
		l.end = nil
		l.stats.Dropped += uint64(len(dropped))
		l.mu.Unlock()
		if len(dropped) > 0 {
			m.opts.Handler.Dropped(l.to, dropped)
		}
		if ctx.Err() != nil {
			return
		}
		if was && l.class == Control {
			m.opts.Handler.Peer(l.to, false)
		}
		if text := status.Convert(err).Message(); text != said && l.class == Control && time.Since(began) > startQuiet {
			said = text
			m.opts.Logger.Warn("peer is not connected", "peer", l.to, "addr", l.addr, "err", text)
		}
		if time.Since(tried) > retryMax {
			l.retry.wait, said = retryMin, ""
		}
		l.retry.pause(ctx, l.again)
	}
}

// retry is how long a link waits before it tries its peer again.
type retry struct {
	wait  time.Duration // the next one, drawn from [half, full)
	woken time.Time     // when a call of the peer last ended one
}

// pause waits before the next try, no longer than until the peer comes to us: a broker that was restarted is reached as soon as it reaches
// others, not when their waits for it, long by then, are over. That happens once in retryMax and never before the shortest wait: else two
// brokers whose streams break after the greeting would wake each other all the time.
func (r *retry) pause(ctx context.Context, again <-chan struct{}) {
	wait := r.wait/2 + rand.N(r.wait/2)
	if time.Since(r.woken) < retryMax {
		again = nil
	}
	rest := time.NewTimer(wait)
	defer rest.Stop()
	least := time.NewTimer(min(wait, retryMin/2))
	defer least.Stop()
	select {
	case <-ctx.Done():
		return
	case <-least.C:
	}
	select {
	case <-ctx.Done():
	case <-rest.C:
	case <-again:
		r.wait, r.woken = retryMin, time.Now()
	}
	r.wait = min(2*r.wait, retryMax)
}

// called wakes the link to a peer that has just opened a stream to us, if none is up to it.
func (m *Mesh) called(h Hello) {
	p := (*m.links.Load())[h.NodeID]
	if p == nil {
		return
	}
	l := &p.links[h.Class]
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue.up {
		return
	}
	select {
	case l.again <- struct{}{}:
	default:
	}
}

// opened takes frames from now on. That the peer came to us is no news any more.
func (l *link) opened() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.open()
	select {
	case <-l.again:
	default:
	}
}

func dial(addr string, creds credentials.TransportCredentials) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(FrameBytesMax), grpc.MaxCallSendMsgSize(FrameBytesMax)),
		grpc.WithInitialWindowSize(windowBytes), grpc.WithInitialConnWindowSize(windowBytes),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}))
}

// open opens a stream, says who is there and takes the first answer.
func open(ctx context.Context, conn *grpc.ClientConn, mine Hello) (grpc.ClientStream, []byte, error) {
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, methodName)
	if err != nil {
		return nil, nil, err
	}
	var b []byte
	if err := s.SendMsg(parts{mine.encode()}); err != nil {
		if e := s.RecvMsg(&b); e != nil {
			err = e // the server's reason
		}
		return nil, nil, err
	}
	err = s.RecvMsg(&b)
	return s, b, err
}

// greet opens a stream and exchanges greetings on it.
func greet(ctx context.Context, conn *grpc.ClientConn, mine Hello) (grpc.ClientStream, Hello, error) {
	s, b, err := open(ctx, conn, mine)
	if err != nil {
		return nil, Hello{}, err
	}
	h, err := decodeHello(b)
	return s, h, err
}

// stream runs one stream of a link until it breaks.
func (m *Mesh) stream(ctx context.Context, l *link) error {
	conn, err := dial(l.addr, dialCredentials(m.opts.Credentials, l.to))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	handshake := time.AfterFunc(handshakeTimeout, func() { cancel(errors.New("no greeting within 3 s")) })
	mine := m.opts.Handler.Greet()
	mine.Class = l.class
	s, peer, err := greet(ctx, conn, mine)
	if !handshake.Stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err == nil && peer.NodeID != l.to {
		err = fmt.Errorf("at %s is node %d, not node %d: check --initial-cluster, or broker cluster info", l.addr, peer.NodeID, l.to)
	}
	if err == nil {
		l.mu.Lock()
		l.peer, l.end = peer, cancel
		l.peer.Seats = nil
		l.mu.Unlock()
		err = m.opts.Handler.Check(peer)
	}
	if err != nil {
		return err
	}
	gone := make(chan error, 1)
	go func() { // ends with the stream: the peer never sends anything after its greeting
		var b []byte
		gone <- s.RecvMsg(&b)
	}()
	l.opened()
	if l.class == Control {
		m.opts.Logger.Info("peer is connected", "peer", l.to, "addr", l.addr)
		m.opts.Handler.Peer(l.to, true)
	}
	err = l.write(ctx, s, gone)
	cancel(nil)
	conn.Close()
	<-gone
	return err
}

// write sends what comes into the queue.
func (l *link) write(ctx context.Context, s grpc.ClientStream, gone chan error) error {
	var frames []Frame
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-gone:
			gone <- err
			return err
		case <-l.wake:
		}
		l.mu.Lock()
		frames = l.queue.take(frames)
		clock := l.clock
		l.clock = nil
		l.mu.Unlock()
		if clock != nil {
			if err := s.SendMsg(parts{clock}); err != nil {
				return err
			}
		}
		for i := range frames {
			msg := make(parts, 0, 1+len(frames[i].Payloads))
			msg = append(append(msg, frames[i].Head), frames[i].Payloads...)
			if err := s.SendMsg(msg); err != nil {
				return err
			}
		}
	}
}

// heard is the greeting of who opened a stream. Before anything of him is taken he must be some broker of the cluster, and then be the
// one that he says he is.
func (m *Mesh) heard(s grpc.ServerStream) (Hello, error) {
	if err := m.prove(s.Context(), 0); err != nil {
		return Hello{}, err
	}
	type greeting struct {
		bytes []byte
		err   error
	}
	got := make(chan greeting, 1)
	go func() { // ends with the stream: receiving fails then
		var g greeting
		g.err = s.RecvMsg(&g.bytes)
		got <- g
	}()
	select {
	case g := <-got:
		if g.err != nil {
			return Hello{}, g.err
		}
		peer, err := decodeHello(g.bytes)
		if err != nil {
			return peer, status.Error(codes.InvalidArgument, err.Error())
		}
		return peer, m.prove(s.Context(), peer.NodeID)
	case <-time.After(handshakeTimeout):
		return Hello{}, status.Error(codes.DeadlineExceeded, fmt.Sprintf("no greeting within %v", handshakeTimeout))
	}
}

// prove refuses who is not the node, 0: any node of the cluster.
func (m *Mesh) prove(ctx context.Context, node uint64) error {
	if m.opts.Credentials == nil {
		return nil
	}
	err := m.opts.Credentials.Prove(ctx, node)
	if err == nil {
		return nil
	}
	m.refusals.Do(func() { m.opts.Logger.Warn("peer is refused", "peer", node, "err", err) })
	if node != 0 {
		err = fmt.Errorf("not node %d: %w", node, err)
	}
	return status.Error(codes.PermissionDenied, err.Error())
}

// serve takes one stream of a peer.
func (m *Mesh) serve(s grpc.ServerStream) error {
	peer, err := m.heard(s)
	if err != nil {
		return err
	}
	mine := m.opts.Handler.Greet()
	if err := mine.Compatible(peer); err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	if peer.Join {
		return m.join(s, peer)
	}
	in := &inbound{peer: peer}
	if !peer.Probe {
		m.admit(in)
		defer m.forget(in)
		if err := m.opts.Handler.Check(peer); err != nil {
			if mine.removed(peer.NodeID) {
				_ = s.SendMsg(parts{mine.encode()}) // it learns from the seats that it was removed
			}
			return status.Error(codes.FailedPrecondition, err.Error())
		}
	}
	if err := s.SendMsg(parts{mine.encode()}); err != nil || peer.Probe {
		return err
	}
	m.called(peer)
	for {
		var b []byte
		if err := s.RecvMsg(&b); err != nil {
			return nil
		}
		if in.refused.Load() {
			return status.Error(codes.FailedPrecondition, fmt.Sprintf("node %d may not speak for itself any more: see its next greeting", peer.NodeID))
		}
		if wall, full, ok := decodeClock(b); ok {
			m.opts.Handler.Clock(peer.NodeID, wall, full)
			continue
		}
		msgs, err := Decode(b, DefaultLimits())
		if err != nil {
			m.opts.Logger.Error("malformed frame: the stream is closed", "peer", peer.NodeID, "err", err)
			return status.Error(codes.InvalidArgument, err.Error())
		}
		m.opts.Handler.Frame(peer.NodeID, msgs)
	}
}

// Probe asks the broker at addr, which should be `node`, who it is.
func Probe(ctx context.Context, addr string, node uint64, creds Credentials, mine Hello) (Hello, error) {
	conn, err := dial(addr, dialCredentials(creds, node))
	if err != nil {
		return Hello{}, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	mine.Probe = true
	_, peer, err := greet(ctx, conn, mine)
	return peer, err
}
