package broker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lograft/client"
)

// An old copy of the only data directory is put back, and the log grows past where a consumer is: the consumer says at which offset the log
// became another one, instead of going on with records that do not follow what it read. (A group's members are in the copy, too: they join anew.)
func TestConsumerOnAnOldCopy(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := startBrokers(t, 1)
	k := c.client()
	if _, err := k.CreateTopic(ctx, client.TopicSpec{Name: "t"}); err != nil {
		t.Fatal(err)
	}
	produceTo(ctx, t, k, 0, 5)
	c.end(0)
	dir := c.options[0].DataDir
	saved := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(saved, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	c.start(0)
	produceTo(ctx, t, k, 0, 5)

	r, err := k.NewConsumer(client.ConsumerOptions{Subscriptions: []client.Subscription{{Topic: "t", Start: client.AtStart(0)}}, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// read polls until the record before offset next was given, or something ended.
	read := func(next int64) *client.End {
		t.Helper()
		for {
			b, ended, _, err := r.Poll(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if len(ended) > 0 {
				return &ended[0]
			}
			if b != nil && b.NextOffset >= next {
				return nil
			}
		}
	}
	if e := read(10); e != nil {
		t.Fatalf("%+v", e)
	}

	c.end(0)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(saved)); err != nil {
		t.Fatal(err)
	}
	c.start(0)
	c.end(0) // once more: the second start's leader epoch is another one than the lost records had
	c.start(0)
	produceTo(ctx, t, k, 0, 20)
	if e := read(25); e == nil || !errors.Is(e.Err, client.ErrLogTruncated) || e.Err.Divergence != 5 {
		t.Fatalf("it was told %+v", e)
	}
}
