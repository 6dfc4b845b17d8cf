// Command mutants breaks what makes a broker keep its promises in one way at a time and demands that the bench named beside the way
// goes red: most are simulations of whole brokers with fresh seeds, which stop at the first seed that shows it. A mutant that one seed in
// thirty shows is green after 6 times 60 seeds once in 200,000 runs.
//
//	go run ./broker/mutants            # all; exit 1 unless every mutant is red
//	go run ./broker/mutants -only sync # those whose name contains it
package main

import (
	"time"

	"lograft/internal/mutants"
)

func main() {
	mutants.Main(mutants.Options{
		Patches: "broker/mutants/patches",
		Copy:    []string{"."},
		Time:    5 * time.Minute,
		Tries:   6,
	})
}
