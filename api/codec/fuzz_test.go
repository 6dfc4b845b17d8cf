package codec

import (
	"bytes"
	"runtime"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "lograft/api/lograft/v1"
)

// nested is a field of messages within messages.
func nested(number protowire.Number, depth int) []byte {
	var b []byte
	for range depth {
		b = protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), b)
	}
	return b
}

// groups are groups within groups, which only unknown fields are.
func groups(depth int) []byte {
	var b []byte
	for range depth {
		b = protowire.AppendTag(b, 99, protowire.StartGroupType)
	}
	for range depth {
		b = protowire.AppendTag(b, 99, protowire.EndGroupType)
	}
	return b
}

// What comes from the network is read as the stock decoder reads it, or refused as it refuses; never a panic, and never more memory than
// messages of that size may take.
func FuzzUnmarshal(f *testing.F) {
	for i, m := range samples() {
		sent, err := Codec{}.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), sent.Materialize())
	}
	f.Add(uint8(0), nested(1, 2000))
	f.Add(uint8(3), groups(3000))
	f.Add(uint8(3), bytes.Repeat([]byte{0x0a, 0x00}, 3000))
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		of := []proto.Message{&pb.ProduceStreamRequest{}, &pb.ProduceRequest{}, &pb.FetchStreamResponse{}, &pb.FetchResponse{}, &pb.GetMetadataResponse{}, &pb.FetchPartitionsRequest{},
			&pb.SubscribeRequest{}, &pb.JoinRequest{}, &pb.ChangeAclsRequest{}}
		ours := of[int(which)%len(of)]
		stock := ours.ProtoReflect().New().Interface()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := Codec{ElementsMax: 1000}.Unmarshal(pieces(data, 16<<10), ours)
		runtime.ReadMemStats(&after)
		if cost := after.TotalAlloc - before.TotalAlloc; cost > 8<<20+20*uint64(len(data))+1000*512 {
			t.Fatalf("%d bytes cost %d bytes of memory", len(data), cost)
		}
		stockErr := proto.Unmarshal(data, stock)
		if err == nil && (stockErr != nil || !proto.Equal(ours, stock)) {
			t.Fatalf("read as %v, by the stock decoder as %v (%v)", ours, stock, stockErr)
		}
		if err != nil && stockErr == nil && len(data) < 1000 {
			t.Fatalf("refused: %v", err)
		}
	})
}
