// Package integration runs whole brokers as their users do: real processes, real sockets, real files, killed with real signals.
//
// cluster.go starts and stops brokers, process.go runs one process, commands.go runs the produce, consume and broker commands,
// records.go makes input and judges what came back. cmd/demo is the first thing a newcomer runs. Faults and checks are those of
// the design's fault table; README.md says how to run one test and keeps the record of bugs found here.
//
// Limitations: kill -9 keeps the page cache, so nothing here proves a sync; crashes that lose unsynced writes are the simulator's
// and the segment package's business. Process groups and signals need a Unix.
package integration
