package transport

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// station is a broker that only greets: it refuses the directories that it is told to.
type station struct {
	t    *testing.T
	me   Hello
	addr string
	mesh *Mesh

	mu      sync.Mutex
	refused map[[16]byte]bool
	clocks  map[uint64]int // clock messages taken, by node
	asked   []Hello        // that asked to join
	stall   chan struct{}  // frames wait until it is closed; nil: they don't
	dropped int            // messages that were not sent
}

func newStation(t *testing.T, node uint64, dir byte) *station {
	t.Helper()
	s := &station{t: t, me: Hello{Protocol: Protocol, ClusterName: "c", Born: true, NodeID: node, DirID: [16]byte{dir}}, refused: map[[16]byte]bool{}, clocks: map[uint64]int{}}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = lis.Addr().String()
	s.mesh = New(Options{Node: node, Handler: s, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = s.mesh.Serve(lis) })
	done.Go(func() { _ = s.mesh.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		s.mesh.Stop()
		done.Wait()
	})
	return s
}

func (s *station) Greet() Hello           { return s.me }
func (s *station) Check(peer Hello) error { return s.Seated(peer) }
func (s *station) Seated(peer Hello) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused[peer.DirID] {
		return errors.New("refused")
	}
	return nil
}

func (s *station) Join(_ context.Context, peer Hello) (Joined, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked = append(s.asked, peer); peer.NodeID == 9 {
		return Joined{}, errors.New("node 9 is no broker of this cluster")
	}
	return Joined{Birth: []byte("birth"), Replica: 7, Seats: []Seat{{Node: 1, DirID: [16]byte{1}, Since: 3, Addr: s.addr}}}, nil
}

func (s *station) Frame(uint64, []GroupMessage) {
	if s.stall != nil {
		<-s.stall
	}
}
func (s *station) Clock(from uint64, _ int64, _ bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clocks[from]++
}
func (s *station) Dropped(_ uint64, refs []Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped += len(refs)
}
func (s *station) Peer(uint64, bool) {}

func (s *station) refuse(dir byte) {
	s.mu.Lock()
	s.refused[[16]byte{dir}] = true
	s.mu.Unlock()
	s.mesh.Recheck()
}

// hears waits until a clock of a peer that goes on sending arrives, or says that none does within a while.
func (s *station) hears(from *station, within time.Duration) bool {
	count := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.clocks[from.me.NodeID]
	}
	before := count()
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		from.mesh.SendClock(1, false)
		if count() > before {
			return true
		}
	}
	return false
}

// fallsSilent waits until nothing of a peer that goes on sending has arrived for a while: what was under way when it was cut off may still come.
func (s *station) fallsSilent(from *station) bool {
	for end := time.Now().Add(soon); time.Now().Before(end); {
		if !s.hears(from, 100*time.Millisecond) {
			return true
		}
	}
	return false
}

// alone waits until nobody has a stream to this station.
func (s *station) alone() bool {
	for end := time.Now().Add(soon); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		s.mesh.mu.Lock()
		n := len(s.mesh.inbound)
		s.mesh.mu.Unlock()
		if n == 0 {
			return true
		}
	}
	return false
}

const soon = 10 * time.Second

// Streams follow the set of peers while the mesh runs: one that is added is reached, one that has moved is reached where it is now, one
// that is gone is not spoken to any more.
func TestSetPeers(t *testing.T) {
	a, b, moved := newStation(t, 1, 1), newStation(t, 2, 2), newStation(t, 2, 2)
	if a.mesh.Up(2) {
		t.Error("up before it is known")
	}
	a.mesh.SetPeers(map[uint64]string{2: b.addr})
	if !b.hears(a, soon) || !a.mesh.Up(2) {
		t.Fatal("an added peer is not reached")
	}
	a.mesh.SetPeers(map[uint64]string{2: moved.addr})
	if !moved.hears(a, soon) {
		t.Error("a peer that moved is not reached")
	}
	if !b.fallsSilent(a) || !b.alone() {
		t.Error("the place where it was is still spoken to")
	}
	a.mesh.SetPeers(nil)
	if !moved.fallsSilent(a) || !moved.alone() || a.mesh.Up(2) || len(a.mesh.Stats()) > 0 {
		t.Error("a peer that is gone is still spoken to")
	}
}

