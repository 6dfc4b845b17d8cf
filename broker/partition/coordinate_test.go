package partition

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"lograft/raft"
	"lograft/segment"
	"lograft/segment/vfs"
)

// noter is a coordinator that notes what it is told.
type noter struct {
	notes    []string
	answers  []Answer
	commands [][]byte
	applied  []string
}

func (n *noter) note(format string, args ...any) {
	n.notes = append(n.notes, fmt.Sprintf(format, args...))
}

func (n *noter) Apply(_ uint64, _ int64, command []byte) []byte {
	n.applied = append(n.applied, string(command))
	return command
}
func (n *noter) RequestID([]byte) ([16]byte, bool) { return [16]byte{}, true }
func (n *noter) Snapshot() []byte                  { return nil }
func (n *noter) Restore([]byte) error              { return nil }
func (n *noter) Query(ask any) any                 { return fmt.Sprintf("%v after %d", ask, len(n.applied)) }
func (n *noter) Lead(int64)                        { n.note("lead") }
func (n *noter) Rest()                             { n.note("rest") }
func (n *noter) Ask(_ int64, from, token uint64, ask any) {
	n.note("ask %v", ask)
	if ask == "now" {
		n.answers = append(n.answers, Answer{from, token, "answer"})
	}
}
func (n *noter) Forget(from uint64) { n.note("forget %d", from) }
func (n *noter) Tick(_, appendTime int64) {
	n.commands = append(n.commands, []byte(fmt.Sprintf("at %d", appendTime)))
}
func (n *noter) Take() ([]Answer, [][]byte) {
	a, c := n.answers, n.commands
	n.answers, n.commands = nil, nil
	return a, c
}

type nowhere struct{}

func (nowhere) Send(uint64, GroupID, *raft.Message) {}

// lone is a replica that is the only voter of its group, and what its steps left.
type lone struct {
	t   *testing.T
	r   *Replica
	n   *noter
	env Env
}

func newLone(t *testing.T) *lone {
	t.Helper()
	log, _, err := segment.Open(segment.Options{FS: vfs.NewMem(), Dir: "g", Group: segment.GroupID{1}, Start: segment.Start{Index: 1, Term: 1}, SegmentBytes: 1 << 20, TailCacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	l := &lone{t: t, n: &noter{}, env: Env{Now: 1, Wall: 1000, Out: nowhere{}}}
	l.r, err = New(Options{Group: GroupID{1}, ReplicaID: 1, Peers: []Peer{{1, 1}, {2, 2}}, Birth: raft.ConfState{Voters: []uint64{1}, Learners: []uint64{2}}, Born: 1, Log: log, Machine: l.n,
		FirstLeader: true, ElectionTicks: 10, HeartbeatTicks: 1, Rand: rand.New(rand.NewPCG(1, 1)).IntN})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// step does something to the replica and carries out what follows, syncs included.
func (l *lone) step(do func()) (replies []Reply) {
	l.t.Helper()
	do()
	l.r.EndStep(&l.env)
	for {
		item, ok := l.r.Sync()
		if !ok {
			break
		}
		if item.Log != nil {
			if err := item.Log.Do(); err != nil {
				l.t.Fatal(err)
			}
		}
		l.r.Synced(&l.env, item, nil)
		l.r.EndStep(&l.env)
	}
	if err := l.r.Err(); err != nil {
		l.t.Fatal(err)
	}
	replies, l.env.Replies = l.env.Replies, nil
	return replies
}

func (l *lone) do(q Request) []Reply { return l.step(func() { l.r.Do(&l.env, &q) }) }

func (l *lone) tick() { l.step(func() { l.r.Tick(&l.env) }) }

// A coordinator is asked only while its replica leads and has applied its log; what it decides by time goes through the log; when the
// leadership ends, who waits is answered, and is answered once.
func TestCoordinatorLeadsAndRests(t *testing.T) {
	l := newLone(t)
	if got := l.do(Request{From: 7, Token: 1, Op: OpAsk, Ask: "early"}); len(got) != 1 || got[0].Err.Reason != ReasonNotLeader {
		t.Fatalf("before anyone leads: %+v", got)
	}
	l.tick()
	if !l.r.IsLeader() {
		t.Fatal("it does not lead")
	}
	l.tick()
	if len(l.n.applied) == 0 || l.n.applied[0] != "at 1000" {
		t.Fatalf("applied %q: what a tick decides must go through the log", l.n.applied)
	}
	if got := l.do(Request{From: 7, Token: 2, Op: OpAsk, Ask: "now"}); len(got) != 1 || got[0].Answer != "answer" || got[0].Token != 2 {
		t.Fatalf("asked: %+v", got)
	}
	for token, from := range []uint64{7, 8, 9} {
		if got := l.do(Request{From: from, Token: uint64(token), Op: OpAsk, Ask: "later"}); len(got) != 0 {
			t.Fatalf("a question that waits was answered: %+v", got)
		}
	}
	l.step(func() { l.r.Cancel(8) })
	got := l.step(func() {
		l.r.Step(&l.env, 2, raft.Message{Type: raft.MsgHeartbeat, From: 2, To: 1, Term: 99})
	})
	if len(got) != 2 || got[0].From != 7 || got[1].From != 9 || got[0].Err == nil || got[0].Err.Reason != ReasonNotLeader {
		t.Fatalf("another one leads: %+v", got)
	}
	if got := l.do(Request{From: 7, Token: 3, Op: OpAsk, Ask: "late"}); len(got) != 1 || got[0].Err.Reason != ReasonNotLeader {
		t.Fatalf("after the end: %+v", got)
	}
	if notes := fmt.Sprint(l.n.notes); notes != "[lead ask now ask later ask later ask later forget 8 rest]" {
		t.Errorf("the coordinator was told %s", notes)
	}
}

// A query is answered after a read round, from the state as of then, and where nobody leads only if that is asked for.
func TestCoordinatorQuery(t *testing.T) {
	l := newLone(t)
	if got := l.do(Request{From: 7, Token: 1, Op: OpQuery, Ask: "q", Deadline: 5}); len(got) != 0 {
		t.Fatalf("answered without a leader: %+v", got)
	}
	if got := l.do(Request{From: 7, Token: 2, Op: OpQuery, Ask: "q", Consistency: Committed}); len(got) != 1 || got[0].Answer != "q after 0" {
		t.Fatalf("committed: %+v", got)
	}
	l.tick()
	l.tick()
	if got := l.do(Request{From: 7, Token: 3, Op: OpQuery, Ask: "q"}); len(got) != 1 || got[0].Answer != fmt.Sprintf("q after %d", len(l.n.applied)) {
		t.Fatalf("linearizable: %+v", got)
	}
}
