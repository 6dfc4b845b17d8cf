package rpc

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"lograft/api/codec"
	pb "lograft/api/lograft/v1"
	"lograft/broker/partition"
	"lograft/internal/buffers"
)

// Host carries sessions' requests to replicas.
type Host interface {
	// Post hands requests to the workers that own their groups; every one is answered through the session's deliver.
	Post([]partition.Request)
	// Register makes a session known; deliver is called by workers and must not block.
	Register(deliver func(partition.Reply)) (session uint64)
	// Unregister ends a session; what waits for it is forgotten.
	Unregister(session uint64)
	// Now is monotonic, ns, the clock of Request.Deadline.
	Now() int64
}

// Server serves the client API: one Session per call.
type Server struct {
	pb.UnimplementedProduceServiceServer
	pb.UnimplementedFetchServiceServer
	pb.UnimplementedTopicServiceServer
	pb.UnimplementedClusterServiceServer
	pb.UnimplementedGroupServiceServer
	pb.UnimplementedStorageServiceServer
	pb.UnimplementedAccessServiceServer
	pb.UnimplementedMembershipServiceServer
	env    *Env
	host   Host
	counts counts
}

// NewServer makes a server; Register adds it to a gRPC server.
func NewServer(env *Env, host Host) *Server { return &Server{env: env, host: host} }

// envOf is the environment of one call.
func (s *Server) envOf(ctx context.Context) *Env {
	c := callerOf(ctx)
	if c == nil {
		return s.env
	}
	env := *s.env
	env.Caller = c
	return &env
}

// readerOf is envOf of a call that may ask for plain records.
func (s *Server) readerOf(ctx context.Context) *Env {
	env := *s.envOf(ctx)
	env.asker = askerOf(ctx)
	return &env
}

// Register adds all services.
func (s *Server) Register(g grpc.ServiceRegistrar) {
	pb.RegisterProduceServiceServer(g, s)
	pb.RegisterFetchServiceServer(g, s)
	pb.RegisterTopicServiceServer(g, s)
	pb.RegisterClusterServiceServer(g, s)
	pb.RegisterGroupServiceServer(g, s)
	pb.RegisterStorageServiceServer(g, s)
	pb.RegisterAccessServiceServer(g, s)
	pb.RegisterMembershipServiceServer(g, s)
}

// mailbox takes replies from workers for the goroutine that answers the client. Their number is bounded by the session's in-flight
// limit, their bytes by the connection's and the broker's: a client that reads slowly costs no more than that, and nobody else anything.
type mailbox struct {
	mu      sync.Mutex
	replies []partition.Reply
	held    int // bytes of batches put and not let go of by gRPC
	leaving int // of held: that gRPC has
	answers *Budget
	wake    chan struct{}
}

// answersBytesMax bounds the batches of one call that are on their way to its client.
const answersBytesMax = 64 << 20

// put takes a reply. Batches beyond the bounds are dropped: the client asks for them again once it has read what is on its way.
func (b *mailbox) put(r partition.Reply) {
	b.mu.Lock()
	if r.Bytes > 0 {
		if b.held > 0 && b.held+r.Bytes > answersBytesMax || !b.answers.take(r.Bytes) {
			r.Lent.Free()
			r = partition.Reply{From: r.From, Token: r.Token, At: r.At, Err: overloaded(b.answers, "answers")}
		} else {
			b.held += r.Bytes
		}
	}
	b.replies = append(b.replies, r)
	b.mu.Unlock()
	b.notify()
}

// leave says that up to n bytes of batches are gRPC's now, and returns how many; left will be called for them.
func (b *mailbox) leave(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(n, b.held-b.leaving)
	b.leaving += n
	return n
}

// left says that gRPC has let go of n bytes of batches.
func (b *mailbox) left(n int) {
	b.mu.Lock()
	b.held -= n
	b.leaving -= n
	b.mu.Unlock()
	b.answers.give(n)
}

