package client

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	pb "lograft/api/lograft/v1"
	"lograft/client/core"
)

// reader carries out what a core.Consumer asks for: it is the same for consumers and for members of groups. One goroutine owns it.
type reader struct {
	c           *Client
	consistency Consistency
	put         func(core.ConsumerEvent) // to the core; from any goroutine
	streams     map[string]*stream[*pb.FetchStreamRequest]
	calls       sync.WaitGroup
}

func newReader(c *Client, consistency Consistency, put func(core.ConsumerEvent)) *reader {
	return &reader{c: c, consistency: consistency, put: put, streams: map[string]*stream[*pb.FetchStreamRequest]{}}
}

// before prepares for an event: a stream that broke is closed.
func (r *reader) before(ev *core.ConsumerEvent) {
	if s := r.streams[ev.Down]; s != nil {
		delete(r.streams, ev.Down)
		s.close()
	}
}

func (r *reader) effects(ctx context.Context, eff *core.ConsumerEffects) {
	for i := range eff.Send {
		r.streamTo(ctx, eff.Send[i].Address).out.put(eff.Send[i].Message)
	}
	for _, ask := range eff.Offsets {
		r.calls.Go(func() {
			out, err := callOne(ctx, r.c, ask.Address, func(ctx context.Context, conn *grpc.ClientConn) (*pb.ListOffsetsResponse, error) {
				return pb.NewFetchServiceClient(conn).ListOffsets(ctx, ask.Request)
			})
			r.put(core.ConsumerEvent{Offsets: &core.OffsetsAnswer{Token: ask.Token, Response: out, Err: err}})
		})
	}
	for _, ask := range eff.Epochs {
		r.calls.Go(func() {
			out, err := callOne(ctx, r.c, ask.Address, func(ctx context.Context, conn *grpc.ClientConn) (*pb.OffsetForLeaderEpochResponse, error) {
				return pb.NewFetchServiceClient(conn).OffsetForLeaderEpoch(ctx, ask.Request)
			})
			r.put(core.ConsumerEvent{Epoch: &core.EpochAnswer{Token: ask.Token, Response: out, Err: err}})
		})
	}
	if len(eff.Metadata) > 0 {
		names := eff.Metadata
		r.calls.Go(func() {
			out, err := r.c.metadata(ctx, &pb.GetMetadataRequest{Topics: names, Consistency: r.consistency.wire()})
			r.put(core.ConsumerEvent{Metadata: &core.MetadataAnswer{Topics: names, Response: out, Err: err}})
		})
	}
}

func (r *reader) streamTo(ctx context.Context, address string) *stream[*pb.FetchStreamRequest] {
	s := r.streams[address]
	if s == nil {
		s = openStream(ctx, r.c, address,
			func(ctx context.Context, conn *grpc.ClientConn) (bidi[*pb.FetchStreamRequest, *pb.FetchStreamResponse], error) {
				return pb.NewFetchServiceClient(conn).FetchStream(ctx)
			},
			func(m *pb.FetchStreamResponse) { r.put(core.ConsumerEvent{Answer: m}) },
			func(err error) { r.put(core.ConsumerEvent{Down: address, DownError: err}) })
		r.streams[address] = s
	}
	return s
}

// watchAgain is the pause before another broker is asked to tell of changes.
const watchAgain = time.Second

// watch has some broker tell of each change of topics until ctx ends: replicas that move, partitions that are added. Without it they are
// found when the known replicas refuse; so a broker that may not tell is not asked again.
func (r *reader) watch(ctx context.Context, names []string) {
	r.calls.Go(func() {
		for try := 0; ; try++ {
			list := r.c.candidates()
			if !r.watchAt(ctx, list[try%len(list)], names) {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(watchAgain):
			}
		}
	})
}

// watchAt watches at one broker until the stream ends; again is false if no broker would answer otherwise.
func (r *reader) watchAt(ctx context.Context, address string, names []string) (again bool) {
	conn, err := r.c.conn(address)
	if err != nil {
		return false
	}
	s, err := pb.NewClusterServiceClient(conn).WatchMetadata(ctx, &pb.WatchMetadataRequest{Topics: names})
	for err == nil {
		var m *pb.WatchMetadataResponse
		if m, err = s.Recv(); err == nil {
			r.put(core.ConsumerEvent{Metadata: &core.MetadataAnswer{Watched: true, Topics: names, Response: m.GetMetadata()}})
		}
	}
	return ctx.Err() == nil && core.Retriable(toError(address, err).Reason)
}

// close ends the streams; wait waits for the calls, whose context is over.
func (r *reader) close() {
	for _, s := range r.streams {
		s.close()
	}
}

func (r *reader) wait() { r.calls.Wait() }
