package broker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"lograft/client"
)

// A broker that is removed stops by itself and says why: one that runs, one that was away and hears of it from who refuses it, and both
// when they are started again. One without which the metadata group has no majority is not removed.
func TestRemovedBrokerStops(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := startBrokers(t, 4)
	k := c.client()
	for { // registered: it can be removed
		if d, err := k.DescribeCluster(ctx); err == nil && len(d.Brokers) == 4 {
			break
		}
		if ctx.Err() != nil {
			t.Fatal("the brokers do not register")
		}
		time.Sleep(20 * time.Millisecond)
	}
	stops := func(i int, what string) {
		t.Helper()
		select {
		case err := <-c.ended[i]:
			if !errors.Is(err, ErrRemoved) || !strings.Contains(err.Error(), "empty data directory") {
				t.Errorf("%s: it ended with %v", what, err)
			}
			c.stop[i]()
			c.stop[i] = nil
		case <-ctx.Done():
			t.Fatalf("%s: it goes on", what)
		}
	}
	remove := func(node uint64) error {
		for {
			err := k.RemoveBroker(ctx, node)
			if client.ReasonOf(err) != "CHANGE_IN_PROGRESS" {
				return err
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	c.end(3)
	if err := remove(4); err != nil {
		t.Fatal(err)
	}
	c.start(3)
	stops(3, "away when it was removed")
	if err := remove(3); err != nil {
		t.Fatal(err)
	}
	stops(2, "removed while it runs")
	for _, i := range []int{3, 2} {
		c.start(i)
		stops(i, "started again")
	}
	if err := remove(2); client.ReasonOf(err) != "BROKER_IN_USE" || !strings.Contains(err.Error(), "decommission 2") {
		t.Errorf("one of two voters: %v", err)
	}
}
