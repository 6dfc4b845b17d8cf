package broker

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// Each service says for itself whether it can serve: without a majority the broker still reads what it knows, but appends nothing
// and makes no topics.
func TestHealthPerService(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := startBrokers(t, 3)
	conn, err := grpc.NewClient("passthrough:///"+c.options[0].Listen, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	await := func(service string, want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		var last any
		for {
			r, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
			if err == nil && r.GetStatus() == want {
				return
			}
			last = err
			if err == nil {
				last = r.GetStatus()
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%q is %v, want %v", service, last, want)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	const serving, not = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
	for _, name := range []string{"", "lograft.v1.ProduceService", "lograft.v1.FetchService", "lograft.v1.TopicService", "lograft.v1.ClusterService"} {
		await(name, serving)
	}
	if _, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: "lograft.v1.NoService"}); err == nil {
		t.Error("a service that does not exist has a health")
	}
	c.end(1)
	c.end(2)
	for _, name := range []string{"", "lograft.v1.ProduceService", "lograft.v1.TopicService"} {
		await(name, not)
	}
	await("lograft.v1.FetchService", serving)
	await("lograft.v1.ClusterService", serving)
}
