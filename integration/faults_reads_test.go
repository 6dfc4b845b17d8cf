package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "lograft/api/lograft/v1"
	"lograft/broker/sim/check"
)

var readCases = []faultCase{
	// Ten heartbeats in an election timeout, as by default, but ten times as fast.
	{name: "reads-leader-moves", serve: []string{"--raft-election-timeout", "100ms", "--raft-heartbeat", "10ms"}, hurt: readsWhileLeadersChange},
}

// readsTopic is the one partition whose whole history is judged.
const readsTopic = "reads"

// Shape of the history: how long, and how often each of the clients asks.
const (
	readsTime     = 12 * time.Second
	movesEvery    = 300 * time.Millisecond
	readersOfNode = 2
	writers       = 3
	clientEvery   = 10 * time.Millisecond
)

// observed is a history that several clients write.
type observed struct {
	mu    sync.Mutex
	h     *check.History
	end   int64 // highest next offset that anybody knows of
	start time.Time
}

func (o *observed) now() int64 { return time.Since(o.start).Nanoseconds() }

func (o *observed) note(what func(h *check.History)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	what(o.h)
}

// readsWhileLeadersChange stops the leader every 300 ms until another one leads, and lets it go on: it wakes up and believes that it
// leads still. Meanwhile clients append, and read the end and single records linearizably from every replica. The whole history must
// be linearizable, which package check judges with porcupine: an answer that is stale once is found.
func readsWhileLeadersChange(f *faultRun) {
	f.run("broker", "topic", "create", readsTopic, "--partitions", "1", "--replication-factor", "3")
	conns := map[int]*grpc.ClientConn{}
	for _, n := range f.c.Nodes() {
		conn, err := grpc.NewClient("passthrough:///"+n.Client, grpc.WithTransportCredentials(insecure.NewCredentials()))
		must(f.T, err)
		defer conn.Close()
		conns[n.ID] = conn
	}
	o := &observed{h: check.NewHistory(), start: time.Now()}
	ctx, stop := context.WithTimeout(f.ctx, readsTime)
	defer stop()
	var clients sync.WaitGroup
	for i := range writers {
		clients.Go(func() { o.write(ctx, fmt.Sprint("writer-", i), conns) })
	}
	for id, conn := range conns {
		for i := range readersOfNode {
			clients.Go(func() { o.read(ctx, uint64(id), conn, i == 0) })
		}
	}
	moves := 0
	for before := 0; ctx.Err() == nil; {
		began := time.Now()
		leader := leaderOf(ctx, conns, before)
		if leader == 0 {
			continue
		}
		must(f.T, f.c.Node(leader).Pause())
		if leaderOf(ctx, conns, leader) != 0 {
			moves++
		}
		must(f.T, f.c.Node(leader).Resume())
		before = leader
		f.sleep(max(0, movesEvery-time.Since(began)))
	}
	clients.Wait()
	waitReady(f.T, f.ctx, f.c)
	var copies []check.Copy
	for id, conn := range conns {
		copies = append(copies, readCopy(f, uint64(id), conn))
	}
	if err := o.h.Check(copies); err != nil {
		f.Errorf("%v", err)
	}
	f.note = fmt.Sprintf("(%d linearizable answers, %d appends, leadership moved %d times)", o.h.Reads(), len(o.h.Appends()), moves)
	if floor := int(readsTime / movesEvery / 3); moves < floor || o.h.Reads() < 500 {
		f.Errorf("too gentle: %s, want %d moves and 500 answers", f.note, floor)
	}
}

