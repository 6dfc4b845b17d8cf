package rpc

import (
	"context"
	"time"

	pb "lograft/api/lograft/v1"
)

// FindCoordinator implements lograft.v1.
func (s *Server) FindCoordinator(ctx context.Context, in *pb.FindCoordinatorRequest) (*pb.FindCoordinatorResponse, error) {
	return unary[*pb.FindCoordinatorResponse](ctx, s, NewFindCoordinator(s.envOf(ctx)), in)
}

// Join implements lograft.v1.
func (s *Server) Join(g pb.GroupService_JoinServer) error {
	return stream(g.Context(), s, NewGroupMember(s.envOf(g.Context())), g.Recv, g.SendMsg)
}

// ListGroups implements lograft.v1.
func (s *Server) ListGroups(ctx context.Context, in *pb.ListGroupsRequest) (*pb.ListGroupsResponse, error) {
	return unary[*pb.ListGroupsResponse](ctx, s, NewListGroups(s.envOf(ctx)), in)
}

// DescribeGroup implements lograft.v1.
func (s *Server) DescribeGroup(ctx context.Context, in *pb.DescribeGroupRequest) (*pb.DescribeGroupResponse, error) {
	return unary[*pb.DescribeGroupResponse](ctx, s, NewDescribeGroup(s.envOf(ctx)), in)
}

// MeasureGroups looks at how far groups have read: what this broker measures of them. It takes at most until ctx ends.
func (s *Server) MeasureGroups(ctx context.Context, patience time.Duration) (groups []*pb.DescribeGroupResponse, leftOut int) {
	session := NewMeasureGroups(s.envOf(ctx), s.host.Now()+int64(patience))
	r := s.newRunner(session)
	defer r.close()
	r.receive(&Event{Message: &pb.ListGroupsRequest{}})
	err := r.run(ctx, func(m *outgoing) error {
		groups = append(groups, m.message.(*pb.DescribeGroupResponse))
		m.parcel.drop()
		return nil
	})
	if err != nil {
		return nil, 0
	}
	return groups, session.LeftOut
}

// SeekGroup implements lograft.v1.
func (s *Server) SeekGroup(ctx context.Context, in *pb.SeekGroupRequest) (*pb.SeekGroupResponse, error) {
	return unary[*pb.SeekGroupResponse](ctx, s, NewSeekGroup(s.envOf(ctx)), in)
}

// DeleteGroup implements lograft.v1.
func (s *Server) DeleteGroup(ctx context.Context, in *pb.DeleteGroupRequest) (*pb.DeleteGroupResponse, error) {
	return unary[*pb.DeleteGroupResponse](ctx, s, NewDeleteGroup(s.envOf(ctx)), in)
}
