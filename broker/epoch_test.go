package broker

import (
	"context"
	"testing"
	"time"

	"lograft/client"
)

// Through gRPC: each leader epoch ends where the next one's first record is, on a broker that led neither; one that is newer than all ends
// where the log does; one whose beginning was trimmed is not known any more. That is what a reader compares its last record's epoch with.
func TestLeaderEpochEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := startBrokers(t, 3)
	k := c.client()
	if _, err := k.CreateTopic(ctx, client.TopicSpec{Name: "t"}); err != nil {
		t.Fatal(err)
	}
	leader := func() int {
		for {
			d, err := k.DescribeTopic(ctx, "t")
			if err != nil {
				t.Fatal(err)
			}
			if l := d.Partitions[0].Leader; l != 0 {
				return int(l) - 1
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	produceTo(ctx, t, k, 0, 5)
	first := leader()
	c.end(first) // it hands its leadership over
	produceTo(ctx, t, k, 0, 3)
	c.start(first)
	got := consumeRecords(ctx, t, k, "t")
	if len(got) != 8 || got[0].LeaderEpoch != got[4].LeaderEpoch || got[5].LeaderEpoch != got[7].LeaderEpoch || got[4].LeaderEpoch >= got[5].LeaderEpoch {
		t.Fatalf("records %+v", got)
	}
	old, now := got[0].LeaderEpoch, got[7].LeaderEpoch
	wantEnd := func(what string, epoch int32, want client.EpochEnd) {
		t.Helper()
		if got, err := k.OffsetForLeaderEpoch(ctx, "t", 0, epoch); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", what, got, err, want)
		}
	}
	wantEnd("the first", old, client.EpochEnd{LeaderEpoch: old, EndOffset: 5})
	wantEnd("the newest", now, client.EpochEnd{LeaderEpoch: now, EndOffset: 8})
	wantEnd("one to come", now+7, client.EpochEnd{LeaderEpoch: now, EndOffset: 8})
	wantEnd("before all", 0, client.EpochEnd{LeaderEpoch: -1, EndOffset: -1})
	if _, err := k.OffsetForLeaderEpoch(ctx, "t", 0, -1); client.ReasonOf(err) != client.ReasonInvalid {
		t.Errorf("a negative epoch: %v", err)
	}
	if _, err := k.OffsetForLeaderEpoch(ctx, "t", 4, 1); client.ReasonOf(err) != client.ReasonInvalid {
		t.Errorf("a partition that is not there: %v", err)
	}
	if _, err := k.OffsetForLeaderEpoch(ctx, "u", 0, 1); client.ReasonOf(err) != client.ReasonTopicNotFound {
		t.Errorf("a topic that is not there: %v", err)
	}
}

// consumeRecords reads partition 0 to its end.
func consumeRecords(ctx context.Context, t *testing.T, k *client.Client, topic string) (got []client.Fetched) {
	t.Helper()
	end := client.AtEnd(0)
	r, err := k.NewConsumer(client.ConsumerOptions{Subscriptions: []client.Subscription{{Topic: topic, Start: client.AtStart(0), Stop: &end}}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		b, ended, over, err := r.Poll(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range ended {
			if e.Err != nil {
				t.Fatal(e.Err)
			}
		}
		if over {
			return got
		}
		if b != nil {
			got = append(got, b.Records...)
		}
	}
}
