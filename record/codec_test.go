package record

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

var codecs = []Codec{CodecNone, CodecGzip, CodecSnappy, CodecLZ4, CodecZstd}

// seeded gives a random source; RECORD_SEED replays one.
func seeded(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	if s := os.Getenv("RECORD_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d (RECORD_SEED=%d replays)", seed, seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// text is n bytes that shrink a little.
func text(r *rand.Rand, n int) []byte {
	out := make([]byte, 0, n+20)
	for len(out) < n {
		out = fmt.Appendf(out, `{"id":%d,"level":"info"}`, r.IntN(1<<20))
	}
	return out[:n]
}

// Every codec gives back what it was given, of any size, into a buffer that already holds bytes, and one byte less of room is refused.
func TestCodecRoundTrip(t *testing.T) {
	r := seeded(t)
	for _, c := range codecs {
		for _, n := range []int{1, 7, 100, 4096, 65537, 1 << 20, 9<<20 + r.IntN(1<<20)} {
			want := text(r, n)
			blob, err := c.compress([]byte("head"), want)
			if err != nil || !bytes.HasPrefix(blob, []byte("head")) {
				t.Fatalf("%v of %d bytes: %v", c, n, err)
			}
			if got, err := c.decompress(blob[4:], n); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%v of %d bytes: %v", c, n, err)
			}
			if _, err := c.decompress(blob[4:], n-1); !errors.Is(err, errInflates) {
				t.Fatalf("%v of %d bytes with room for one less: %v", c, n, err)
			}
		}
	}
}

// A batch inflates in given memory, of just the right size, and nowhere else; with one byte less it is refused, and so is a window that
// is far larger than that memory. Its headers are counted without being made.
func TestInflate(t *testing.T) {
	r := seeded(t)
	for _, c := range codecs {
		for _, n := range []int{1, 100, 4096, 65537, 9<<20 + r.IntN(1<<20)} {
			b := mustBuild(t, BuilderOptions{Codec: c, ProducerID: -1, BytesMax: 32 << 20}, Record{Value: text(r, n), Headers: []Header{{Key: "a"}, {Key: "b", Value: []byte("c")}}}, Record{Headers: make([]Header, 3)})
			none := b.Codec() == CodecNone // few bytes are not compressed
			want, err := b.Codec().decompress(b.Records(), 32<<20)
			if err != nil {
				t.Fatal(err)
			}
			dst := make([]byte, len(want))
			raw, err := b.Inflate(dst)
			if err != nil || !bytes.Equal(raw, want) || !none && &raw[0] != &dst[0] {
				t.Fatalf("%v of %d bytes: %v", c, n, err)
			}
			if headers, err := b.Headers(raw, Limits{}); err != nil || headers != 5 {
				t.Fatalf("%v of %d bytes: %d headers, %v; want 5", c, n, headers, err)
			}
			if _, err := b.Inflate(dst[1:]); !none && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("%v of %d bytes in one less: %v", c, n, err)
			}
		}
	}
	var wide bytes.Buffer
	w, err := zstd.NewWriter(&wide, zstd.WithWindowSize(zstdWindowMax))
	if err != nil {
		t.Fatal(err)
	}
	for range 10 { // in pieces, so that its length is not declared
		_, err = w.Write(text(r, 1000))
		if err == nil {
			err = w.Flush()
		}
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := CodecZstd.inflate(make([]byte, 1<<20), wide.Bytes()); !errors.Is(err, errInflates) {
		t.Errorf("a window of 8 MiB beside 1 MiB of memory: %v", err)
	}
	if _, err := CodecZstd.inflate(make([]byte, zstdWindowMax), wide.Bytes()); err != nil {
		t.Errorf("a window of 8 MiB beside as much memory: %v", err)
	}
}

// Blobs of other makers are read: the standard library's gzip, a zstd stream without a declared size, Java's snappy framing.
func TestForeignBlobs(t *testing.T) {
	want := text(seeded(t), 100_000)
	var gz, zs bytes.Buffer
	gw := gzip.NewWriter(&gz)
	zw, err := zstd.NewWriter(&zs, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []io.WriteCloser{gw, zw} {
		if _, err := w.Write(want); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		codec Codec
		blob  []byte
	}{{CodecGzip, gz.Bytes()}, {CodecZstd, zs.Bytes()}, {CodecSnappy, xerial(want, 32<<10)}} {
		if got, err := row.codec.decompress(row.blob, len(want)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: %v", row.codec, err)
		}
		if _, err := row.codec.decompress(row.blob, len(want)-1); !errors.Is(err, errInflates) {
			t.Errorf("%v with room for one less: %v", row.codec, err)
		}
		for _, n := range []int{0, 1, 5, 18, len(row.blob) / 2, len(row.blob) - 1} {
			if got, err := row.codec.decompress(row.blob[:n], len(want)); err == nil && len(got) == len(want) {
				t.Errorf("%v cut to %d bytes is read as whole", row.codec, n)
			}
		}
	}
}

// xerial frames b as snappy-java does: a header, then blocks of at most blockBytes before compression.
func xerial(b []byte, blockBytes int) []byte {
	out := append([]byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}, 0, 0, 0, 1, 0, 0, 0, 1)
	for len(b) > 0 {
		n := min(blockBytes, len(b))
		block := s2.EncodeSnappy(nil, b[:n])
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(block))), block...)
		b = b[n:]
	}
	return out
}

