package rpc

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
)

// rule is what a method wants of its caller. The zero rule wants only that he has proved who he is.
type rule struct {
	public bool // wants nothing
	// needs lists the rights that a message wants; all of them are needed.
	needs func(dir Directory, c *Caller, m proto.Message) []need
	// items: every item is judged by its session, which knows what it resolved to, and a refusal is the item's answer alone.
	items bool
	// filter takes out of an answer what the caller may not see.
	filter func(m proto.Message, c *Caller)
	admin  bool // goes to the audit log
}

func topicNeed(op cluster.Operation, name string) []need {
	return []need{{op, cluster.ResourceTopic, name}}
}

func groupNeed(op cluster.Operation, name string) []need {
	return []need{{op, cluster.ResourceGroup, name}}
}

func groupCall(op cluster.Operation) func(Directory, *Caller, proto.Message) []need {
	return func(_ Directory, _ *Caller, m proto.Message) []need {
		return groupNeed(op, m.(interface{ GetName() string }).GetName())
	}
}

func clusterNeed(op cluster.Operation) func(Directory, *Caller, proto.Message) []need {
	return func(Directory, *Caller, proto.Message) []need {
		return []need{{op, cluster.ResourceCluster, cluster.EveryName}}
	}
}

// named is a request that names a topic, by id if it is set.
type named interface {
	GetName() string
	GetTopicId() []byte
}

func topicChange(op cluster.Operation) func(Directory, *Caller, proto.Message) []need {
	return func(dir Directory, _ *Caller, m proto.Message) []need {
		q := m.(named)
		needs := topicNeed(op, q.GetName())
		if len(q.GetTopicId()) > 0 { // a name and an id that do not fit together are refused later: judged by both
			needs = append(needs, topicNeed(op, canonical(dir, q.GetName(), q.GetTopicId()))...)
		}
		return needs
	}
}

// placed is a request about one partition.
type placed interface{ GetPartition() *pb.PartitionRef }

func partitionNeed(op cluster.Operation) func(Directory, *Caller, proto.Message) []need {
	return func(dir Directory, _ *Caller, m proto.Message) []need {
		p := m.(placed).GetPartition()
		return topicNeed(op, canonical(dir, p.GetTopic(), p.GetTopicId()))
	}
}

func maySee(c *Caller) func(*pb.Topic) bool {
	return func(t *pb.Topic) bool { return !c.may(need{cluster.OpDescribe, cluster.ResourceTopic, t.GetName()}) }
}

// httpPath begins the rows of paths of the HTTP port.
const httpPath = "HTTP "

