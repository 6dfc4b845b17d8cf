// Package bench measures the log on disk beside a bare loop of pwritev and fdatasync, a bare loop of pread, tidwall/wal and
// hashicorp/raft-wal. It is a module of its own, so that what it compares with stays out of the program's dependencies. Run it with
// make bench-segment; results are in docs/benchmarks.md.
//
// Both sides of a comparison take turns within one benchmark, each with the same bytes, so that what else the machine does meets both:
// ratios are worth more than MB/s.
package bench
