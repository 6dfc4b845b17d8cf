package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "lograft/api/lograft/v1"
	"lograft/integration"
)

// readsOpen is how many fetches wait on the one stream.
const readsOpen = 64

// reads counts the ReadIndex rounds of linearizable fetches at the end of a log, many open on one stream to a follower.
func reads(ctx context.Context, b *bench) (string, error) {
	c, end, err := b.cluster(ctx, 3)
	if err != nil {
		return "", err
	}
	defer end()
	if err := c.CreateTopic(ctx, "r", 1); err != nil {
		return "", err
	}
	if _, err := c.Run(ctx, strings.NewReader("one\n"), "produce", "r", "-q"); err != nil {
		return "", err
	}
	leader, err := c.WaitLeader(ctx, "r", 0)
	if err != nil {
		return "", err
	}
	follower := c.Others(leader)[0]
	conn, err := grpc.NewClient("passthrough:///"+follower.Client, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	before, err := metrics(ctx, follower)
	if err != nil {
		return "", err
	}
	began := time.Now()
	fetches, err := emptyFetches(ctx, conn, b.seconds)
	took := time.Since(began)
	if err != nil {
		return "", err
	}
	after, err := metrics(ctx, follower)
	if err != nil {
		return "", err
	}
	rounds := after["lograft_read_rounds_total"] - before["lograft_read_rounds_total"]
	perFetch := rounds / float64(fetches)
	many, err := manyReads(ctx, c, conn, follower, b.seconds)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("Linearizable empty fetches, %d always open on one stream to a follower, for %v: %d answered (%.0f/s), %.0f ReadIndex rounds: **%.4f rounds per fetch = 1/%.1f** (goal <= 1/20).\n\n%s",
		readsOpen, took.Round(time.Millisecond), fetches, float64(fetches)/took.Seconds(), rounds, perFetch, 1/perFetch, many), nil
}

// readsPartitions is how many partitions one request of manyReads asks for.
const readsPartitions = 100

// manyReads asks one broker again and again for the end of many partitions at once, and counts what brokers send each other for it.
func manyReads(ctx context.Context, c *integration.Cluster, conn *grpc.ClientConn, n *integration.Node, d time.Duration) (string, error) {
	if err := c.CreateTopic(ctx, "many", readsPartitions); err != nil {
		return "", err
	}
	if err := allLed(ctx, c.Nodes(), readsPartitions+2); err != nil {
		return "", err
	}
	topic, err := pb.NewTopicServiceClient(conn).DescribeTopic(ctx, &pb.DescribeTopicRequest{Name: "many"})
	if err != nil {
		return "", err
	}
	ask := &pb.FetchPartitionsRequest{}
	for p := range int32(readsPartitions) {
		ask.Requests = append(ask.Requests, &pb.FetchRequest{Partition: &pb.PartitionRef{Topic: "many", TopicId: topic.GetTopic().GetId(), Partition: p}, Consistency: pb.Consistency_CONSISTENCY_LINEARIZABLE})
	}
	count := func() (rounds, frames float64, err error) {
		if rounds, err = sum(ctx, []*integration.Node{n}, "lograft_read_rounds_total"); err == nil {
			frames, err = sum(ctx, c.Nodes(), "lograft_peer_frames_total")
		}
		return rounds, frames, err
	}
	rounds, frames, err := count()
	if err != nil {
		return "", err
	}
	answered := 0
	for end := time.Now().Add(d); time.Now().Before(end); answered++ {
		a, err := pb.NewFetchServiceClient(conn).FetchPartitions(ctx, ask)
		if err != nil {
			return "", err
		}
		for i, r := range a.GetResults() {
			if r.GetError() != nil || !r.GetResponse().GetHighConfirmed() {
				return "", fmt.Errorf("partition %d: want a confirmed answer, have %v", i, r)
			}
		}
	}
	rounds2, frames2, err := count()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("The end of %d partitions in one linearizable request to one broker, one request at a time for %v: %d answered; per request %.0f ReadIndex rounds, and **%.1f frames** between the brokers, heartbeats of that time included.\n",
		readsPartitions, d, answered, (rounds2-rounds)/float64(answered), (frames2-frames)/float64(answered)), nil
}

// emptyFetches keeps readsOpen fetches at the end of r/0 open for d and counts the answers.
func emptyFetches(ctx context.Context, conn *grpc.ClientConn, d time.Duration) (answered int, err error) {
	topic, err := pb.NewTopicServiceClient(conn).DescribeTopic(ctx, &pb.DescribeTopicRequest{Name: "r"})
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := pb.NewFetchServiceClient(conn).FetchStream(ctx)
	if err != nil {
		return 0, err
	}
	ask := func(id uint64) error {
		return s.Send(&pb.FetchStreamRequest{CorrelationId: id, Request: &pb.FetchRequest{
			Partition: &pb.PartitionRef{Topic: "r", TopicId: topic.GetTopic().GetId()}, Offset: 1, Consistency: pb.Consistency_CONSISTENCY_LINEARIZABLE}})
	}
	for id := range uint64(readsOpen) {
		if err := ask(id); err != nil {
			return 0, err
		}
	}
	for end := time.Now().Add(d); time.Now().Before(end); answered++ {
		m, err := s.Recv()
		if err != nil {
			return answered, err
		}
		if m.GetError() != nil || len(m.GetResponse().GetBatches()) > 0 || !m.GetResponse().GetHighConfirmed() {
			return answered, fmt.Errorf("want an empty, confirmed answer, have %v", m)
		}
		if err := ask(m.GetCorrelationId()); err != nil {
			return answered, err
		}
	}
	return answered, nil
}
