package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codec compresses the records of a batch. The numbers are the wire's.
type Codec uint8

// The codecs of RecordBatch v2.
const (
	CodecNone   Codec = 0
	CodecGzip   Codec = 1
	CodecSnappy Codec = 2
	CodecLZ4    Codec = 3
	CodecZstd   Codec = 4
)

var codecNames = [...]string{"none", "gzip", "snappy", "lz4", "zstd"}

// String is the codec's name as on the command line.
func (c Codec) String() string {
	if int(c) < len(codecNames) {
		return codecNames[c]
	}
	return fmt.Sprintf("codec %d", uint8(c))
}

// ParseCodec reads a codec's name.
func ParseCodec(s string) (Codec, error) {
	for i, name := range codecNames {
		if s == name {
			return Codec(i), nil
		}
	}
	return 0, fmt.Errorf("unknown codec %q: use one of %s", s, strings.Join(codecNames[:], ", "))
}

// DecompressedBytesDefault bounds what the records of one batch may inflate to.
const DecompressedBytesDefault = 64 << 20

const (
	// zstdWindow is the window of what we write, in bytes.
	zstdWindow = 1 << 20
	// zstdWindowMax is the largest window we read, in bytes: that of zstd's level 19.
	zstdWindowMax = 8 << 20
)

// Compressors and decompressors are expensive to make and safe to share: zstd's encoder by design, the others one at a time from a
// pool. They hold no state between calls.
var (
	zstdEncoder = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(zstdWindow), zstd.WithEncoderCRC(false))
	})
	gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}
	lz4Writers  = sync.Pool{New: func() any { return lz4.NewWriter(nil) }}
	gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}
	lz4Readers  = sync.Pool{New: func() any { return lz4.NewReader(nil) }}
	zstdReaders sync.Pool // of *zstd.Decoder, made on first use since that can fail
	zstdSmall   sync.Pool // of those that read windows of zstdWindow at most
)

// roomFor is how much memory to make ready for n bytes to compress: all that may be needed where it is needed, half where it can grow.
func (c Codec) roomFor(n int) int {
	switch c {
	case CodecNone:
		return n
	case CodecSnappy:
		return s2.MaxEncodedLen(n)
	}
	return n/2 + 64
}

// compress appends src, compressed, to dst.
func (c Codec) compress(dst, src []byte) ([]byte, error) {
	switch c {
	case CodecNone:
		return append(dst, src...), nil
	case CodecSnappy:
		at := len(dst)
		if n := s2.MaxEncodedLen(len(src)); cap(dst)-at < n {
			dst = append(make([]byte, 0, at+n), dst...)
		}
		return dst[:at+len(s2.EncodeSnappy(dst[at:cap(dst)], src))], nil
	case CodecZstd:
		enc, err := zstdEncoder()
		if err != nil {
			return dst, err
		}
		return enc.EncodeAll(src, dst), nil
	case CodecGzip:
		w := gzipWriters.Get().(*gzip.Writer)
		defer gzipWriters.Put(w)
		return stream(dst, src, w)
	case CodecLZ4:
		w := lz4Writers.Get().(*lz4.Writer)
		defer lz4Writers.Put(w)
		return stream(dst, src, w)
	}
	return dst, fmt.Errorf("unknown codec %d", c)
}

type resettable interface {
	io.WriteCloser
	Reset(io.Writer)
}

func stream(dst, src []byte, w resettable) ([]byte, error) {
	out := bytes.NewBuffer(dst)
	w.Reset(out)
	if _, err := w.Write(src); err != nil {
		return dst, err
	}
	err := w.Close()
	return out.Bytes(), err
}

var errInflates = errors.New("records inflate beyond the limit")

// decompress inflates src to at most bytesMax bytes. What is declared is checked before anything is allocated.
func (c Codec) decompress(src []byte, bytesMax int) (out []byte, err error) {
	switch c {
	case CodecNone:
		if len(src) > bytesMax {
			return nil, errInflates
		}
		return src, nil
	case CodecSnappy:
		return unsnappy(nil, src, bytesMax)
	}
	err = c.read(src, zstdWindowMax, func(r io.Reader) error {
		out, err = readLimited(r, bytesMax)
		return err
	})
	return out, err
}

// inflate is decompress into dst, which it does not grow. What CodecNone gives is src.
func (c Codec) inflate(dst, src []byte) (out []byte, err error) {
	switch c {
	case CodecNone:
		return src, nil
	case CodecSnappy:
		return unsnappy(dst[:0:len(dst)], src, len(dst))
	}
	window := uint64(zstdWindowMax)
	if len(dst) < zstdWindowMax {
		window = zstdWindow
	}
	err = c.read(src, window, func(r io.Reader) error {
		out, err = readInto(dst, r)
		return err
	})
	if errors.Is(err, zstd.ErrWindowSizeExceeded) && window < zstdWindowMax {
		err = errInflates
	}
	return out, err
}

