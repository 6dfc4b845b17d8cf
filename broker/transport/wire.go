package transport

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

// The peer service has one method, a stream of raw messages: greeting, then frames and clocks. It is declared by hand because no
// message of it is protobuf.
const (
	serviceName = "lograft.peer.v1.Mesh"
	methodName  = "/" + serviceName + "/Stream"
)

// parts is an outgoing message: its slices are sent one after another without being joined, and are immutable.
type parts [][]byte

// rawCodec hands bytes to gRPC and takes them from it as they are. What is received is joined into one slice, not zeroed first, that
// the garbage collector owns: the one copy between the socket and the log.
type rawCodec struct{}

func (rawCodec) Name() string { return "lograft-raw" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	p, ok := v.(parts)
	if !ok {
		return nil, fmt.Errorf("raw codec: can't send %T", v)
	}
	out := make(mem.BufferSlice, 0, len(p))
	for _, b := range p {
		out = append(out, mem.SliceBuffer(b))
	}
	return out, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	p, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("raw codec: can't receive %T", v)
	}
	var few [16][]byte
	pieces := few[:0]
	for _, b := range data {
		pieces = append(pieces, b.ReadOnlyData())
	}
	*p = bytes.Join(pieces, nil)
	return nil
}

func serviceDesc(m *Mesh) *grpc.ServiceDesc {
	return &grpc.ServiceDesc{ServiceName: serviceName, HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{
		StreamName: "Stream", ServerStreams: true, ClientStreams: true,
		Handler: func(_ any, s grpc.ServerStream) error { return m.serve(s) },
	}}}
}

// A clock message: kind u8=2 | wall clock ms i64 | flags u8 (1 the disk is at its reserve). Frames begin with frameVersion.
const (
	clockKind     = 2
	clockBytes    = 1 + 8 + 1
	clockDiskFull = 1
)

func encodeClock(wall int64, full bool) []byte {
	b := binary.LittleEndian.AppendUint64([]byte{clockKind}, uint64(wall))
	if full {
		return append(b, clockDiskFull)
	}
	return append(b, 0)
}

func decodeClock(b []byte) (wall int64, full, ok bool) {
	if len(b) != clockBytes || b[0] != clockKind || b[9] > clockDiskFull {
		return 0, false, false
	}
	return int64(binary.LittleEndian.Uint64(b[1:])), b[9] == clockDiskFull, true
}