// close gives back what gRPC was never given.
func (b *mailbox) close() {
	b.mu.Lock()
	n := b.held - b.leaving
	b.held = b.leaving
	b.mu.Unlock()
	b.answers.give(n)
}

func (b *mailbox) notify() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *mailbox) take(spare []partition.Reply) []partition.Reply {
	clear(spare)
	b.mu.Lock()
	defer b.mu.Unlock()
	replies := b.replies
	b.replies = spare[:0]
	return replies
}

// runner drives one session: the goroutine that receives steps it with messages and posts the requests itself, the one that sends
// steps it with replies and timers.
type runner struct {
	host   Host
	env    *Env
	counts *counts
	box    mailbox
	id     uint64
	room   chan struct{} // has a value after the session may have become less full

	mu      sync.Mutex
	session Session
	eff     Effects
	out     []outgoing // not sent yet
	held    int        // of the budget of answers, by what is in out
	timer   *time.Timer
	done    bool
	err     error // with done: the call's status
}

func (s *Server) newRunner(session Session) *runner {
	r := &runner{host: s.host, env: s.env, counts: &s.counts, session: session, box: mailbox{wake: make(chan struct{}, 1), answers: s.env.Answers}, room: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
	r.timer.Stop()
	r.id = s.host.Register(r.box.put)
	return r
}

func (r *runner) close() {
	r.host.Unregister(r.id)
	r.timer.Stop()
	r.end(nil)
	r.mu.Lock()
	Release(r.session)
	r.env.GiveHeld(r.held)
	r.held = 0
	r.mu.Unlock()
	r.box.close()
}

// end ends the session, unless it is over already.
func (r *runner) end(err error) {
	r.mu.Lock()
	if !r.done {
		r.done, r.err = true, err
	}
	r.mu.Unlock()
	r.box.notify()
}

// outgoing is a message and, if they are not nil, the memory that its bytes are in and what it holds of the budgets.
type outgoing struct {
	message proto.Message
	lent    *buffers.Loan
	parcel  *parcel
}

// wire is what a stream is given: with the message gRPC gets its memory, and frees it.
func (o *outgoing) wire() any {
	lent, parcel := o.lent, o.parcel
	if lent == nil && parcel == nil {
		return o.message
	}
	return codec.Lent{Message: o.message, Free: func() {
		lent.Free()
		parcel.freed()
	}}
}

// step steps the session once and does what it asks, but for sending. mu is held.
func (r *runner) step(ev *Event) {
	if ev.Reply != nil {
		defer func() { ev.Reply.Lent.Free() }() // the session did not take it
	}
	if r.done {
		return
	}
	r.eff.reset()
	r.session.Step(r.host.Now(), ev, &r.eff)
	if n := len(r.eff.Requests); n > 0 {
		reqs := make([]partition.Request, n)
		copy(reqs, r.eff.Requests)
		for i := range reqs {
			reqs[i].From = r.id
		}
		r.host.Post(reqs)
	}
	for i, m := range r.eff.Send {
		o := outgoing{message: m}
		if i < len(r.eff.Lent) {
			o.lent = r.eff.Lent[i]
		}
		r.out = append(r.out, o)
	}
	r.held += r.eff.Held
	if r.eff.Timer > 0 {
		r.timer.Reset(time.Duration(max(r.eff.Timer-r.host.Now(), 0)))
	}
	r.done = r.eff.Done
	if r.eff.Err != nil {
		r.counts.refuse(r.eff.Err.Reason)
		r.done, r.err = true, toStatus(r.env.Dir, r.eff.Err)
	}
}

// receive steps the session with what the client does.
func (r *runner) receive(ev *Event) {
	r.mu.Lock()
	r.step(ev)
	answers := len(r.out) > 0 || r.done
	r.mu.Unlock()
	if answers {
		r.box.notify()
	}
}

// unsentMax bounds the answers that wait for a client that does not read: what it asks then is not received.
const unsentMax = 1024

func (r *runner) full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return (r.session.Full() || len(r.out) >= unsentMax) && !r.done
}

