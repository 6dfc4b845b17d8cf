package rpc

import (
	"google.golang.org/protobuf/proto"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// NewPutUser begins a unary call; its one message is a *pb.PutUserRequest.
func NewPutUser(env *Env) Session {
	return &metadataCall{call: call{env: env},
		build: func(in proto.Message) ([]byte, *partition.Error) {
			m := in.(*pb.PutUserRequest)
			id, err := requestID(env, m.GetRequestId())
			u := cluster.User{Name: m.GetName()}
			for _, v := range m.GetVerifiers() {
				u.Verifiers = append(u.Verifiers, cluster.Verifier{Mechanism: v.GetMechanism(), Salt: v.GetSalt(), Iterations: v.GetIterations(), StoredKey: v.GetStoredKey(), ServerKey: v.GetServerKey()})
			}
			return cluster.EncodePutUser(cluster.PutUser{RequestID: id, User: u}), err
		},
		answer: func(*cluster.Result) (proto.Message, *partition.Error) { return &pb.PutUserResponse{}, nil }}
}

// NewDeleteUser begins a unary call; its one message is a *pb.DeleteUserRequest.
func NewDeleteUser(env *Env) Session {
	return &metadataCall{call: call{env: env},
		build: func(in proto.Message) ([]byte, *partition.Error) {
			m := in.(*pb.DeleteUserRequest)
			id, err := requestID(env, m.GetRequestId())
			return cluster.EncodeDeleteUser(cluster.DeleteUser{RequestID: id, Name: m.GetName()}), err
		},
		answer: func(*cluster.Result) (proto.Message, *partition.Error) { return &pb.DeleteUserResponse{}, nil }}
}

// NewChangeACLs begins a unary call; its one message is a *pb.ChangeAclsRequest.
func NewChangeACLs(env *Env) Session {
	return &metadataCall{call: call{env: env},
		build: func(in proto.Message) ([]byte, *partition.Error) {
			m := in.(*pb.ChangeAclsRequest)
			id, err := requestID(env, m.GetRequestId())
			if err == nil && len(m.GetAdd())+len(m.GetRemove()) == 0 {
				err = invalid("nothing to change: name ACLs to add or remove")
			}
			return cluster.EncodeChangeACLs(cluster.ChangeACLs{RequestID: id, Add: fromACLs(m.GetAdd()), Remove: fromACLs(m.GetRemove())}), err
		},
		answer: func(x *cluster.Result) (proto.Message, *partition.Error) {
			return &pb.ChangeAclsResponse{Changed: x.First}, nil
		}}
}

// NewPutQuota begins a unary call; its one message is a *pb.PutQuotaRequest.
func NewPutQuota(env *Env) Session {
	return &metadataCall{call: call{env: env},
		build: func(in proto.Message) ([]byte, *partition.Error) {
			m := in.(*pb.PutQuotaRequest)
			id, err := requestID(env, m.GetRequestId())
			q := m.GetQuota()
			if err == nil && q.GetConnections() > 0 {
				err = gate(env.Dir, cluster.FeatureConnectionQuotas)
			}
			return cluster.EncodePutQuota(cluster.PutQuota{RequestID: id, Quota: cluster.Quota{Principal: q.GetPrincipal(), ProduceBytes: q.GetProduceBytes(), FetchBytes: q.GetFetchBytes(), Requests: q.GetRequests(), Connections: q.GetConnections()}}), err
		},
		answer: func(*cluster.Result) (proto.Message, *partition.Error) { return &pb.PutQuotaResponse{}, nil }}
}

// The enums of access.proto have the numbers of package cluster.
func fromACLs(list []*pb.Acl) (out []cluster.ACL) {
	for _, a := range list {
		out = append(out, cluster.ACL{Principal: a.GetPrincipal(), Kind: cluster.ResourceKind(a.GetKind()), Name: a.GetName(), Prefix: a.GetPrefix(), Op: cluster.Operation(a.GetOperation()), Deny: a.GetDeny()})
	}
	return out
}

// accessList is a call that lists something of the access as it certainly is.
func accessList(env *Env, list func(*cluster.Access) proto.Message) Session {
	return &barrier{call: call{env: env}, answer: func(certain bool) (proto.Message, *partition.Error) {
		if !certain {
			return nil, nil
		}
		return list(env.Dir.View().Access()), nil
	}}
}

// NewListUsers begins a unary call; its one message is a *pb.ListUsersRequest.
func NewListUsers(env *Env) Session {
	return accessList(env, func(a *cluster.Access) proto.Message {
		out := &pb.ListUsersResponse{}
		for _, u := range a.Users() {
			x := &pb.ListUsersResponse_User{Name: u.Name}
			for _, v := range u.Verifiers {
				x.Mechanisms = append(x.Mechanisms, v.Mechanism)
			}
			out.Users = append(out.Users, x)
		}
		return out
	})
}

// NewListACLs begins a unary call; its one message is a *pb.ListAclsRequest.
func NewListACLs(env *Env) Session {
	return accessList(env, func(a *cluster.Access) proto.Message {
		out := &pb.ListAclsResponse{}
		for _, x := range a.ACLs() {
			out.Acls = append(out.Acls, &pb.Acl{Principal: x.Principal, Kind: pb.ResourceKind(x.Kind), Name: x.Name, Prefix: x.Prefix, Operation: pb.Operation(x.Op), Deny: x.Deny})
		}
		return out
	})
}

// NewListQuotas begins a unary call; its one message is a *pb.ListQuotasRequest.
func NewListQuotas(env *Env) Session {
	return accessList(env, func(a *cluster.Access) proto.Message {
		out := &pb.ListQuotasResponse{}
		for _, q := range a.Quotas() {
			out.Quotas = append(out.Quotas, &pb.Quota{Principal: q.Principal, ProduceBytes: q.ProduceBytes, FetchBytes: q.FetchBytes, Requests: q.Requests, Connections: q.Connections})
		}
		return out
	})
}
