package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	pb "lograft/api/lograft/v1"
	"lograft/record"
)

// loginAttacks guess, and prove what nobody can.
var loginAttacks = []attack{
	{"failing logins", func(s *siege) { s.calls(40, "", failLogin) }, 128 << 20, nil},
	{"logins without an end", func(s *siege) {
		s.calls(40, "", func(ctx context.Context, conn *grpc.ClientConn) error {
			stream, err := pb.NewAccessServiceClient(conn).Authenticate(ctx)
			if err == nil {
				_, err = stream.Recv() // ends when the broker has waited enough
			}
			return err
		})
	}, 96 << 20, nil},
	{"garbage for tokens", func(s *siege) {
		s.calls(16, "", func(ctx context.Context, conn *grpc.ClientConn) error {
			junk := strings.Repeat(string(rune('a'+rand.IntN(26))), rand.IntN(8000)) + ".eyJzdWIiOiJhZG1pbiJ9." + strings.Repeat("A", 86)
			return refusedWith(codes.Unauthenticated, conn.Invoke(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+junk), listTopics, &pb.ListTopicsRequest{}, &pb.ListTopicsResponse{}))
		})
	}, 64 << 20, nil},
	{"nobody's calls", func(s *siege) {
		s.calls(16, "", func(ctx context.Context, conn *grpc.ClientConn) error {
			return refusedWith(codes.Unauthenticated, conn.Invoke(ctx, listTopics, &pb.ListTopicsRequest{}, &pb.ListTopicsResponse{}))
		})
	}, 64 << 20, nil},
	{"handshakes", func(s *siege) {
		s.each(8, func(_ context.Context, i int) error {
			conn, err := s.secureFrom(i, s.listeners()[i%3], []string{"", "mallory"}[i%2])
			if err == nil {
				s.did()
				conn.Close()
			}
			return err
		})
	}, 64 << 20, nil},
}

// greedyAttacks are by mallory, who has proved who he is and may read and write one topic.
var greedyAttacks = []attack{
	{"fetches that are not read", func(s *siege) { s.calls(16, "mallory", neverRead(false)) }, 640 << 20, fillLoot},
	{"plain ones", func(s *siege) { s.calls(16, "mallory", neverRead(true)) }, 640 << 20, nil},
	{"a subscription not read", func(s *siege) { s.calls(16, "mallory", neverReadSubscription) }, 640 << 20, nil},
	{"errors that are not read", func(s *siege) { s.calls(8, "mallory", neverReadErrors) }, 128 << 20, nil},
	{"fetches of 2 GiB", func(s *siege) { s.calls(8, "mallory", fetch2GiB) }, 384 << 20, nil},
	{"counts of 2^31", func(s *siege) { s.calls(8, "mallory", hugeCounts) }, 96 << 20, nil},
	{"many tiny elements", func(s *siege) { s.calls(4, "mallory", tinyElements) }, 512 << 20, nil},
	{"deep nesting", func(s *siege) { s.calls(8, "mallory", deepNesting) }, 192 << 20, nil},
	{"bombs", func(s *siege) { s.calls(8, "mallory", fetchBombs) }, 128 << 20, fillBombs},
	{"a compressed call", func(s *siege) { s.calls(8, "mallory", compressedCall) }, 96 << 20, nil},
}

// calls has n attackers of a user make calls, each on a connection of its own, until the siege is over.
func (s *siege) calls(n int, user string, act func(context.Context, *grpc.ClientConn) error) {
	s.each(n, func(ctx context.Context, i int) error {
		conn, err := s.dial(i, user)
		if err != nil {
			return err
		}
		defer conn.Close()
		for ctx.Err() == nil {
			s.did()
			err := act(ctx, conn)
			switch status.Code(err) {
			case codes.OK:
			case codes.ResourceExhausted, codes.Unavailable: // told to wait: a worse client would not, but would be told the same
				time.Sleep(5 * time.Millisecond)
			default:
				end, _ := ctx.Deadline()
				over := status.Code(err) == codes.DeadlineExceeded && time.Until(end) < time.Second // the broker's clock may say so first
				if ctx.Err() == nil && !over {
					s.Errorf("node %d answers an attacker: %v", s.target.ID, err)
					return errOver
				}
			}
		}
		return errOver
	})
}

// refusedWith is nil if a call was refused as it should be, or for being too many.
func refusedWith(want codes.Code, err error) error {
	if code := status.Code(err); code == want || code == codes.ResourceExhausted || code == codes.Unavailable || code == codes.Canceled || code == codes.DeadlineExceeded {
		return nil
	}
	if err == nil {
		return status.Error(codes.Unknown, "what should be refused was served")
	}
	return err
}

