package codec

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "lograft/api/lograft/v1"
)

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// pieces cuts b as gRPC does, so that a message arrives in many buffers.
func pieces(b []byte, size int) (out mem.BufferSlice) {
	for len(b) > 0 {
		n := min(size, len(b))
		out = append(out, mem.SliceBuffer(bytes.Clone(b[:n])))
		b = b[n:]
	}
	return out
}

func samples() []proto.Message {
	return []proto.Message{
		&pb.ProduceStreamRequest{CorrelationId: 7, Request: &pb.ProduceRequest{Partition: &pb.PartitionRef{Topic: "t", TopicId: noise(16), Partition: 3}, Batch: noise(100 << 10), TimeoutMs: 9}},
		&pb.ProduceStreamRequest{CorrelationId: 7, Request: &pb.ProduceRequest{Batch: noise(100)}},
		&pb.FetchStreamResponse{CorrelationId: 8, Response: &pb.FetchResponse{Batches: [][]byte{noise(10), noise(70000), noise(20), noise(5000), {}}, HighWatermark: 5, Session: noise(24)}},
		&pb.FetchResponse{Records: []*pb.Record{{Key: noise(9), Value: noise(9000)}, {Value: noise(3)}, {Value: noise(4000), Headers: []*pb.Header{{Key: "k", Value: noise(2000)}}}}, NextOffset: 3},
		&pb.GetMetadataResponse{ClusterName: "c", Topics: []*pb.Topic{{Name: "a", Partitions: make200()}, {Name: "b"}}, AutoCreate: true},
		&pb.InitProducerIdRequest{},
	}
}

func make200() (out []*pb.Partition) {
	for i := range 200 {
		out = append(out, &pb.Partition{Number: int32(i), Group: noise(16), Replicas: []*pb.Replica{{Id: 1, Node: 2}}})
	}
	return out
}

// Both ends understand each other and every stock protobuf program.
func TestCodecSpeaksProtobuf(t *testing.T) {
	for _, m := range samples() {
		sent, err := Codec{}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		wire := sent.Materialize()
		stockRead := m.ProtoReflect().New().Interface()
		if err := proto.Unmarshal(wire, stockRead); err != nil || !proto.Equal(stockRead, m) {
			t.Errorf("%T: a stock decoder reads something else (%v)", m, err)
		}
		stockWire, _ := proto.Marshal(m)
		for _, w := range [][]byte{wire, stockWire} {
			got := m.ProtoReflect().New().Interface()
			if err := (Codec{}).Unmarshal(pieces(w, 16<<10), got); err != nil || !proto.Equal(got, m) {
				t.Errorf("%T: read back differently (%v)", m, err)
			}
		}
	}
}

// A payload goes out as the very slice that was put in, and comes in as a part of the one buffer that the message was joined into.
func TestPayloadsAreNotCopied(t *testing.T) {
	batch := noise(100 << 10)
	m := &pb.ProduceStreamRequest{CorrelationId: 1, Request: &pb.ProduceRequest{Batch: batch, Partition: &pb.PartitionRef{Topic: "t"}}}
	sent, err := Codec{}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	shared := 0
	for _, b := range sent {
		if d := b.ReadOnlyData(); len(d) > 0 && &d[0] == &batch[0] {
			shared++
		}
	}
	if shared != 1 {
		t.Errorf("the batch is in %d of the %d buffers sent, want it in one, by reference", shared, len(sent))
	}
	in := pieces(sent.Materialize(), 16<<10)
	perRead := testing.AllocsPerRun(20, func() {
		var got pb.ProduceStreamRequest
		if err := (Codec{}).Unmarshal(in, &got); err != nil {
			t.Fatal(err)
		}
	})
	bytesPerRead := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			var got pb.ProduceStreamRequest
			_ = Codec{}.Unmarshal(in, &got)
		}
	}).AllocedBytesPerOp()
	if perRead > 12 || bytesPerRead > int64(len(batch)+len(batch)/8) {
		t.Errorf("a message of %d bytes takes %.0f allocations of %d bytes: want one of its size and a few small ones", len(batch), perRead, bytesPerRead)
	}
}