// read has take read what src inflates to: of gzip, lz4 or zstd, of which windows of up to window bytes are read, zstdWindow or
// zstdWindowMax. They are read as a stream: then only windows are allocated ahead of the bytes, never what a frame declares.
func (c Codec) read(src []byte, window uint64, take func(io.Reader) error) error {
	switch c {
	case CodecGzip:
		r := gzipReaders.Get().(*gzip.Reader)
		defer gzipReaders.Put(r)
		if err := r.Reset(bytes.NewReader(src)); err != nil {
			return err
		}
		return take(r)
	case CodecLZ4:
		r := lz4Readers.Get().(*lz4.Reader)
		defer lz4Readers.Put(r)
		r.Reset(bytes.NewReader(src))
		return take(r)
	case CodecZstd:
		return readZstd(src, window, take)
	}
	return fmt.Errorf("unknown codec %d", c)
}

func readZstd(src []byte, window uint64, take func(io.Reader) error) error {
	idle := &zstdReaders
	if window == zstdWindow {
		idle = &zstdSmall
	}
	r, _ := idle.Get().(*zstd.Decoder)
	if r == nil {
		var err error
		if r, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(window), zstd.WithDecoderLowmem(true)); err != nil {
			return err
		}
	}
	defer idle.Put(r)
	if err := r.Reset(bytes.NewReader(src)); err != nil {
		return err
	}
	err := take(r)
	if resetErr := r.Reset(nil); err == nil && resetErr != nil { // lets go of src
		err = resetErr
	}
	return err
}

// readLimited reads r to its end. The buffer doubles as bytes arrive, so it is never above twice what r gave, nor above bytesMax.
func readLimited(r io.Reader, bytesMax int) ([]byte, error) {
	out := make([]byte, 0, min(bytesMax, 4<<10))
	for {
		if len(out) == bytesMax {
			return out, atEnd(r)
		}
		if len(out) == cap(out) {
			out = append(make([]byte, 0, min(2*cap(out), bytesMax)), out...)
		}
		n, err := r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// readInto reads r to its end into dst, and returns the part of dst that it takes.
func readInto(dst []byte, r io.Reader) ([]byte, error) {
	for at := 0; ; {
		if at == len(dst) {
			return dst, atEnd(r)
		}
		n, err := r.Read(dst[at:])
		at += n
		if err == io.EOF {
			return dst[:at], nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// atEnd is nil if r has no byte left.
func atEnd(r io.Reader) error {
	var one [1]byte
	switch _, err := io.ReadFull(r, one[:]); err {
	case io.EOF:
		return nil
	case nil:
		return errInflates
	default:
		return err
	}
}

// xerialMagic begins snappy as Java clients frame it: magic, two versions, then blocks with their lengths.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHeaderBytes = 16

// unsnappy appends what src inflates to, at most bytesMax bytes, to out, which is empty.
func unsnappy(out, src []byte, bytesMax int) ([]byte, error) {
	if !bytes.HasPrefix(src, xerialMagic) {
		return snappyBlock(out, src, bytesMax)
	}
	if len(src) < xerialHeaderBytes {
		return nil, errors.New("snappy: header cut short")
	}
	for src = src[xerialHeaderBytes:]; len(src) > 0; {
		if len(src) < 4 {
			return nil, errors.New("snappy: block length cut short")
		}
		n := int64(binary.BigEndian.Uint32(src))
		if src = src[4:]; n > int64(len(src)) {
			return nil, errors.New("snappy: block cut short")
		}
		var err error
		if out, err = snappyBlock(out, src[:n], bytesMax-len(out)); err != nil {
			return nil, err
		}
		src = src[n:]
	}
	return out, nil
}

// snappyRatioMax is what snappy can reach: a copy of 64 bytes takes three.
const snappyRatioMax = 22

// snappyLen is the length that a raw block declares, believed only as far as its bytes could reach.
func snappyLen(src []byte, bytesMax int) (int, error) {
	n, err := s2.DecodedLen(src)
	switch {
	case err != nil:
		return 0, err
	case n > bytesMax:
		return 0, errInflates
	case n > snappyRatioMax*len(src):
		return 0, errors.New("snappy: declares more than its bytes can hold")
	}
	return n, nil
}

// decompressIn is decompress in memory that room gives, where it is known beforehand how much that must be: a raw block of snappy.
func (c Codec) decompressIn(room func(int) []byte, src []byte, bytesMax int) ([]byte, error) {
	if c != CodecSnappy || room == nil || bytes.HasPrefix(src, xerialMagic) {
		return c.decompress(src, bytesMax)
	}
	n, err := snappyLen(src, bytesMax)
	if err != nil {
		return nil, err
	}
	return s2.Decode(room(n)[:n], src)
}

// snappyBlock appends a raw block to dst.
func snappyBlock(dst, src []byte, bytesMax int) ([]byte, error) {
	n, err := snappyLen(src, bytesMax)
	if err != nil {
		return nil, err
	}
	at := len(dst)
	dst = slices.Grow(dst, n)[:at+n]
	if _, err := s2.Decode(dst[at:], src); err != nil {
		return nil, err
	}
	return dst, nil
}
