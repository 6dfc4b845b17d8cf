// Package codec is the gRPC codec of the client API. On the wire it is plain protobuf ("proto"), so any client in any language works
// with it; in memory it does not copy what is big. Bytes fields are sent by reference, in order of their appearance, and a received
// message is joined into one slice that its bytes fields share. Messages below LargeBytes take the stock way, which is cheaper there.
//
// Ownership: a message that was sent is immutable until it has left the socket; so are its bytes fields. Who wants to be told when that
// is sends it as Lent. A received message's bytes fields share one allocation, which lives as long as any of them.
package codec

import (
	"bytes"
	"fmt"

	"google.golang.org/grpc/encoding"
	stock "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// LargeBytes is the size from which a message is worth taking apart, fieldBytes that from which a bytes field goes by reference.
const (
	LargeBytes = 4 << 10
	fieldBytes = 1 << 10
)

// Codec implements encoding.CodecV2. It has no state.
type Codec struct {
	// ElementsMax bounds what a received message may hold of messages within it and of elements of its lists: each takes two bytes on the
	// wire or even one, and many times that in memory. It is checked before anything is decoded. 0: no bound.
	ElementsMax int
	// Malformed, if not nil, is told of every received message that is refused.
	Malformed func(error)
}

var _ encoding.CodecV2 = Codec{}

// Name says what is on the wire: protobuf.
func (Codec) Name() string { return stock.Name }

// Marshal implements encoding.CodecV2. v is a proto.Message or a Lent.
func (c Codec) Marshal(v any) (mem.BufferSlice, error) {
	if lent, ok := v.(Lent); ok {
		out, err := c.Marshal(lent.Message)
		return lent.watch(out), err
	}
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("codec: can't send %T: it is no protobuf message", v)
	}
	size := proto.Size(m)
	if size < LargeBytes {
		b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(make([]byte, 0, size), m)
		return mem.BufferSlice{mem.SliceBuffer(b)}, err
	}
	var w writer
	if err := w.message(m.ProtoReflect()); err != nil {
		return nil, err
	}
	w.cut()
	return w.out, nil
}

// writer collects a message: small fields are encoded into head, big ones stand in out by reference.
type writer struct {
	out  mem.BufferSlice
	head []byte // what is encoded since the last reference
}

func (w *writer) cut() {
	if len(w.head) > 0 {
		w.out = append(w.out, mem.SliceBuffer(w.head))
		w.head = nil
	}
}

func (w *writer) reference(number protowire.Number, b []byte) {
	w.head = protowire.AppendVarint(protowire.AppendTag(w.head, number, protowire.BytesType), uint64(len(b)))
	if len(b) < fieldBytes {
		w.head = append(w.head, b...)
		return
	}
	w.cut()
	w.out = append(w.out, mem.SliceBuffer(b))
}

