//go:build race

package broker

// raceEnabled: sync.Pool forgets at random under the race detector, so what is allocated says nothing.
const raceEnabled = true