// bombs are small blobs of n zero bytes in frames of 64 MiB, and headers that only claim to be.
func bombs(t testing.TB, n int) map[string]struct {
	codec Codec
	blob  []byte
} {
	type bomb = struct {
		codec Codec
		blob  []byte
	}
	var gz, zs, lz bytes.Buffer
	gw, err := gzip.NewWriterLevel(&gz, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	zw, err := zstd.NewWriter(&zs, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	lw := lz4.NewWriter(&lz)
	block := make([]byte, 1<<20)
	const frame = 64 << 20
	for _, w := range []io.WriteCloser{gw, zw, lw} {
		for range frame >> 20 {
			if _, err := w.Write(block); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	many := append([]byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}, 0, 0, 0, 1, 0, 0, 0, 1)
	small := s2.EncodeSnappy(nil, block)
	for range n >> 20 {
		many = append(binary.BigEndian.AppendUint32(many, uint32(len(small))), small...)
	}
	return map[string]bomb{
		"gzip": {CodecGzip, bytes.Repeat(gz.Bytes(), n/frame)}, "zstd": {CodecZstd, bytes.Repeat(zs.Bytes(), n/frame)}, "lz4": {CodecLZ4, bytes.Repeat(lz.Bytes(), n/frame)},
		"snappy blocks":        {CodecSnappy, many},
		"snappy declared":      {CodecSnappy, append(binary.AppendUvarint(nil, uint64(n)), 0, 'x')},
		"snappy within limit":  {CodecSnappy, append(binary.AppendUvarint(nil, 8<<20), 0, 'x')},
		"zstd declared":        {CodecZstd, append(binary.LittleEndian.AppendUint32([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x80, 0x58}, uint32(n)), 3, 0, 0)},
		"zstd declared window": {CodecZstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0xa0, 1, 0, 0}},
	}
}

// A blob that inflates to 1 GiB is refused, and no more is allocated on the way than a few times the limit.
func TestBombs(t *testing.T) {
	const limit = 8 << 20
	for name, bomb := range bombs(t, 1<<30) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out, err := bomb.codec.decompress(bomb.blob, limit)
		runtime.ReadMemStats(&after)
		if allocated := after.TotalAlloc - before.TotalAlloc; err == nil || allocated > 5*limit {
			t.Errorf("%s: %d bytes of blob gave %d bytes, %d KiB allocated, error %v", name, len(bomb.blob), len(out), allocated>>10, err)
		} else {
			t.Logf("%s: %d bytes refused after %d KiB: %v", name, len(bomb.blob), allocated>>10, err)
		}
	}
}

// Names are read back; others are refused with the list of what there is.
func TestCodecNames(t *testing.T) {
	for _, c := range codecs {
		if got, err := ParseCodec(c.String()); err != nil || got != c {
			t.Errorf("%v: %v, %v", c, got, err)
		}
	}
	if _, err := ParseCodec("lzma"); err == nil || err.Error() != `unknown codec "lzma": use one of none, gzip, snappy, lz4, zstd` {
		t.Error(err)
	}
	if s := Codec(5).String(); s != "codec 5" {
		t.Error(s)
	}
	if _, err := Codec(5).decompress(nil, 10); err == nil {
		t.Error("codec 5 decompresses")
	}
	if _, err := Codec(5).compress(nil, nil); err == nil {
		t.Error("codec 5 compresses")
	}
}
