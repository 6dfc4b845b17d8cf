package broker

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"lograft/client"
)

// The whole way of a payload, with three real brokers and a client in this process, by what the process allocates: the producer makes
// the batch, the leader and both followers join what their sockets gave, and nobody allocates it again on the way to log, disk, peers
// and answer. A copy more, or one for every record or message, shows here.
func TestPayloadIsAllocatedOncePerHop(t *testing.T) {
	if raceEnabled {
		t.Skip("pools forget at random under the race detector")
	}
	const batches, recordBytes, perBatch = 64, 16 << 10, 31 // just below half a MiB
	c := startBrokers(t, 3)
	cl := c.client()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if _, err := cl.CreateTopic(ctx, client.TopicSpec{Name: "copies", Partitions: 1, ReplicationFactor: 3}); err != nil {
		t.Fatal(err)
	}
	p, err := cl.NewProducer(client.ProducerOptions{BatchBytes: recordBytes * perBatch})
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, recordBytes)
	rand.NewChaCha8([32]byte{1}).Read(noise)
	send := func(n int) {
		var done sync.WaitGroup
		for range n * perBatch {
			done.Add(1)
			if err := p.Produce(ctx, &client.Record{Topic: "copies", Partition: 0, Value: noise}, func(r client.Result) {
				if r.Err != nil {
					t.Error(r.Err)
				}
				done.Done()
			}); err != nil {
				t.Fatal(err)
			}
		}
		done.Wait()
	}
	send(batches) // builders, buffers and pools have their size now
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	send(batches)
	runtime.ReadMemStats(&after)
	payload := float64(batches * perBatch * recordBytes)
	bytes := float64(after.TotalAlloc-before.TotalAlloc) / payload
	allocs := float64(after.Mallocs-before.Mallocs) / batches
	t.Logf("%.2f bytes allocated per byte of payload, %.0f allocations per batch of %d KiB", bytes, allocs, recordBytes*perBatch>>10)
	if bytes > 4.6 {
		t.Errorf("%.2f bytes are allocated per byte of payload by client, leader and two followers: want one each, and little more", bytes)
	}
	if allocs > 1500 {
		t.Errorf("%.0f allocations per batch by client and three brokers: want a fixed number per message, none per record or frame of 16 KiB", allocs)
	}
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
}