func failLogin(ctx context.Context, conn *grpc.ClientConn) error {
	stream, err := pb.NewAccessServiceClient(conn).Authenticate(ctx)
	if err != nil {
		return err
	}
	var m *pb.AuthenticateResponse
	for _, say := range []string{"n,,n=admin,r=abcdef", ""} {
		if say == "" {
			nonce, _, _ := strings.Cut(m.GetMessage(), ",")
			say = "c=biws," + nonce + ",p=" + strings.Repeat("A", 43) + "="
		}
		if err := stream.Send(&pb.AuthenticateRequest{Mechanism: "SCRAM-SHA-256", Message: say}); err != nil {
			_, err = stream.Recv()
			return refusedWith(codes.Unauthenticated, err)
		}
		if m, err = stream.Recv(); err != nil {
			return refusedWith(codes.Unauthenticated, err)
		}
	}
	return status.Error(codes.Unknown, "a wrong proof was taken")
}

func loot() *pb.PartitionRef { return &pb.PartitionRef{Topic: "loot"} }

func produceLoot(ctx context.Context, conn *grpc.ClientConn, batch []byte) error {
	_, err := pb.NewProduceServiceClient(conn).Produce(ctx, &pb.ProduceRequest{Partition: loot(), Batch: batch, TimeoutMs: 10_000})
	return err
}

// lootConn is mallory's connection to the leader of loot, which may be another broker than the target.
func (s *siege) lootConn() *grpc.ClientConn {
	id, err := s.c.WaitLeader(s.faultRun.ctx, "loot", 0)
	must(s.T, err)
	conn, err := s.dialAt(0, s.c.Node(id).Client, "mallory")
	must(s.T, err)
	return conn
}

func lootBatch(codec record.Codec, records, valueBytes int, fill func([]byte)) record.Batch {
	b := record.NewBuilder(record.BuilderOptions{Codec: codec, ProducerID: -1})
	for range records {
		v := make([]byte, valueBytes)
		fill(v)
		if b.Append(record.Record{Value: v}) != nil {
			return nil
		}
	}
	batch, err := b.Build()
	if err != nil {
		return nil
	}
	return batch
}

// fillLoot appends 32 MiB that do not shrink.
func fillLoot(s *siege) {
	conn := s.lootConn()
	defer conn.Close()
	rng := rand.NewChaCha8([32]byte{1})
	batch := lootBatch(record.CodecNone, 1000, 1000, func(v []byte) { _, _ = rng.Read(v) })
	for range 32 {
		must(s.T, produceLoot(s.faultRun.ctx, conn, batch))
	}
}

// neverRead asks for a thousand answers of 8 MiB on one stream and takes none.
func neverRead(plain bool) func(context.Context, *grpc.ClientConn) error {
	return func(ctx context.Context, conn *grpc.ClientConn) error {
		stream, err := pb.NewFetchServiceClient(conn).FetchStream(ctx)
		if err != nil {
			return err
		}
		for i := range 1000 {
			if err := stream.Send(&pb.FetchStreamRequest{CorrelationId: uint64(i), Request: &pb.FetchRequest{Partition: loot(), MaxBytes: 8 << 20, PlainRecords: plain, Consistency: pb.Consistency_CONSISTENCY_COMMITTED}}); err != nil {
				return nil // it was ended
			}
		}
		<-ctx.Done()
		return nil
	}
}

func neverReadSubscription(ctx context.Context, conn *grpc.ClientConn) error {
	for range 20 {
		stream, err := pb.NewFetchServiceClient(conn).Subscribe(ctx)
		if err != nil {
			return err
		}
		start := &pb.SubscribeStart{Credit: &pb.SubscribeCredit{Records: math.MaxInt64, Bytes: math.MaxInt64}, PlainRecords: true, Consistency: pb.Consistency_CONSISTENCY_COMMITTED}
		for range 100 {
			start.Partitions = append(start.Partitions, &pb.SubscribePartition{Partition: loot()})
		}
		if err := stream.Send(&pb.SubscribeRequest{Kind: &pb.SubscribeRequest_Start{Start: start}}); err != nil {
			return nil
		}
	}
	<-ctx.Done()
	return nil
}

// neverReadErrors asks for what is refused at once, for ever, on a stream that is not read.
func neverReadErrors(ctx context.Context, conn *grpc.ClientConn) error {
	stream, err := pb.NewFetchServiceClient(conn).FetchStream(ctx)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		if stream.Send(&pb.FetchStreamRequest{Request: &pb.FetchRequest{Partition: loot(), Offset: -1}}) != nil {
			return nil
		}
	}
	return nil
}

func fetch2GiB(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := pb.NewFetchServiceClient(conn).Fetch(ctx, &pb.FetchRequest{Partition: loot(), MaxBytes: math.MaxInt32, MinBytes: math.MaxInt32, WaitMs: 1000, Consistency: pb.Consistency_CONSISTENCY_COMMITTED},
		grpc.MaxCallRecvMsgSize(64<<20))
	return err
}

// reseal makes a batch's checksum right after its header was changed.
func reseal(b []byte) {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
}

