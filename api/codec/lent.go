package codec

import (
	"bytes"
	"sync/atomic"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// Lent is a message that holds memory which is used again. Free is called once, by any goroutine, when gRPC has no use of the message's
// bytes any more: they are with the kernel, or will not be sent. It may never be called, if the connection ends first.
type Lent struct {
	Message proto.Message
	Free    func()
}

// watch makes the pieces of a message tell when gRPC has freed all of them.
func (l Lent) watch(out mem.BufferSlice) mem.BufferSlice {
	w := &watched{free: l.Free}
	w.left.Store(1) // this function's, so that it can't end before all are counted
	for i, b := range out {
		piece := b.ReadOnlyData()
		if mem.IsBelowBufferPoolingThreshold(cap(piece)) { // gRPC does not tell of such
			out[i] = mem.SliceBuffer(bytes.Clone(piece))
			continue
		}
		w.left.Add(1)
		out[i] = mem.NewBuffer(&piece, w)
	}
	w.done()
	return out
}

// watched counts the pieces of one message that gRPC holds. It is the pool that they go back to.
type watched struct {
	left atomic.Int32
	free func()
}

func (w *watched) done() {
	if w.left.Add(-1) == 0 {
		w.free()
	}
}

// Get implements mem.BufferPool; nobody asks.
func (w *watched) Get(n int) *[]byte {
	b := make([]byte, n)
	return &b
}

// Put implements mem.BufferPool: a piece was freed.
func (w *watched) Put(*[]byte) { w.done() }
