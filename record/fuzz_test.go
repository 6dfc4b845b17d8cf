package record

import (
	"bytes"
	"errors"
	"runtime"
	"testing"
)

func fuzzSeeds(f *testing.F) {
	for _, c := range codecs {
		f.Add([]byte(mustBuild(f, BuilderOptions{Codec: c, ProducerID: -1}, Record{Timestamp: 5, Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 200)},
			Record{Timestamp: 4, Headers: []Header{{Key: "a"}, {Key: "", Value: []byte{}}}})))
	}
	f.Add([]byte(sample(f)))
}

// Whatever Validate accepts, kmsg reads to the same header; a sealed copy of any bytes never panics and never allocates by what it claims.
func FuzzValidate(f *testing.F) {
	fuzzSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := Parse(data)
		if err != nil {
			if _, err := Validate(data, 1<<20); err == nil {
				t.Fatal("Validate accepts what Parse refuses")
			}
			return
		}
		reseal(b)
		if b, err = Validate(data, 1<<20); err != nil {
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		k := compareHeader(t, b)
		if k.FirstOffset != 0 || k.LastOffsetDelta+1 != k.NumRecords || k.NumRecords < 1 || k.Attributes&0x38 != 0 || k.Attributes&7 > 4 ||
			k.ProducerID >= 0 && (k.FirstSequence < 0 || k.ProducerEpoch < 0) {
			t.Fatalf("accepted %+v", k)
		}
	})
}

// Every record that Iterate yields is the one that kmsg reads at the same place, and a batch read without error is used up by kmsg too.
func FuzzIterate(f *testing.F) {
	fuzzSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := Parse(data)
		if err != nil {
			return
		}
		const limit = 1 << 16
		k := compareHeader(t, b)
		raw, rawErr := b.Codec().decompress(k.Records, limit)
		if len(raw) > limit {
			t.Fatalf("%d bytes", len(raw))
		}
		n, headers, failed := int32(0), 0, false
		for got, err := range b.Iterate(Limits{DecompressedBytesMax: limit}) {
			if failed {
				t.Fatal("iteration goes on behind an error")
			}
			if failed = err != nil; failed {
				continue
			}
			if rawErr != nil {
				t.Fatalf("a record out of nothing: %v", rawErr)
			}
			want, rest, err := kmsgRecord(raw, &k)
			if err != nil || !sameRecord(&got, &want) {
				t.Fatalf("record %d: %+v, kmsg says %+v, %v", n, got, want, err)
			}
			raw, n, headers = rest, n+1, headers+len(got.Headers)
		}
		if inflated, err := b.Codec().decompress(k.Records, limit); err == nil {
			if counted, err := b.Headers(inflated, Limits{DecompressedBytesMax: limit}); (err != nil) != failed || err == nil && counted != headers {
				t.Fatalf("%d headers are counted, %v; %d are read, failed: %t", counted, err, headers, failed)
			}
		}
		if headers*headerBytes > limit {
			t.Fatalf("%d headers", headers)
		}
		if whole := rawErr == nil && len(raw) == 0 && n == max(k.NumRecords, 0); !whole && !failed {
			t.Fatalf("read without error, but %d bytes are left after %d of %d records, %v", len(raw), n, k.NumRecords, rawErr)
		}
	})
}

// What any codec makes of any bytes stays within the limit, and so does the memory on the way there.
func FuzzDecompress(f *testing.F) {
	for _, c := range codecs {
		for _, n := range []int{0, 100, 1 << 20} { // the last is a bomb: 1 MiB in a few bytes
			blob, err := c.compress(nil, make([]byte, n))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(c), blob)
		}
	}
	f.Add(uint8(CodecSnappy), append(append([]byte(nil), xerialMagic...), 0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, codec uint8, data []byte) {
		const limit = 1 << 16
		c := Codec(codec)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out, err := c.decompress(data, limit)
		runtime.ReadMemStats(&after)
		if err == nil && len(out) > limit {
			t.Fatalf("%d bytes", len(out))
		}
		// A decoder that is new allocates its windows; bytes out double on the way.
		if cost := after.TotalAlloc - before.TotalAlloc; cost > 4*limit+32<<20+4*uint64(len(data)) {
			t.Fatalf("%v of %d bytes cost %d bytes of memory", c, len(data), cost)
		}
		if c == CodecNone {
			return
		}
		into, intoErr := c.inflate(make([]byte, limit), data)
		if window := c == CodecZstd && errors.Is(intoErr, errInflates); (intoErr == nil) != (err == nil) && !window || intoErr == nil && !bytes.Equal(into, out) {
			t.Fatalf("%v of %d bytes: %d bytes, %v; in given memory %d bytes, %v", c, len(data), len(out), err, len(into), intoErr)
		}
	})
}
