package client

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/xdg-go/scram"
	"google.golang.org/grpc"

	pb "lograft/api/lograft/v1"
	"lograft/client/core"
)

// User is a principal with a password.
type User struct {
	Name       string
	Mechanisms []string
}

// ACL allows or denies a principal an operation on resources.
type ACL struct {
	Principal string // "*": all
	Kind      string // topic, group or cluster
	Name      string // "*": all
	Prefix    bool   // Name begins the names meant
	Operation string // all, read, write, create, delete, alter or describe
	Deny      bool
}

// Quota bounds what a principal may take of one broker; 0: no bound.
type Quota struct {
	Principal                          string // "*": each that has no quota of its own
	ProduceBytes, FetchBytes, Requests uint64 // per second
	Connections                        uint64 // open at once; a Client has one to each broker that it uses
}

// PasswordIterations is the work of SCRAM that PutUser asks for: what a stolen verifier costs to guess from.
const PasswordIterations = 15_000

// words of the enums of access.proto, from number 1 on.
var (
	operationWords = []string{"all", "read", "write", "create", "delete", "alter", "describe"}
	kindWords      = []string{"topic", "group", "cluster"}
)

func number(what, word string, words []string) (int32, error) {
	for i, w := range words {
		if w == word {
			return int32(i + 1), nil
		}
	}
	return 0, &Error{Reason: core.ReasonInvalid, Message: fmt.Sprintf("%s %q: want one of %v", what, word, words)}
}

func word(n int32, words []string) string {
	if n < 1 || int(n) > len(words) {
		return fmt.Sprint(n)
	}
	return words[n-1]
}

func (a *ACL) proto() (*pb.Acl, error) {
	kind, err := number("resource", a.Kind, kindWords)
	if err != nil {
		return nil, err
	}
	op, err := number("operation", a.Operation, operationWords)
	return &pb.Acl{Principal: a.Principal, Kind: pb.ResourceKind(kind), Name: a.Name, Prefix: a.Prefix, Operation: pb.Operation(op), Deny: a.Deny}, err
}

// accessCall runs a unary call of AccessService on some broker.
func accessCall[In, Out any](ctx context.Context, c *Client, in In, do func(pb.AccessServiceClient, context.Context, In, ...grpc.CallOption) (Out, error)) (Out, error) {
	out, err := call(ctx, c, func(ctx context.Context, conn *grpc.ClientConn) (Out, error) {
		return do(pb.NewAccessServiceClient(conn), ctx, in)
	})
	if err != nil {
		return out, err
	}
	return out, nil
}

// PutUser makes a user or gives it a new password. Verifiers for both mechanisms are made here: the password does not leave this
// process.
func (c *Client) PutUser(ctx context.Context, name, password string) error {
	id := requestID()
	in := &pb.PutUserRequest{RequestId: id, Name: name}
	for mechanism, hash := range map[string]scram.HashGeneratorFcn{"SCRAM-SHA-256": scram.SHA256, "SCRAM-SHA-512": scram.SHA512} {
		user, err := hash.NewClient(name, password, "")
		if err != nil {
			return &Error{Reason: core.ReasonInvalid, Message: fmt.Sprintf("user or password: %v", err)}
		}
		salt := make([]byte, 16)
		if _, err := rand.Read(salt); err != nil {
			return err
		}
		v, err := user.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: PasswordIterations})
		if err != nil {
			return &Error{Reason: core.ReasonInvalid, Message: fmt.Sprintf("user or password: %v", err)}
		}
		in.Verifiers = append(in.Verifiers, &pb.Verifier{Mechanism: mechanism, Salt: salt, Iterations: PasswordIterations, StoredKey: v.StoredKey, ServerKey: v.ServerKey})
	}
	_, err := accessCall(ctx, c, in, pb.AccessServiceClient.PutUser)
	return err
}

// DeleteUser deletes a user: its sessions end.
func (c *Client) DeleteUser(ctx context.Context, name string) error {
	_, err := accessCall(ctx, c, &pb.DeleteUserRequest{RequestId: requestID(), Name: name}, pb.AccessServiceClient.DeleteUser)
	return err
}

// ListUsers lists all users by name.
func (c *Client) ListUsers(ctx context.Context) (users []User, err error) {
	out, err := accessCall(ctx, c, &pb.ListUsersRequest{}, pb.AccessServiceClient.ListUsers)
	for _, u := range out.GetUsers() {
		users = append(users, User{u.GetName(), u.GetMechanisms()})
	}
	return users, err
}

// ChangeACLs adds and removes ACLs in one step and returns how many were added or removed.
func (c *Client) ChangeACLs(ctx context.Context, add, remove []ACL) (changed int64, err error) {
	in := &pb.ChangeAclsRequest{RequestId: requestID()}
	for _, part := range []struct {
		from []ACL
		to   *[]*pb.Acl
	}{{add, &in.Add}, {remove, &in.Remove}} {
		for i := range part.from {
			a, err := part.from[i].proto()
			if err != nil {
				return 0, err
			}
			*part.to = append(*part.to, a)
		}
	}
	out, err := accessCall(ctx, c, in, pb.AccessServiceClient.ChangeAcls)
	return out.GetChanged(), err
}

// ListACLs lists all ACLs, by principal first.
func (c *Client) ListACLs(ctx context.Context) (acls []ACL, err error) {
	out, err := accessCall(ctx, c, &pb.ListAclsRequest{}, pb.AccessServiceClient.ListAcls)
	for _, a := range out.GetAcls() {
		acls = append(acls, ACL{a.GetPrincipal(), word(int32(a.GetKind()), kindWords), a.GetName(), a.GetPrefix(), word(int32(a.GetOperation()), operationWords), a.GetDeny()})
	}
	return acls, err
}

// PutQuota sets a quota; one without any bound is removed. It holds from then on, for connections that are open too.
func (c *Client) PutQuota(ctx context.Context, q Quota) error {
	in := &pb.PutQuotaRequest{RequestId: requestID(), Quota: &pb.Quota{Principal: q.Principal, ProduceBytes: q.ProduceBytes, FetchBytes: q.FetchBytes, Requests: q.Requests, Connections: q.Connections}}
	_, err := accessCall(ctx, c, in, pb.AccessServiceClient.PutQuota)
	return err
}

// ListQuotas lists all quotas by principal.
func (c *Client) ListQuotas(ctx context.Context) (quotas []Quota, err error) {
	out, err := accessCall(ctx, c, &pb.ListQuotasRequest{}, pb.AccessServiceClient.ListQuotas)
	for _, q := range out.GetQuotas() {
		quotas = append(quotas, Quota{q.GetPrincipal(), q.GetProduceBytes(), q.GetFetchBytes(), q.GetRequests(), q.GetConnections()})
	}
	return quotas, err
}