// message writes m: first everything small in the stock way, then what is big. Protobuf leaves the order of fields open; that of a
// field's own elements is kept.
func (w *writer) message(m protoreflect.Message) error {
	small := m.New()
	var big []protoreflect.FieldDescriptor
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if isBig(fd, v) {
			big = append(big, fd)
		} else {
			small.Set(fd, v)
		}
		return true
	})
	small.SetUnknown(m.GetUnknown())
	var err error
	if w.head, err = (proto.MarshalOptions{}).MarshalAppend(w.head, small.Interface()); err != nil {
		return err
	}
	for _, fd := range big {
		v := m.Get(fd)
		if !fd.IsList() {
			if err := w.value(fd, v); err != nil {
				return err
			}
			continue
		}
		for i := range v.List().Len() {
			if err := w.value(fd, v.List().Get(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writer) value(fd protoreflect.FieldDescriptor, v protoreflect.Value) error {
	if fd.Kind() == protoreflect.BytesKind {
		w.reference(fd.Number(), v.Bytes())
		return nil
	}
	size := proto.Size(v.Message().Interface())
	w.head = protowire.AppendVarint(protowire.AppendTag(w.head, fd.Number(), protowire.BytesType), uint64(size))
	return w.message(v.Message())
}

// isBig reports whether a field is, or holds, bytes that are worth a reference.
func isBig(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
	big := func(v protoreflect.Value) bool {
		if fd.Kind() == protoreflect.BytesKind {
			return len(v.Bytes()) >= fieldBytes
		}
		return proto.Size(v.Message().Interface()) >= fieldBytes
	}
	switch {
	case fd.IsMap() || fd.Kind() != protoreflect.BytesKind && fd.Kind() != protoreflect.MessageKind:
		return false
	case !fd.IsList():
		return big(v)
	}
	for i := range v.List().Len() {
		if big(v.List().Get(i)) {
			return true
		}
	}
	return false
}

// Unmarshal implements encoding.CodecV2.
func (c Codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("codec: can't receive %T: it is no protobuf message", v)
	}
	err := c.unmarshal(Join(data), m)
	if err != nil && c.Malformed != nil {
		c.Malformed(err)
	}
	return err
}

func (c Codec) unmarshal(buf []byte, m proto.Message) error {
	if c.ElementsMax > 0 && len(buf) > c.ElementsMax && elements(buf, m.ProtoReflect().Descriptor(), c.ElementsMax, depthMax) < 0 {
		return fmt.Errorf("codec: %s of %d bytes holds more than %d elements: send fewer at once", m.ProtoReflect().Descriptor().Name(), len(buf), c.ElementsMax)
	}
	if len(buf) < LargeBytes {
		return proto.Unmarshal(buf, m)
	}
	proto.Reset(m)
	return read(buf, m.ProtoReflect(), depthMax)
}

// elements counts a message's elements down from left; it is negative if they are too many, or nested too deeply to be ours. What is
// malformed counts for nothing here: the decoder will say so.
func elements(buf []byte, d protoreflect.MessageDescriptor, left, depth int) int {
	fields := d.Fields()
	for len(buf) > 0 && left >= 0 {
		number, kind, n := protowire.ConsumeTag(buf)
		if n < 0 {
			return left
		}
		size := protowire.ConsumeFieldValue(number, kind, buf[n:])
		if size < 0 {
			return left
		}
		field := buf[n : n+size]
		buf = buf[n+size:]
		fd := fields.ByNumber(number)
		switch {
		case fd == nil:
		case fd.Message() != nil && kind == protowire.BytesType:
			if depth == 0 {
				return -1
			}
			value, _ := protowire.ConsumeBytes(field)
			left = elements(value, fd.Message(), left-1, depth-1)
		case fd.IsList() && kind == protowire.BytesType && fd.Kind() != protoreflect.BytesKind && fd.Kind() != protoreflect.StringKind:
			left -= len(field) // packed numbers: a byte each at the least
		case fd.IsList():
			left--
		}
	}
	return left
}

// depthMax bounds messages within messages; what lies deeper is left to the stock decoder.
const depthMax = 16

// read takes buf apart, which the message keeps: big bytes fields alias it, big messages are read in turn, and all the rest is left to
// the stock decoder. The result is the stock decoder's, also where a field comes more than once: before a field is taken, what waits
// for the stock decoder and names it too is decoded.
func read(buf []byte, m protoreflect.Message, depth int) error {
	fields := m.Descriptor().Fields()
	var rest []byte
	var named uint64 // numbers in rest, as bits; those from 63 on share the last
	flush := func() error {
		err := proto.UnmarshalOptions{Merge: true}.Unmarshal(rest, m.Interface())
		rest, named = rest[:0], 0
		return err
	}
	for len(buf) > 0 {
		number, kind, n := protowire.ConsumeTag(buf)
		if n < 0 {
			return fmt.Errorf("codec: %w", protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(number, kind, buf[n:])
		if size < 0 {
			return fmt.Errorf("codec: field %d of %s: %w", number, m.Descriptor().Name(), protowire.ParseError(size))
		}
		field, bit := buf[:n+size], uint64(1)<<min(number, 63)
		buf = buf[n+size:]
		fd := fields.ByNumber(number)
		if size < fieldBytes || kind != protowire.BytesType || depth == 0 || !taken(fd) {
			rest, named = append(rest, field...), named|bit
			continue
		}
		if named&bit != 0 {
			if err := flush(); err != nil {
				return err
			}
		}
		value, _ := protowire.ConsumeBytes(field[n:])
		if err := put(value[:len(value):len(value)], fd, m, depth); err != nil {
			return err
		}
	}
	if len(rest) == 0 {
		return nil
	}
	return flush()
}

// taken reports whether a field is one that read handles itself.
func taken(fd protoreflect.FieldDescriptor) bool {
	return fd != nil && !fd.IsMap() && (fd.Kind() == protoreflect.BytesKind || fd.Kind() == protoreflect.MessageKind) &&
		(fd.ContainingOneof() == nil || fd.HasOptionalKeyword())
}

func put(value []byte, fd protoreflect.FieldDescriptor, m protoreflect.Message, depth int) error {
	switch {
	case fd.IsList() && fd.Kind() == protoreflect.BytesKind:
		m.Mutable(fd).List().Append(protoreflect.ValueOfBytes(value))
	case fd.Kind() == protoreflect.BytesKind:
		m.Set(fd, protoreflect.ValueOfBytes(value))
	case fd.IsList():
		return read(value, m.Mutable(fd).List().AppendMutable().Message(), depth-1)
	default:
		return read(value, m.Mutable(fd).Message(), depth-1)
	}
	return nil
}

// Join puts data together in new memory that is not zeroed first. It is the one copy between the socket and whoever keeps the bytes:
// gRPC hands out pieces of at most 16 KiB that go back to its pool.
func Join(data mem.BufferSlice) []byte {
	var few [16][]byte
	pieces := few[:0]
	for _, b := range data {
		pieces = append(pieces, b.ReadOnlyData())
	}
	return bytes.Join(pieces, nil)
}
