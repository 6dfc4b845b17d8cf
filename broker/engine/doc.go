// Package engine runs many replicas with few workers (architecture D7). A Worker is a step machine that owns every replica whose
// group hashes to it: one Step takes everything that arrived, and what it leaves in Effects is carried out by the driver. The
// Syncer decides what goes into the one sync round that may be under way per data directory (architecture D5).
//
// Drivers: Run (run.go) with goroutines and real time; broker/sim with one loop and fake time. No worker or syncer starts a
// goroutine, takes a lock or reads a clock.
package engine