// HTTPPaths are the paths of the HTTP port that the table has rows for, sorted.
func HTTPPaths() (paths []string) {
	for row := range rules {
		if path, ok := strings.CutPrefix(row, httpPath); ok {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// rules is the one table of rights: every method of every service, and every path of the HTTP port. What is not here is denied; tests
// walk the services and the paths.
var rules = map[string]rule{
	"/lograft.v1.ProduceService/Produce":       {items: true},
	"/lograft.v1.ProduceService/ProduceStream": {items: true},
	"/lograft.v1.FetchService/Fetch":           {items: true},
	"/lograft.v1.FetchService/FetchStream":     {items: true},
	"/lograft.v1.FetchService/ListOffsets":     {needs: partitionNeed(cluster.OpDescribe)},

	"/lograft.v1.FetchService/FetchPartitions":      {items: true},
	"/lograft.v1.FetchService/OffsetForLeaderEpoch": {needs: partitionNeed(cluster.OpDescribe)},
	"/lograft.v1.FetchService/Subscribe": {needs: func(dir Directory, _ *Caller, m proto.Message) (needs []need) {
		for _, p := range m.(*pb.SubscribeRequest).GetStart().GetPartitions() {
			ref := p.GetPartition()
			needs = append(needs, topicNeed(cluster.OpRead, canonical(dir, ref.GetTopic(), ref.GetTopicId()))...)
		}
		return needs
	}},
	"/lograft.v1.ProduceService/ReleaseProducer": {needs: partitionNeed(cluster.OpWrite)},

	"/lograft.v1.TopicService/CreateTopic": {admin: true, needs: func(_ Directory, _ *Caller, m proto.Message) []need {
		return topicNeed(cluster.OpCreate, m.(*pb.CreateTopicRequest).GetName())
	}},
	"/lograft.v1.TopicService/DeleteTopic":   {admin: true, needs: topicChange(cluster.OpDelete)},
	"/lograft.v1.TopicService/AlterTopic":    {admin: true, needs: topicChange(cluster.OpAlter)},
	"/lograft.v1.TopicService/AddPartitions": {admin: true, needs: topicChange(cluster.OpAlter)},
	"/lograft.v1.TopicService/TrimPartition": {admin: true, needs: partitionNeed(cluster.OpDelete)},
	"/lograft.v1.TopicService/DescribeTopic": {needs: func(_ Directory, _ *Caller, m proto.Message) []need {
		return topicNeed(cluster.OpDescribe, m.(*pb.DescribeTopicRequest).GetName())
	}},
	"/lograft.v1.TopicService/ListTopics": {filter: func(m proto.Message, c *Caller) {
		out := m.(*pb.ListTopicsResponse)
		out.Topics = slices.DeleteFunc(out.Topics, maySee(c))
	}},

	"/lograft.v1.ClusterService/GetMetadata": {filter: func(m proto.Message, c *Caller) {
		out := m.(*pb.GetMetadataResponse)
		out.Topics = slices.DeleteFunc(out.Topics, maySee(c))
	}},
	"/lograft.v1.ClusterService/WatchMetadata":  {needs: clusterNeed(cluster.OpDescribe)}, // shows all topics
	"/lograft.v1.ClusterService/InitProducerId": {},
	"/lograft.v1.ClusterService/DescribeReplicas": {filter: func(m proto.Message, c *Caller) {
		out := m.(*pb.DescribeReplicasResponse)
		out.Replicas = slices.DeleteFunc(out.Replicas, func(r *pb.ReplicaState) bool {
			if r.GetTopic() == "" {
				return !c.may(need{cluster.OpDescribe, cluster.ResourceCluster, cluster.EveryName})
			}
			return !c.may(need{cluster.OpDescribe, cluster.ResourceTopic, r.GetTopic()})
		})
	}},

	"/lograft.v1.GroupService/FindCoordinator": {needs: func(_ Directory, _ *Caller, m proto.Message) []need {
		return groupNeed(cluster.OpDescribe, m.(*pb.FindCoordinatorRequest).GetGroup())
	}},
	// Joining wants the right to read the group and each topic; what comes later on the stream is fenced by the membership.
	"/lograft.v1.GroupService/Join": {needs: func(_ Directory, _ *Caller, m proto.Message) []need {
		member := m.(*pb.JoinRequest).GetMember()
		if member == nil {
			return nil
		}
		needs := groupNeed(cluster.OpRead, member.GetGroup())
		for _, t := range member.GetTopics() {
			needs = append(needs, topicNeed(cluster.OpRead, t)...)
		}
		return needs
	}},
	"/lograft.v1.GroupService/ListGroups": {filter: func(m proto.Message, c *Caller) {
		out := m.(*pb.ListGroupsResponse)
		out.Groups = slices.DeleteFunc(out.Groups, func(g *pb.GroupSummary) bool {
			return !c.may(need{cluster.OpDescribe, cluster.ResourceGroup, g.GetName()})
		})
	}},
	"/lograft.v1.GroupService/DescribeGroup": {needs: groupCall(cluster.OpDescribe)},
	"/lograft.v1.GroupService/SeekGroup": {admin: true, needs: func(_ Directory, _ *Caller, m proto.Message) []need {
		return groupNeed(cluster.OpAlter, m.(*pb.SeekGroupRequest).GetGroup())
	}},
	"/lograft.v1.GroupService/DeleteGroup": {admin: true, needs: groupCall(cluster.OpDelete)},

	"/lograft.v1.StorageService/Scrub":   {admin: true, needs: clusterNeed(cluster.OpAlter)},
	"/lograft.v1.StorageService/Recover": {admin: true, needs: clusterNeed(cluster.OpAlter)},

	"/lograft.v1.MembershipService/AddBroker":          {admin: true, needs: clusterNeed(cluster.OpAlter)},
	"/lograft.v1.MembershipService/ForfeitBrokers":     {admin: true, needs: clusterNeed(cluster.OpAlter)},
	"/lograft.v1.MembershipService/RemoveBroker":       {admin: true, needs: clusterNeed(cluster.OpAlter)},
	"/lograft.v1.MembershipService/DecommissionBroker": {admin: true, needs: clusterNeed(cluster.OpAlter)},
	"/lograft.v1.MembershipService/Rebalance":          {admin: true, needs: clusterNeed(cluster.OpAlter)},
	"/lograft.v1.MembershipService/ReassignPartition":  {admin: true, needs: clusterNeed(cluster.OpAlter)},
	"/lograft.v1.MembershipService/TransferLeader":     {admin: true, needs: clusterNeed(cluster.OpAlter)},
	"/lograft.v1.MembershipService/DescribeMembers":    {needs: clusterNeed(cluster.OpDescribe)},

	"/lograft.v1.AccessService/Authenticate": {public: true},
	// Everyone who is a user may change his own password.
	"/lograft.v1.AccessService/PutUser": {admin: true, needs: func(dir Directory, c *Caller, m proto.Message) []need {
		if name := m.(*pb.PutUserRequest).GetName(); c != nil && name == c.principal && dir.View().Access().HasUser(name) {
			return nil
		}
		return clusterNeed(cluster.OpAlter)(dir, c, m)
	}},
	"/lograft.v1.AccessService/DeleteUser": {admin: true, needs: clusterNeed(cluster.OpAlter)},
	"/lograft.v1.AccessService/ListUsers":  {needs: clusterNeed(cluster.OpDescribe)},
	"/lograft.v1.AccessService/ChangeAcls": {admin: true, needs: clusterNeed(cluster.OpAlter)},
	"/lograft.v1.AccessService/ListAcls":   {needs: clusterNeed(cluster.OpDescribe)},
	"/lograft.v1.AccessService/PutQuota":   {admin: true, needs: clusterNeed(cluster.OpAlter)},
	"/lograft.v1.AccessService/ListQuotas": {needs: clusterNeed(cluster.OpDescribe)},

	"/grpc.health.v1.Health/Check": {public: true},
	"/grpc.health.v1.Health/List":  {},
	"/grpc.health.v1.Health/Watch": {}, // goes on for ever: for who has proved who he is
	// The HTTP port asks only where http-tls.ca is set.
	httpPath + "/livez":               {public: true},
	httpPath + "/readyz":              {public: true},
	httpPath + "/version":             {needs: clusterNeed(cluster.OpDescribe)},
	httpPath + "/metrics":             {needs: clusterNeed(cluster.OpDescribe)}, // shows all topics
	httpPath + "/debug/pprof/":        {admin: true, needs: clusterNeed(cluster.OpAlter)},
	httpPath + "/debug/pprof/cmdline": {admin: true, needs: clusterNeed(cluster.OpAlter)},
	httpPath + "/debug/pprof/profile": {admin: true, needs: clusterNeed(cluster.OpAlter)},
	httpPath + "/debug/pprof/block":   {admin: true, needs: clusterNeed(cluster.OpAlter)},
	httpPath + "/debug/pprof/mutex":   {admin: true, needs: clusterNeed(cluster.OpAlter)},
	httpPath + "/debug/pprof/symbol":  {admin: true, needs: clusterNeed(cluster.OpAlter)},
	httpPath + "/debug/pprof/trace":   {admin: true, needs: clusterNeed(cluster.OpAlter)},

	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      {},
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": {},
}
