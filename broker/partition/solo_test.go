package partition

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"lograft/raft"
	"lograft/record"
	"lograft/segment"
	"lograft/segment/vfs"
)

// solo is one replica that is its whole group, on a disk in memory, driven as its worker drives it. Time passes with ticks.
type solo struct {
	t       *testing.T
	fs      *vfs.Mem
	r       *Replica
	env     Env
	hard    raft.HardState // what the journal holds
	replies map[uint64]Reply
	token   uint64
	config  Config
	limit   int64
	machine Machine
	learner bool // replica 2 is a learner of the group, which the test plays
}

const soloStart = int64(1_700_000_000_000)

func newSolo(t *testing.T, config Config) *solo {
	t.Helper()
	return startSolo(t, &solo{config: config})
}

func newSoloMachine(t *testing.T, m Machine) *solo {
	t.Helper()
	return startSolo(t, &solo{machine: m})
}

func startSolo(t *testing.T, s *solo) *solo {
	t.Helper()
	s.t, s.fs, s.replies, s.limit = t, vfs.NewMem(), map[uint64]Reply{}, 4096
	config := s.config
	s.env = Env{Now: 1, Wall: soloStart, Out: nowhere{}, Clocks: func([]uint64) (int64, int64, int) { return s.env.Wall, s.env.Wall, 1 }}
	if config.SegmentBytes > 0 {
		s.limit = config.SegmentBytes
	}
	s.open()
	s.until(func() bool { return s.r.IsLeader() })
	return s
}

func (s *solo) open() {
	s.t.Helper()
	log, _, err := segment.Open(segment.Options{FS: s.fs, Dir: "g", Group: segment.GroupID{1}, Start: segment.Start{Index: 1, Term: 1}, SegmentBytes: s.limit, LimitOf: SegmentLimit,
		CommitFloor: s.hard.Commit})
	if err != nil {
		s.t.Fatal(err)
	}
	o := Options{Group: GroupID{1}, ReplicaID: 1, Peers: []Peer{{1, 1}}, Birth: raft.ConfState{Voters: []uint64{1}}, Born: 1, Log: log, Hard: RestoredHardState(s.hard, log, 1),
		Config: s.config, Machine: s.machine, FirstLeader: true, ElectionTicks: 3, HeartbeatTicks: 1, Rand: rand.New(rand.NewPCG(1, 1)).IntN}
	if s.learner {
		o.Peers, o.Birth.Learners, o.CatchUpBytes = append(o.Peers, Peer{2, 2}), []uint64{2}, s.limit
	}
	if s.r, err = New(o); err != nil {
		s.t.Fatal(err)
	}
}

// settle carries out everything that one step leaves: syncs, seals, cold reads, until nothing is left.
func (s *solo) settle() {
	s.t.Helper()
	for {
		s.r.EndStep(&s.env)
		idle := true
		if item, ok := s.r.Sync(); ok {
			idle = false
			if item.Hard != nil {
				s.hard = *item.Hard
			}
			var err error
			if item.Log != nil {
				err = item.Log.Do()
			}
			s.r.Synced(&s.env, item, err)
		}
		if task := s.r.BeginSeal(); task != nil {
			idle = false
			s.r.EndSeal(&s.env, task, task.Do())
		}
		cold := s.env.Cold
		s.env.Cold = nil
		for _, c := range cold {
			idle = false
			c.Do()
			s.r.ReadDone(&s.env, c)
		}
		for _, a := range s.env.Replies {
			s.replies[a.Token] = a
		}
		s.env.Replies, s.env.Leads = nil, nil
		if err := s.r.Err(); err != nil {
			s.t.Fatal(err)
		}
		if idle && !s.r.Node().HasReady() {
			return
		}
	}
}

// tick lets a tenth of a second pass.
func (s *solo) tick() {
	s.t.Helper()
	s.env.Now += 100e6
	s.env.Wall += 100
	s.r.Tick(&s.env)
	s.settle()
}

func (s *solo) until(done func() bool) {
	s.t.Helper()
	for range 10_000 {
		if done() {
			return
		}
		s.tick()
	}
	s.t.Fatal("it never came to that")
}

// begin starts a request and returns its token.
func (s *solo) begin(q Request) uint64 {
	s.token++
	q.From, q.Token = 1, s.token
	if q.Op == OpProduce && q.ExpectedOffset == 0 {
		q.ExpectedOffset = NoExpectedOffset
	}
	s.r.Do(&s.env, &q)
	return s.token
}

// do carries out a request to its answer.
func (s *solo) do(q Request) Reply {
	s.t.Helper()
	token := s.begin(q)
	s.settle()
	s.until(func() bool { _, ok := s.replies[token]; return ok })
	return s.replies[token]
}

func (s *solo) mustDo(q Request) Reply {
	s.t.Helper()
	a := s.do(q)
	if a.Err != nil {
		s.t.Fatalf("%+v: %v", q.Op, a.Err)
	}
	return a
}

func (s *solo) wants(q Request, reason Reason) *Error {
	s.t.Helper()
	a := s.do(q)
	if a.Err == nil || a.Err.Reason != reason {
		s.t.Fatalf("op %d: %+v, want %s", q.Op, a.Err, reason)
	}
	return a.Err
}

// crash cuts the power: what was synced stays. The journal's last hard state stays too.
func (s *solo) crash(seed uint64) {
	s.fs = s.fs.Crash(rand.New(rand.NewPCG(seed, 1)))
	s.env.Replies = nil
	s.open()
}

func sized(t *testing.T, id int64, epoch int16, sequence int32, bytes int) record.Batch {
	t.Helper()
	b := record.NewBuilder(record.BuilderOptions{BytesMax: 1 << 20, ProducerID: id, ProducerEpoch: epoch, BaseSequence: sequence})
	if err := b.Append(record.Record{Timestamp: 12345, Value: make([]byte, bytes)}); err != nil {
		t.Fatal(err)
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// fill appends n batches without a producer of about a fifth of a segment each.
func (s *solo) fill(n int) {
	s.t.Helper()
	for range n {
		s.mustDo(Request{Op: OpProduce, Batch: sized(s.t, -1, -1, -1, int(s.limit/5))})
	}
}

func (s *solo) describe() *Description { return s.mustDo(Request{Op: OpDescribe}).Describe }

func (s *solo) segments() (out string) {
	for _, x := range s.r.log.Extents(nil) {
		out += fmt.Sprintf("[%d,%d)", x.BaseOffset, x.NextOffset)
	}
	return out
}