// leaderOf is who leads the partition now as some broker but not knows, 0 at the end of ctx.
func leaderOf(ctx context.Context, conns map[int]*grpc.ClientConn, not int) int {
	for ctx.Err() == nil {
		node, epoch := 0, int32(-1)
		for id, conn := range conns {
			if id == not {
				continue
			}
			one, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			m, err := pb.NewClusterServiceClient(conn).GetMetadata(one, &pb.GetMetadataRequest{Topics: []string{readsTopic}, Consistency: pb.Consistency_CONSISTENCY_COMMITTED})
			cancel()
			if err != nil || len(m.GetTopics()) == 0 {
				continue
			}
			if p := m.GetTopics()[0].GetPartitions()[0]; p.GetLeaderEpoch() > epoch && p.GetLeaderNode() != 0 {
				node, epoch = int(p.GetLeaderNode()), p.GetLeaderEpoch()
			}
		}
		if node != 0 && node != not {
			return node
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
	return 0
}

var readsPartition = &pb.PartitionRef{Topic: readsTopic}

// write appends single records without a producer id, at whichever broker it finds leading; what it is not told stays open.
func (o *observed) write(ctx context.Context, name string, conns map[int]*grpc.ClientConn) {
	at := 1
	for n := 1; ctx.Err() == nil; n++ {
		value := fmt.Sprintf("%s/%d", name, n)
		var a *check.Append
		o.note(func(h *check.History) {
			a = h.Begin(check.Append{Client: name, Value: value, Expected: -1, Call: o.now()})
		})
		one, cancel := context.WithTimeout(ctx, time.Second)
		r, err := pb.NewProduceServiceClient(conns[at]).Produce(one, &pb.ProduceRequest{Partition: readsPartition, Records: []*pb.Record{{Value: []byte(value)}}})
		cancel()
		if err != nil {
			at = at%len(conns) + 1
		} else {
			o.note(func(*check.History) { a.Ack(o.now(), r.GetBaseOffset()); o.end = max(o.end, r.GetBaseOffset()+1) })
		}
		pauseClient(ctx)
	}
}

// read asks one broker where the partition ends, or for one record, linearizably.
func (o *observed) read(ctx context.Context, node uint64, conn *grpc.ClientConn, ends bool) {
	api := pb.NewFetchServiceClient(conn)
	for ; ctx.Err() == nil; pauseClient(ctx) {
		one, cancel := context.WithTimeout(ctx, 2*time.Second)
		call := o.now()
		if ends {
			r, err := api.ListOffsets(one, &pb.ListOffsetsRequest{Partition: readsPartition, Consistency: pb.Consistency_CONSISTENCY_LINEARIZABLE})
			if err == nil {
				o.note(func(h *check.History) { h.ReadEnd(node, 0, r.GetHighWatermark(), call, o.now()) })
			}
			cancel()
			continue
		}
		var offset int64
		o.note(func(*check.History) { offset = max(0, o.end-rand.Int64N(5)) }) // about the end: a record, or the claim that there is none
		r, err := api.Fetch(one, &pb.FetchRequest{Partition: readsPartition, Offset: offset, MaxBytes: 1, PlainRecords: true, Consistency: pb.Consistency_CONSISTENCY_LINEARIZABLE})
		cancel()
		switch {
		case err != nil:
		case len(r.GetRecords()) > 0:
			o.note(func(h *check.History) {
				h.ReadAt(node, 0, r.GetRecords()[0].GetOffset(), string(r.GetRecords()[0].GetValue()), call, o.now())
			})
		default:
			o.note(func(h *check.History) { h.ReadEnd(node, 0, r.GetHighWatermark(), call, o.now()) })
		}
	}
}

func pauseClient(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(clientEvery):
	}
}

// readCopy is everything that a broker returns of the partition.
func readCopy(f *faultRun, node uint64, conn *grpc.ClientConn) check.Copy {
	c := check.Copy{Node: node}
	for next := int64(0); ; {
		r, err := pb.NewFetchServiceClient(conn).Fetch(f.ctx, &pb.FetchRequest{Partition: readsPartition, Offset: next, PlainRecords: true})
		must(f.T, err)
		if len(r.GetRecords()) == 0 {
			return c
		}
		for _, x := range r.GetRecords() {
			c.Records = append(c.Records, check.Record{Offset: x.GetOffset(), Value: string(x.GetValue())})
		}
		next = r.GetNextOffset()
	}
}
