package main

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake remembers which topics it holds.
type fake struct {
	topics map[string]bool
	speed  float64
	reads  int
}

func (f *fake) produce(_ context.Context, topic string, _, _, _ int) (figure, error) {
	f.topics[topic] = true
	return figure{recordsPerSec: f.speed}, nil
}

func (f *fake) one(_ context.Context, topic string, _ time.Duration) (figure, error) {
	f.topics[topic] = true
	return figure{p50Ms: 1 / f.speed}, nil
}

func (f *fake) consume(_ context.Context, topic string, _ int) (figure, error) {
	if f.topics[topic] {
		f.reads++
	}
	return figure{mbPerSec: f.speed}, nil
}

func (f *fake) remove(_ context.Context, topic string) error {
	delete(f.topics, topic)
	return nil
}

func (f *fake) version(context.Context) (string, error) { return "fake", nil }
func (f *fake) stop()                                   {}

// Every row runs once a round on every system, what is read was written in the same round, and no topic is left behind.
func TestRound(t *testing.T) {
	systems := []system{&fake{speed: 6, topics: map[string]bool{}}, &fake{speed: 2, topics: map[string]bool{}}, &fake{speed: 3, topics: map[string]bool{}}}
	results := make([][][]figure, len(rows))
	for round := range 2 {
		if err := (options{megabytes: 1}).round(t.Context(), round, systems, results); err != nil {
			t.Fatal(err)
		}
	}
	for i := range rows {
		for j := range systems {
			if len(results[i][j]) != 2 {
				t.Errorf("row %d, %s: %d figures after two rounds", i, names[j], len(results[i][j]))
			}
		}
	}
	for j, s := range systems {
		f := s.(*fake)
		if f.reads != 2 {
			t.Errorf("%s read what was there %d times of 2", names[j], f.reads)
		}
		if left := slices.Sorted(maps.Keys(f.topics)); len(left) != 0 {
			t.Errorf("%s still holds %v", names[j], left)
		}
	}
}

func TestSpread(t *testing.T) {
	v := []float64{5, 1, 3, 10}
	if mid, low, high := spread(4, func(i int) float64 { return v[i] }); mid != 4 || low != 1 || high != 10 {
		t.Errorf("spread %v %v %v", mid, low, high)
	}
}