// run answers the client until the session is done or the call is over.
func (r *runner) run(ctx context.Context, send func(*outgoing) error) error {
	var replies []partition.Reply
	var out []outgoing
	for {
		timer := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.timer.C:
			timer = true
		case <-r.box.wake:
		}
		replies = r.box.take(replies)
		r.mu.Lock()
		for i := range replies {
			r.step(&Event{Reply: &replies[i]})
		}
		if timer {
			r.step(&Event{Timer: true})
		}
		clear(out)
		out, r.out = r.out, out[:0]
		held := r.held
		r.held = 0
		done, err, room := r.done, r.err, !r.session.Full()
		r.mu.Unlock()
		if room {
			select {
			case r.room <- struct{}{}:
			default:
			}
		}
		p := r.parcel(ctx, len(out), replies, held)
		for i := range out {
			r.counts.answers(out[i].message)
			out[i].parcel = p
			if err := send(&out[i]); err != nil {
				p.drop()
				return err
			}
		}
		clear(out) // it is gRPC's now: nothing here keeps it in memory
		for i := range replies {
			if at := replies[i].At; at != 0 {
				r.counts.respond(r.host.Now() - at)
			}
		}
		clear(replies)
		if done {
			return err
		}
	}
}

// parcel is what n answers hold of the budgets, by the replies that they are made of and beside them; nil if that is nothing.
func (r *runner) parcel(ctx context.Context, n int, replies []partition.Reply, held int) *parcel {
	bytes := 0
	for i := range replies {
		bytes += replies[i].Bytes
	}
	if bytes = r.box.leave(bytes); bytes+held == 0 {
		return nil
	}
	return r.env.parcelOf(ctx, n, func() {
		r.box.left(bytes)
		r.env.GiveHeld(held)
	})
}

// unary runs a session whose only message is in and whose first answer ends it.
func unary[Out proto.Message](ctx context.Context, s *Server, session Session, in proto.Message) (Out, error) {
	var out Out
	r := s.newRunner(session)
	defer r.close()
	r.receive(&Event{Message: in})
	answer := answerOf(ctx)
	err := r.run(ctx, func(m *outgoing) error {
		out = m.message.(Out)
		if answer == nil {
			m.parcel.drop()
		} else {
			answer.parcel, answer.lent = m.parcel, m.lent
		}
		return nil
	})
	return out, err
}

