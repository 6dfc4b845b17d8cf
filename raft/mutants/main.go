// Command mutants breaks package raft in one way at a time and demands that the test named beside the way goes red.
//
//	go run ./raft/mutants            # all; exit 1 unless every mutant is red
//	go run ./raft/mutants -only vote # those whose name contains it
package main

import (
	"time"

	"lograft/internal/mutants"
)

func main() {
	mutants.Main(mutants.Options{Patches: "raft/mutants/patches", Copy: []string{"raft"}, Time: 3 * time.Minute})
}
