package broker

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	pb "lograft/api/lograft/v1"
)

// healthEvery is how often the health of the services is looked at.
const healthEvery = 250 * time.Millisecond

// serving says which services have something to serve: the broker as a whole ("") and whatever appends while it is ready; topics
// while the metadata group has a leader; reads and metadata while the broker is not draining, because what is known is served
// without a leader too.
func (n *node) serving(service string) bool {
	switch service {
	case pb.ClusterService_ServiceDesc.ServiceName, pb.FetchService_ServiceDesc.ServiceName:
		return !n.draining.Load()
	case pb.TopicService_ServiceDesc.ServiceName:
		leader, _, _ := n.dir.Leader(n.parts.MetaGroup)
		return !n.draining.Load() && leader != 0
	}
	return n.notReady() == ""
}

// tellHealth keeps the health service true until ctx is done.
func (n *node) tellHealth(ctx context.Context, h *health.Server, srv *grpc.Server) {
	names := []string{""}
	for name := range srv.GetServiceInfo() {
		names = append(names, name)
	}
	t := time.NewTicker(healthEvery)
	defer t.Stop()
	for {
		for _, name := range names {
			status := healthpb.HealthCheckResponse_NOT_SERVING
			if n.serving(name) {
				status = healthpb.HealthCheckResponse_SERVING
			}
			h.SetServingStatus(name, status)
		}
		select {
		case <-ctx.Done():
			h.Shutdown()
			return
		case <-t.C:
		}
	}
}