// Whatever the bytes are, the result is the stock decoder's: fields twice, in any order, unknown, cut short.
func TestReadsAsStockDoes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 2000 {
		var wire []byte
		for range 1 + rng.IntN(12) {
			body := noise([]int{0, 3, 1500, 5000}[rng.IntN(4)])
			number := []protowire.Number{1, 1, 2, 5, 8, 70}[rng.IntN(6)] // batches, records, a number, session, unknown
			switch {
			case number == 5:
				wire = protowire.AppendVarint(protowire.AppendTag(wire, number, protowire.VarintType), rng.Uint64())
			case number == 2:
				record, _ := proto.Marshal(&pb.Record{Key: noise(rng.IntN(9)), Value: body})
				wire = protowire.AppendBytes(protowire.AppendTag(wire, number, protowire.BytesType), record)
			default:
				wire = protowire.AppendBytes(protowire.AppendTag(wire, number, protowire.BytesType), body)
			}
		}
		if rng.IntN(10) == 0 {
			wire = wire[:len(wire)/2]
		}
		var want, got pb.FetchResponse
		wantErr := proto.Unmarshal(wire, &want)
		gotErr := Codec{}.Unmarshal(pieces(wire, 4096), &got)
		if (wantErr == nil) != (gotErr == nil) {
			t.Fatalf("stock: %v, ours: %v", wantErr, gotErr)
		}
		if wantErr == nil && !proto.Equal(&want, &got) {
			t.Fatalf("%d bytes are read differently", len(wire))
		}
	}
}

func BenchmarkProduce64K(b *testing.B) {
	m := &pb.ProduceStreamRequest{CorrelationId: 1, Request: &pb.ProduceRequest{Batch: noise(64 << 10), Partition: &pb.PartitionRef{Topic: "t"}}}
	b.Run("send", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			_, _ = Codec{}.Marshal(m)
		}
	})
	w, _ := proto.Marshal(m)
	in := pieces(w, 16<<10)
	b.Run("receive", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			var got pb.ProduceStreamRequest
			_ = Codec{}.Unmarshal(in, &got)
		}
	})
}

// A message with more elements than allowed is refused before any is decoded, however small its bytes are: lists of messages, at any depth,
// of numbers, packed or not, and of strings. What is allowed passes, and who counts is told.
func TestElementsAreBounded(t *testing.T) {
	const most = 1000
	messages := func(number protowire.Number, n int) (b []byte) {
		for range n {
			b = protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), nil)
		}
		return b
	}
	within := func(number protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), b)
	}
	told := 0
	c := Codec{ElementsMax: most, Malformed: func(error) { told++ }}
	for _, x := range []struct {
		name string
		m    proto.Message
		wire []byte
		good bool
	}{
		{"as many messages as allowed", &pb.ChangeAclsRequest{}, messages(2, most), true},
		{"too many messages", &pb.ChangeAclsRequest{}, messages(2, most+1), false},
		{"16 MiB of them", &pb.ChangeAclsRequest{}, messages(2, 8<<20), false},
		{"too many within", &pb.FetchStreamResponse{}, within(2, messages(2, most+1)), false},
		{"too many strings", &pb.GetMetadataRequest{}, messages(1, most+1), false},
		{"large bytes in few elements", &pb.FetchResponse{}, within(1, make([]byte, 1<<20)), true},
		{"nothing that we know", &pb.InitProducerIdRequest{}, messages(99, 2*most), true},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(x.wire)}, x.m)
		runtime.ReadMemStats(&after)
		if (err == nil) != x.good {
			t.Errorf("%s: %v", x.name, err)
		}
		if cost := after.TotalAlloc - before.TotalAlloc; !x.good && cost > 2*uint64(len(x.wire))+1<<20 {
			t.Errorf("%s: %d bytes cost %d", x.name, len(x.wire), cost)
		}
	}
	if told != 4 {
		t.Errorf("%d refusals were told, want 4", told)
	}
}