// Who waits before it tries a peer again waits no longer when the peer comes to it.
func TestAPeerThatCallsIsReachedAtOnce(t *testing.T) {
	a := newStation(t, 1, 1)
	a.mesh.mu.Lock()
	waiting := newPeer(2, "nowhere")
	waiting.stop = func() {} // no goroutine of its own: the test waits in its place
	a.mesh.links.Store(&map[uint64]*peer{2: waiting})
	a.mesh.mu.Unlock()
	b := newStation(t, 2, 2)
	b.mesh.SetPeers(map[uint64]string{1: a.addr})
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	for c := range waiting.links {
		l := &waiting.links[c]
		l.retry.wait = time.Hour
		if l.retry.pause(ctx, l.again); ctx.Err() != nil {
			t.Errorf("class %d still waits", c)
		}
	}
}

// A peer that comes to us all the time, because streams break right after they were opened, is tried at once only now and then, and never
// without a pause. The waits grow meanwhile.
func TestAPeerThatCallsAllTheTimeIsNotTriedAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		again := make(chan struct{})
		go func() {
			for {
				select {
				case again <- struct{}{}:
				case <-t.Context().Done():
					return
				}
			}
		}()
		r := retry{wait: retryMax}
		begin, tries, tried := time.Now(), 0, time.Now()
		for time.Since(begin) < 10*retryMax {
			r.pause(t.Context(), again)
			if took := time.Since(tried); took < retryMin/2 {
				t.Fatalf("tried again after %v", took)
			}
			if tries++; tries == 1 && time.Since(begin) != retryMin/2 {
				t.Errorf("the first try was %v after the peer came, want %v", time.Since(begin), retryMin/2)
			}
			tried = time.Now()
		}
		if tries > 10*8 { // each time it is woken: after 25 ms, then 50 to 100, 100 to 200, ... 1,000 to 2,000
			t.Errorf("%d tries in %v", tries, time.Since(begin))
		}
	})
}

// That a peer has come to us is news while no stream to it is up: it does not shorten the wait after a later break.
func TestOldCallsAreForgotten(t *testing.T) {
	m := New(Options{Node: 1, Peers: map[uint64]string{2: "nowhere"}})
	l := &(*m.links.Load())[2].links[Bulk]
	from := Hello{NodeID: 2, Class: Bulk}
	m.called(from)
	if len(l.again) != 1 {
		t.Error("a call while no stream is up is no news")
	}
	l.opened()
	if len(l.again) != 0 {
		t.Error("the call from before the stream is still news")
	}
	m.called(from)
	if len(l.again) != 0 {
		t.Error("a call while the stream is up is news")
	}
	l.queue.close()
	m.called(from)
	if len(l.again) != 1 {
		t.Error("a call after the break is no news")
	}
}

// When a directory is not the registered one any more, its streams end at both ends although it was greeted before, and it stays refused.
func TestRecheckEndsStreams(t *testing.T) {
	a, b := newStation(t, 1, 1), newStation(t, 2, 2)
	a.mesh.SetPeers(map[uint64]string{2: b.addr})
	b.mesh.SetPeers(map[uint64]string{1: a.addr})
	if !a.hears(b, soon) || !b.hears(a, soon) {
		t.Fatal("not connected")
	}
	a.refuse(2)
	if a.hears(b, 200*time.Millisecond) {
		t.Error("the refused one is still heard")
	}
	for end := time.Now().Add(soon); a.mesh.Up(2); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the refused one is still spoken to")
		}
	}
}

// A broker asks to be registered before any frame passes, and gets the answer or the reason.
func TestJoinCall(t *testing.T) {
	a := newStation(t, 1, 1)
	mine := Hello{Protocol: Protocol, ClusterName: "c", NodeID: 4, DirID: [16]byte{4}, Addr: "x:1"}
	x, err := Join(context.Background(), a.addr, 1, nil, mine)
	if err != nil || x.Replica != 7 || string(x.Birth) != "birth" || len(x.Seats) != 1 || x.Seats[0].Since != 3 {
		t.Errorf("joined %+v, %v", x, err)
	}
	mine.NodeID = 9
	if _, err := Join(context.Background(), a.addr, 1, nil, mine); err == nil || err.Error() != "node 9 is no broker of this cluster" {
		t.Errorf("refused with %v", err)
	}
	mine.ClusterName = "other"
	if _, err := Join(context.Background(), a.addr, 1, nil, mine); err == nil {
		t.Error("a broker of another cluster may ask")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.asked) != 2 || a.asked[0].Addr != "x:1" || !a.asked[0].Join {
		t.Errorf("asked: %+v", a.asked)
	}
}