// stream runs a session over a bidirectional stream. While the session is full nothing is received: gRPC's flow control reaches the
// client.
func stream[In proto.Message](ctx context.Context, s *Server, session Session, recv func() (In, error), send func(any) error) error {
	r := s.newRunner(session)
	defer r.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends when the call does: recv fails then
		for {
			m, err := recv()
			switch {
			case errors.Is(err, io.EOF):
				r.receive(&Event{Closed: true})
				return
			case err != nil:
				r.end(err)
				return
			case ctx.Err() != nil: // the call is over: what gRPC still has is nobody's
				return
			}
			r.receive(&Event{Message: m})
			for r.full() {
				select {
				case <-r.room:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return r.run(ctx, func(m *outgoing) error { return send(m.wire()) })
}

// serverStream runs a session whose only message is in and whose answers go on until the call ends.
func serverStream[Out proto.Message](ctx context.Context, s *Server, session Session, in proto.Message, send func(Out) error) error {
	r := s.newRunner(session)
	defer r.close()
	r.receive(&Event{Message: in})
	return r.run(ctx, func(m *outgoing) error {
		defer m.parcel.drop() // such answers are no batches: nobody counts how long they are on their way
		return send(m.message.(Out))
	})
}

// Produce implements lograft.v1.
func (s *Server) Produce(ctx context.Context, in *pb.ProduceRequest) (*pb.ProduceResponse, error) {
	return unary[*pb.ProduceResponse](ctx, s, NewProduce(s.envOf(ctx)), in)
}

// ProduceStream implements lograft.v1.
func (s *Server) ProduceStream(g pb.ProduceService_ProduceStreamServer) error {
	return stream(g.Context(), s, NewProduceStream(s.envOf(g.Context())), g.Recv, g.SendMsg)
}

// Fetch implements lograft.v1.
func (s *Server) Fetch(ctx context.Context, in *pb.FetchRequest) (*pb.FetchResponse, error) {
	return unary[*pb.FetchResponse](ctx, s, NewFetch(s.readerOf(ctx)), in)
}

// FetchStream implements lograft.v1.
func (s *Server) FetchStream(g pb.FetchService_FetchStreamServer) error {
	return stream(g.Context(), s, NewFetchStream(s.readerOf(g.Context())), g.Recv, g.SendMsg)
}

// ListOffsets implements lograft.v1.
func (s *Server) ListOffsets(ctx context.Context, in *pb.ListOffsetsRequest) (*pb.ListOffsetsResponse, error) {
	return unary[*pb.ListOffsetsResponse](ctx, s, NewListOffsets(s.envOf(ctx)), in)
}

// FetchPartitions implements lograft.v1.
func (s *Server) FetchPartitions(ctx context.Context, in *pb.FetchPartitionsRequest) (*pb.FetchPartitionsResponse, error) {
	return unary[*pb.FetchPartitionsResponse](ctx, s, NewFetchPartitions(s.readerOf(ctx)), in)
}

// Subscribe implements lograft.v1.
func (s *Server) Subscribe(g pb.FetchService_SubscribeServer) error {
	return stream(g.Context(), s, NewSubscribe(s.readerOf(g.Context())), g.Recv, g.SendMsg)
}

// OffsetForLeaderEpoch implements lograft.v1.
func (s *Server) OffsetForLeaderEpoch(ctx context.Context, in *pb.OffsetForLeaderEpochRequest) (*pb.OffsetForLeaderEpochResponse, error) {
	return unary[*pb.OffsetForLeaderEpochResponse](ctx, s, NewOffsetForLeaderEpoch(s.envOf(ctx)), in)
}

// ReleaseProducer implements lograft.v1.
func (s *Server) ReleaseProducer(ctx context.Context, in *pb.ReleaseProducerRequest) (*pb.ReleaseProducerResponse, error) {
	return unary[*pb.ReleaseProducerResponse](ctx, s, NewReleaseProducer(s.envOf(ctx)), in)
}

// WatchMetadata implements lograft.v1.
func (s *Server) WatchMetadata(in *pb.WatchMetadataRequest, g pb.ClusterService_WatchMetadataServer) error {
	return serverStream(g.Context(), s, NewWatchMetadata(s.envOf(g.Context())), in, g.Send)
}

// CreateTopic implements lograft.v1.
func (s *Server) CreateTopic(ctx context.Context, in *pb.CreateTopicRequest) (*pb.CreateTopicResponse, error) {
	return unary[*pb.CreateTopicResponse](ctx, s, NewCreateTopic(s.envOf(ctx)), in)
}

// DeleteTopic implements lograft.v1.
func (s *Server) DeleteTopic(ctx context.Context, in *pb.DeleteTopicRequest) (*pb.DeleteTopicResponse, error) {
	return unary[*pb.DeleteTopicResponse](ctx, s, NewDeleteTopic(s.envOf(ctx)), in)
}

// AlterTopic implements lograft.v1.
func (s *Server) AlterTopic(ctx context.Context, in *pb.AlterTopicRequest) (*pb.AlterTopicResponse, error) {
	return unary[*pb.AlterTopicResponse](ctx, s, NewAlterTopic(s.envOf(ctx)), in)
}

// AddPartitions implements lograft.v1.
func (s *Server) AddPartitions(ctx context.Context, in *pb.AddPartitionsRequest) (*pb.AddPartitionsResponse, error) {
	return unary[*pb.AddPartitionsResponse](ctx, s, NewAddPartitions(s.envOf(ctx)), in)
}

// TrimPartition implements lograft.v1.
func (s *Server) TrimPartition(ctx context.Context, in *pb.TrimPartitionRequest) (*pb.TrimPartitionResponse, error) {
	return unary[*pb.TrimPartitionResponse](ctx, s, NewTrimPartition(s.envOf(ctx)), in)
}

// DescribeTopic implements lograft.v1.
func (s *Server) DescribeTopic(ctx context.Context, in *pb.DescribeTopicRequest) (*pb.DescribeTopicResponse, error) {
	return unary[*pb.DescribeTopicResponse](ctx, s, NewDescribeTopic(s.envOf(ctx)), in)
}

// ListTopics implements lograft.v1.
func (s *Server) ListTopics(ctx context.Context, in *pb.ListTopicsRequest) (*pb.ListTopicsResponse, error) {
	return unary[*pb.ListTopicsResponse](ctx, s, NewListTopics(s.envOf(ctx)), in)
}

// GetMetadata implements lograft.v1.
func (s *Server) GetMetadata(ctx context.Context, in *pb.GetMetadataRequest) (*pb.GetMetadataResponse, error) {
	return unary[*pb.GetMetadataResponse](ctx, s, NewGetMetadata(s.envOf(ctx)), in)
}

// InitProducerId implements lograft.v1.
func (s *Server) InitProducerId(ctx context.Context, in *pb.InitProducerIdRequest) (*pb.InitProducerIdResponse, error) {
	return unary[*pb.InitProducerIdResponse](ctx, s, NewInitProducerID(s.envOf(ctx)), in)
}

// DescribeReplicas implements lograft.v1.
func (s *Server) DescribeReplicas(ctx context.Context, in *pb.DescribeReplicasRequest) (*pb.DescribeReplicasResponse, error) {
	return unary[*pb.DescribeReplicasResponse](ctx, s, NewDescribeReplicas(s.envOf(ctx)), in)
}

// PutUser implements lograft.v1.
func (s *Server) PutUser(ctx context.Context, in *pb.PutUserRequest) (*pb.PutUserResponse, error) {
	return unary[*pb.PutUserResponse](ctx, s, NewPutUser(s.envOf(ctx)), in)
}

// DeleteUser implements lograft.v1.
func (s *Server) DeleteUser(ctx context.Context, in *pb.DeleteUserRequest) (*pb.DeleteUserResponse, error) {
	return unary[*pb.DeleteUserResponse](ctx, s, NewDeleteUser(s.envOf(ctx)), in)
}

// ListUsers implements lograft.v1.
func (s *Server) ListUsers(ctx context.Context, in *pb.ListUsersRequest) (*pb.ListUsersResponse, error) {
	return unary[*pb.ListUsersResponse](ctx, s, NewListUsers(s.envOf(ctx)), in)
}

// ChangeAcls implements lograft.v1.
func (s *Server) ChangeAcls(ctx context.Context, in *pb.ChangeAclsRequest) (*pb.ChangeAclsResponse, error) {
	return unary[*pb.ChangeAclsResponse](ctx, s, NewChangeACLs(s.envOf(ctx)), in)
}

// ListAcls implements lograft.v1.
func (s *Server) ListAcls(ctx context.Context, in *pb.ListAclsRequest) (*pb.ListAclsResponse, error) {
	return unary[*pb.ListAclsResponse](ctx, s, NewListACLs(s.envOf(ctx)), in)
}

// PutQuota implements lograft.v1.
func (s *Server) PutQuota(ctx context.Context, in *pb.PutQuotaRequest) (*pb.PutQuotaResponse, error) {
	return unary[*pb.PutQuotaResponse](ctx, s, NewPutQuota(s.envOf(ctx)), in)
}

// ListQuotas implements lograft.v1.
func (s *Server) ListQuotas(ctx context.Context, in *pb.ListQuotasRequest) (*pb.ListQuotasResponse, error) {
	return unary[*pb.ListQuotasResponse](ctx, s, NewListQuotas(s.envOf(ctx)), in)
}