// hugeCounts sends batches that say they hold 2^31-1 records, in a few bytes of any codec.
func hugeCounts(ctx context.Context, conn *grpc.ClientConn) error {
	for codec := record.CodecNone; codec <= record.CodecZstd; codec++ {
		b := bytes.Clone(lootBatch(codec, 1, 10, func([]byte) {}))
		binary.BigEndian.PutUint32(b[57:], math.MaxInt32)
		binary.BigEndian.PutUint32(b[23:], math.MaxInt32-1)
		reseal(b)
		if err := refusedWith(codes.InvalidArgument, produceLoot(ctx, conn, b)); err != nil && status.Code(err) != codes.FailedPrecondition { // NOT_LEADER
			return err
		}
	}
	return nil
}

// tinyElements sends 15 MiB of empty messages within a message, and of records without anything.
func tinyElements(ctx context.Context, conn *grpc.ClientConn) error {
	wire := bytes.Repeat(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), nil), 15<<19)
	m := &emptypb.Empty{}
	m.ProtoReflect().SetUnknown(wire)
	return refusedWith(codes.Internal, conn.Invoke(ctx, "/lograft.v1.FetchService/FetchPartitions", m, &pb.FetchPartitionsResponse{}))
}

// deepNesting sends groups within groups and messages within messages.
func deepNesting(ctx context.Context, conn *grpc.ClientConn) error {
	var groups []byte
	for range 100_000 {
		groups = protowire.AppendTag(groups, 99, protowire.StartGroupType)
	}
	nested := []byte{}
	for range 1000 {
		nested = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), nested)
	}
	for _, wire := range [][]byte{groups, nested} {
		out := rawMessage(wire)
		err := conn.Invoke(ctx, "/lograft.v1.FetchService/Fetch", &out, &pb.FetchResponse{}, grpc.ForceCodec(rawCodec{}))
		if code := status.Code(err); err == nil || code != codes.Internal && code != codes.PermissionDenied && code != codes.Unavailable && ctx.Err() == nil && code != codes.Unimplemented && code != codes.NotFound && code != codes.InvalidArgument &&
			code != codes.DeadlineExceeded && code != codes.Canceled {
			return status.Errorf(codes.Unknown, "deep nesting: %v", err)
		}
	}
	return nil
}

// rawMessage goes out as it is; answers are read as protobuf.
type rawMessage []byte

type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error) {
	return *v.(*rawMessage), nil
}
func (rawCodec) Unmarshal(b []byte, v any) error { return proto.Unmarshal(b, v.(proto.Message)) }

// fillBombs appends batches of every codec that inflate far beyond what they are: each is a good batch.
func fillBombs(s *siege) {
	conn := s.lootConn()
	defer conn.Close()
	for codec := record.CodecGzip; codec <= record.CodecZstd; codec++ {
		for _, n := range []int{12 << 20, 48 << 20} { // one that plain records may hold, and one that they may not
			batch := lootBatch(codec, 2, n/2, func([]byte) {})
			if len(batch) > 2<<20 { // snappy shrinks too little
				batch = lootBatch(codec, 2, 12<<20/2, func([]byte) {})
			}
			must(s.T, produceLoot(s.faultRun.ctx, conn, batch))
		}
	}
	headers := record.NewBuilder(record.BuilderOptions{Codec: record.CodecZstd, ProducerID: -1})
	must(s.T, headers.Append(record.Record{Headers: make([]record.Header, 2<<20)})) // two bytes each
	batch, err := headers.Build()
	must(s.T, err)
	must(s.T, produceLoot(s.faultRun.ctx, conn, batch))
}

// bombRecords is how many records fillBombs appends.
const bombRecords = 4*(2+2) + 1

// fetchBombs asks the broker to inflate them, from each on.
func fetchBombs(ctx context.Context, conn *grpc.ClientConn) error {
	fetches := pb.NewFetchServiceClient(conn)
	first, err := fetches.Fetch(ctx, &pb.FetchRequest{Partition: loot(), MaxBytes: 1, Consistency: pb.Consistency_CONSISTENCY_COMMITTED})
	for offset := first.GetHighWatermark() - bombRecords; err == nil && offset <= first.GetHighWatermark(); offset++ {
		_, err = fetches.Fetch(ctx, &pb.FetchRequest{Partition: loot(), Offset: offset, MaxBytes: 8 << 20, PlainRecords: true, Consistency: pb.Consistency_CONSISTENCY_COMMITTED},
			grpc.MaxCallRecvMsgSize(128<<20))
		switch status.Code(err) {
		case codes.InvalidArgument, codes.ResourceExhausted, codes.OutOfRange, codes.Canceled, codes.DeadlineExceeded:
			err = nil
		}
	}
	return err
}

// compressedCall sends a message that gRPC itself would have to inflate: a MiB of zeros, a thousand times.
func compressedCall(ctx context.Context, conn *grpc.ClientConn) error {
	return refusedWith(codes.Unimplemented, conn.Invoke(ctx, "/lograft.v1.FetchService/Fetch", &pb.FetchRequest{Session: make([]byte, 8<<20)}, &pb.FetchResponse{}, grpc.UseCompressor(gzip.Name)))
}
