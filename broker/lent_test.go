package broker

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"lograft/client"
)

// lentValue is the value of record i: nobody else's, and of a length that shares no class with its neighbours'.
func lentValue(seed uint64, i int64) []byte {
	rng := rand.NewChaCha8([32]byte{0: byte(i), 1: byte(i >> 8), 2: byte(i >> 16), 3: byte(seed)})
	b := make([]byte, 3000+i%17*997)
	binary.BigEndian.PutUint64(b, uint64(i))
	_, _ = rng.Read(b[8:])
	return b
}

// What is read from files goes to consumers in memory that is used again: several of them, at different places of a log that is much
// larger than what is kept in memory, read every byte as it was written. Run with -tags poison, memory that is given back too early is
// overwritten, and this test red.
func TestReadsFromFilesInLentMemory(t *testing.T) {
	const records, readers = 4000, 3
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := startBrokers(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	k := c.client()
	for { // a broker alone may not listen yet
		_, err := k.CreateTopic(ctx, client.TopicSpec{Name: "lent", Partitions: 1, ReplicationFactor: 1})
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	p, err := k.NewProducer(client.ProducerOptions{BatchBytes: 100 << 10, Codec: client.CodecNone})
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(records) {
		if err := p.Produce(ctx, &client.Record{Topic: "lent", Partition: 0, Value: lentValue(seed, i)}, func(r client.Result) {
			if r.Err != nil {
				t.Error(r.Err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for r := range readers {
		k := c.client()
		wg.Go(func() {
			from := int64(r) * records / readers / 2
			stop := client.AtOffset(records)
			con, err := k.NewConsumer(client.ConsumerOptions{FetchBytes: 300 << 10 << r,
				Subscriptions: []client.Subscription{{Topic: "lent", Start: client.AtOffset(from), Stop: &stop}}})
			if err != nil {
				t.Error(err)
				return
			}
			defer con.Close()
			for next := from; next < records; {
				b, ended, _, err := con.Poll(ctx)
				if err != nil || len(ended) > 0 {
					t.Errorf("seed %d, reader %d at %d: ended %v, %v", seed, r, next, ended, err)
					return
				}
				for _, rec := range b.Records {
					if rec.Offset != next || !bytes.Equal(rec.Value, lentValue(seed, next)) {
						t.Errorf("seed %d, reader %d: record %d comes at %d, or with another value", seed, r, rec.Offset, next)
						return
					}
					next++
				}
			}
		})
	}
	wg.Wait()
}
