package record

import (
	"fmt"
	"testing"
)

// benchBatch is a builder holding about n bytes of records of 200 bytes.
func benchBatch(b *testing.B, c Codec, n int) *Builder {
	builder, r := NewBuilder(BuilderOptions{Codec: c, BytesMax: n, ProducerID: -1}), seeded(b)
	for {
		if err := builder.Append(Record{Timestamp: 1, Value: text(r, 200)}); err == ErrFull {
			return builder
		} else if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidate64KiB(b *testing.B) {
	batch, err := benchBatch(b, CodecNone, 64<<10).Build()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Validate(batch, 1<<20); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBuild64KiB(b *testing.B) {
	for _, c := range codecs {
		b.Run(fmt.Sprint(c), func(b *testing.B) {
			builder, size := benchBatch(b, c, 64<<10), 0
			b.SetBytes(int64(builder.EstimatedBytes()))
			b.ReportAllocs()
			for b.Loop() {
				batch, err := builder.Build()
				if err != nil {
					b.Fatal(err)
				}
				size = len(batch)
			}
			b.ReportMetric(float64(builder.EstimatedBytes())/float64(size), "ratio")
		})
	}
}

func BenchmarkIterate64KiB(b *testing.B) {
	for _, c := range codecs {
		b.Run(fmt.Sprint(c), func(b *testing.B) {
			builder := benchBatch(b, c, 64<<10)
			batch, err := builder.Build()
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(builder.EstimatedBytes()))
			b.ReportAllocs()
			for b.Loop() {
				for _, err := range batch.Iterate(Limits{}) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
