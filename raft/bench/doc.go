// Package bench holds the benchmarks of package raft beside go.etcd.io/raft/v3
// (a dependency of tests only), in one run:
//
//	go test -run '^$' -bench . -count 10 ./raft/bench | tee new.txt && go tool benchstat -col /lib new.txt
//
// Both drive the same loop with the same payload over their own MemoryStorage:
// take a Ready, append, hand messages to the peers at once, apply, advance.
// Storage is compacted every few thousand entries so that a run of any length
// measures the steady state.
package bench
