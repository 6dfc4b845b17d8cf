// Package bench loads a cluster through the public client and measures what a user of it would feel: records per second, and the
// time from the moment a record was due to be sent until it is acknowledged (Produce), read (Consume: until a poll gives something)
// or read after it was produced (EndToEnd). Beside that it tells what the brokers did meanwhile, from their /metrics.
//
// With a rate the load is open-loop: record i is due at begin + i/rate whatever the cluster does, and its latency counts from then,
// so that a stall is felt by every record that it delays. Without one each producer sends as fast as its buffer empties, and the
// latency contains the wait in that buffer. Sync makes it closed-loop: one record at a time per producer.
//
// Limitations: the counters are those of the whole cluster, so nothing else should run; latencies are kept with 3 significant digits,
// up to 10 minutes.
package bench
