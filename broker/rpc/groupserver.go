package rpc

import (
	"context"

	pb "lograft/api/lograft/v1"
)

// FindCoordinator implements lograft.v1.
func (s *Server) FindCoordinator(ctx context.Context, in *pb.FindCoordinatorRequest) (*pb.FindCoordinatorResponse, error) {
	return unary[*pb.FindCoordinatorResponse](ctx, s, NewFindCoordinator(s.envOf(ctx)), in)
}

// Join implements lograft.v1.
func (s *Server) Join(g pb.GroupService_JoinServer) error {
	return stream(g.Context(), s, NewGroupMember(s.envOf(g.Context())), g.Recv, g.Send)
}

// ListGroups implements lograft.v1.
func (s *Server) ListGroups(ctx context.Context, in *pb.ListGroupsRequest) (*pb.ListGroupsResponse, error) {
	return unary[*pb.ListGroupsResponse](ctx, s, NewListGroups(s.envOf(ctx)), in)
}

// DescribeGroup implements lograft.v1.
func (s *Server) DescribeGroup(ctx context.Context, in *pb.DescribeGroupRequest) (*pb.DescribeGroupResponse, error) {
	return unary[*pb.DescribeGroupResponse](ctx, s, NewDescribeGroup(s.envOf(ctx)), in)
}

// SeekGroup implements lograft.v1.
func (s *Server) SeekGroup(ctx context.Context, in *pb.SeekGroupRequest) (*pb.SeekGroupResponse, error) {
	return unary[*pb.SeekGroupResponse](ctx, s, NewSeekGroup(s.envOf(ctx)), in)
}

// DeleteGroup implements lograft.v1.
func (s *Server) DeleteGroup(ctx context.Context, in *pb.DeleteGroupRequest) (*pb.DeleteGroupResponse, error) {
	return unary[*pb.DeleteGroupResponse](ctx, s, NewDeleteGroup(s.envOf(ctx)), in)
}
