package cluster

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Limits of what is known of principals.
const (
	UsersMax          = 10_000
	ACLsMax           = 10_000
	principalBytesMax = 255
	verifierBytesMax  = 64
	iterationsMin     = 4096
	iterationsMax     = 1 << 24
)

// Operation is what a principal wants to do with a resource.
type Operation uint8

// The operations. Whoever may read, write, alter or delete something may also describe it.
const (
	OpAll Operation = iota + 1 // in ACLs only
	OpRead
	OpWrite
	OpCreate
	OpDelete
	OpAlter
	OpDescribe
)

// ResourceKind says what a name names.
type ResourceKind uint8

// The kinds. There is one cluster; its name in ACLs is "*".
const (
	ResourceTopic ResourceKind = iota + 1
	ResourceGroup
	ResourceCluster
)

// Words of operations and kinds, in their order, as commands and messages say them.
var (
	operationWords = []string{"all", "read", "write", "create", "delete", "alter", "describe"}
	kindWords      = []string{"topic", "group", "cluster"}
)

func (o Operation) String() string {
	if int(o) < 1 || int(o) > len(operationWords) {
		return fmt.Sprintf("operation %d", uint8(o))
	}
	return operationWords[o-1]
}

func (k ResourceKind) String() string {
	if int(k) < 1 || int(k) > len(kindWords) {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return kindWords[k-1]
}

// EveryPrincipal in an ACL means all of them, the anonymous one too; EveryName all resources of the kind.
const (
	EveryPrincipal = "*"
	EveryName      = "*"
)

// ACL allows or denies one principal one operation on resources.
type ACL struct {
	Principal string
	Kind      ResourceKind
	Name      string // EveryName, or compared as it is
	Prefix    bool   // Name begins the names meant
	Op        Operation
	Deny      bool
}

func (a *ACL) matches(principal string, op Operation, kind ResourceKind, name string) bool {
	if a.Kind != kind || a.Principal != EveryPrincipal && a.Principal != principal {
		return false
	}
	if a.Prefix && !strings.HasPrefix(name, a.Name) || !a.Prefix && a.Name != EveryName && a.Name != name {
		return false
	}
	if a.Op == OpAll || a.Op == op {
		return true
	}
	return !a.Deny && op == OpDescribe && a.Op != OpCreate // who may do something with it may see it
}

func compareACL(a, b ACL) int {
	bit := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	return cmp.Or(strings.Compare(a.Principal, b.Principal), cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name),
		cmp.Compare(bit(a.Prefix), bit(b.Prefix)), cmp.Compare(a.Op, b.Op), cmp.Compare(bit(a.Deny), bit(b.Deny)))
}

// Check names what is wrong with an ACL.
func (a *ACL) Check() error {
	switch {
	case a.Principal == "" || len(a.Principal) > principalBytesMax:
		return fmt.Errorf("a principal of %d bytes: want 1 to %d, or %s for all", len(a.Principal), principalBytesMax, EveryPrincipal)
	case a.Kind < ResourceTopic || a.Kind > ResourceCluster:
		return fmt.Errorf("unknown kind of resource %d", a.Kind)
	case a.Op < OpAll || a.Op > OpDescribe:
		return fmt.Errorf("unknown operation %d", a.Op)
	case a.Name == "" || len(a.Name) > topicNameBytesMax:
		return fmt.Errorf("a name of %d bytes: want 1 to %d, or %s for all", len(a.Name), topicNameBytesMax, EveryName)
	case a.Kind == ResourceCluster && (a.Name != EveryName || a.Prefix):
		return fmt.Errorf("there is one cluster: its name is %s", EveryName)
	}
	return nil
}

// Verifier proves a password by SCRAM (RFC 5802) and does not hold it.
type Verifier struct {
	Mechanism            string // ScramSHA256 or ScramSHA512
	Salt                 []byte
	Iterations           uint32
	StoredKey, ServerKey []byte
}

// The mechanisms.
const (
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
)

// User can prove itself by password.
type User struct {
	Name      string
	Verifiers []Verifier // sorted by mechanism, one of each at most
}

// Check names what is wrong with a user.
func (u *User) Check() error {
	if u.Name == "" || len(u.Name) > principalBytesMax || u.Name == EveryPrincipal {
		return fmt.Errorf("user name %q: want 1 to %d bytes, and not %s", u.Name, principalBytesMax, EveryPrincipal)
	}
	if len(u.Verifiers) == 0 {
		return fmt.Errorf("user %q has no verifier", u.Name)
	}
	for i, v := range u.Verifiers {
		keyBytes := map[string]int{ScramSHA256: 32, ScramSHA512: 64}[v.Mechanism]
		switch {
		case keyBytes == 0:
			return fmt.Errorf("mechanism %q: want %s or %s", v.Mechanism, ScramSHA256, ScramSHA512)
		case i > 0 && u.Verifiers[i-1].Mechanism == v.Mechanism:
			return fmt.Errorf("two verifiers of %s", v.Mechanism)
		case len(v.StoredKey) != keyBytes || len(v.ServerKey) != keyBytes:
			return fmt.Errorf("%s has keys of %d bytes, not of %d and %d", v.Mechanism, keyBytes, len(v.StoredKey), len(v.ServerKey))
		case len(v.Salt) < 8 || len(v.Salt) > verifierBytesMax:
			return fmt.Errorf("a salt of %d bytes: want 8 to %d", len(v.Salt), verifierBytesMax)
		case v.Iterations < iterationsMin || v.Iterations > iterationsMax:
			return fmt.Errorf("%d iterations: want %d to %d", v.Iterations, iterationsMin, iterationsMax)
		}
	}
	return nil
}

// Quota bounds what a principal may take of one broker; 0: no bound.
type Quota struct {
	Principal                          string // EveryPrincipal: each one that has no quota of its own
	ProduceBytes, FetchBytes, Requests uint64 // per second
	Connections                        uint64 // open at once
}

// Access is who may do what, at one index: immutable, shared by everyone.
type Access struct {
	Version uint64 // index of the last command that changed it
	users   []User // by name
	acls    []ACL  // sorted by compareACL
	quotas  []Quota
}

// Quotas are all quotas by principal. Not to be changed.
func (a *Access) Quotas() []Quota { return a.quotas }

// QuotaOf is a principal's quota: its own, else that of EveryPrincipal, else none.
func (a *Access) QuotaOf(principal string) Quota {
	for _, name := range []string{principal, EveryPrincipal} {
		if at, ok := findQuota(a.quotas, name); ok {
			return a.quotas[at]
		}
	}
	return Quota{Principal: principal}
}

func findQuota(list []Quota, principal string) (int, bool) {
	return slices.BinarySearchFunc(list, principal, func(q Quota, name string) int { return strings.Compare(q.Principal, name) })
}

// Users are all users by name. Not to be changed.
func (a *Access) Users() []User { return a.users }

// ACLs are all ACLs in a fixed order. Not to be changed.
func (a *Access) ACLs() []ACL { return a.acls }

// Verifier is a user's verifier for a mechanism.
func (a *Access) Verifier(user, mechanism string) (Verifier, bool) {
	if at, ok := a.find(user); ok {
		for _, v := range a.users[at].Verifiers {
			if v.Mechanism == mechanism {
				return v, true
			}
		}
	}
	return Verifier{}, false
}

// HasUser reports whether there is a user of this name.
func (a *Access) HasUser(name string) bool {
	_, ok := a.find(name)
	return ok
}

func (a *Access) find(name string) (int, bool) {
	return slices.BinarySearchFunc(a.users, name, func(u User, name string) int { return strings.Compare(u.Name, name) })
}

// Allowed reports whether a principal may do something: some ACL allows it and none denies it.
func (a *Access) Allowed(principal string, op Operation, kind ResourceKind, name string) bool {
	allowed := false
	for i := range a.acls {
		if a.acls[i].matches(principal, op, kind, name) {
			if a.acls[i].Deny {
				return false
			}
			allowed = true
		}
	}
	return allowed
}

// Commands of access; their numbers stand apart from the others'.
const (
	kindPutUser = iota + 64
	kindDeleteUser
	kindChangeACLs
	kindPutQuota            // without Connections: brokers of older builds know it
	kindPutQuotaConnections // with it
)

// PutUser makes a user or replaces its verifiers.
type PutUser struct {
	RequestID ID
	User      User
}

// EncodePutUser makes the command's bytes.
func EncodePutUser(c PutUser) []byte {
	w := newCommand(kindPutUser, c.RequestID)
	w.user(&c.User)
	return w.Data()
}

// DeleteUser deletes a user; its ACLs stay, as they do for principals that prove themselves otherwise.
type DeleteUser struct {
	RequestID ID
	Name      string
}

// EncodeDeleteUser makes the command's bytes.
func EncodeDeleteUser(c DeleteUser) []byte {
	w := newCommand(kindDeleteUser, c.RequestID)
	w.Str(c.Name)
	return w.Data()
}

// ChangeACLs adds and removes ACLs in one step; what is there already, or is not there to remove, is no fault. The answer's First is
// how many were added or removed.
type ChangeACLs struct {
	RequestID   ID
	Add, Remove []ACL
}

// EncodeChangeACLs makes the command's bytes.
func EncodeChangeACLs(c ChangeACLs) []byte {
	w := newCommand(kindChangeACLs, c.RequestID)
	w.acls(c.Add)
	w.acls(c.Remove)
	return w.Data()
}

// PutQuota sets a principal's quota; one without any bound is removed.
type PutQuota struct {
	RequestID ID
	Quota     Quota
}

// EncodePutQuota makes the command's bytes.
func EncodePutQuota(c PutQuota) []byte {
	kind := uint8(kindPutQuota)
	if c.Quota.Connections > 0 {
		kind = kindPutQuotaConnections
	}
	w := newCommand(kind, c.RequestID)
	w.quota(&c.Quota, c.Quota.Connections > 0)
	return w.Data()
}

func (w *writer) quota(q *Quota, connections bool) {
	w.Str(q.Principal)
	w.U64(q.ProduceBytes)
	w.U64(q.FetchBytes)
	w.U64(q.Requests)
	if connections {
		w.U64(q.Connections)
	}
}

func (r *reader) quota(connections bool) Quota {
	q := Quota{Principal: r.Str(), ProduceBytes: r.U64(), FetchBytes: r.U64(), Requests: r.U64()}
	if connections {
		q.Connections = r.U64()
	}
	return q
}

func (w *writer) user(u *User) {
	w.Str(u.Name)
	w.Count(len(u.Verifiers))
	for i := range u.Verifiers {
		v := &u.Verifiers[i]
		w.Str(v.Mechanism)
		w.Bytes(v.Salt)
		w.U32(v.Iterations)
		w.Bytes(v.StoredKey)
		w.Bytes(v.ServerKey)
	}
}

func (r *reader) user() User {
	u := User{Name: r.Str()}
	for range r.Count(4 * 5) {
		u.Verifiers = append(u.Verifiers, Verifier{Mechanism: r.Str(), Salt: bytes.Clone(r.Bytes()), Iterations: r.U32(), StoredKey: bytes.Clone(r.Bytes()), ServerKey: bytes.Clone(r.Bytes())})
	}
	slices.SortStableFunc(u.Verifiers, func(a, b Verifier) int { return strings.Compare(a.Mechanism, b.Mechanism) })
	return u
}

func (w *writer) acls(list []ACL) {
	w.Count(len(list))
	for i := range list {
		a := &list[i]
		var flags uint8
		if a.Prefix {
			flags |= 1
		}
		if a.Deny {
			flags |= 2
		}
		w.Str(a.Principal)
		w.U8(uint8(a.Kind))
		w.Str(a.Name)
		w.U8(uint8(a.Op))
		w.U8(flags)
	}
}

func (r *reader) acls() (list []ACL) {
	for range r.Count(4 + 1 + 4 + 1 + 1) {
		a := ACL{Principal: r.Str(), Kind: ResourceKind(r.U8()), Name: r.Str(), Op: Operation(r.U8())}
		flags := r.U8()
		a.Prefix, a.Deny = flags&1 != 0, flags&2 != 0
		list = append(list, a)
	}
	return list
}

// applyAccess carries out a command of access.
func (s *State) applyAccess(index uint64, kind uint8, r *reader) (x Result, ok bool) {
	switch kind {
	case kindPutUser:
		if u := r.user(); r.End() == nil {
			return s.putUser(index, u), true
		}
	case kindDeleteUser:
		if name := r.Str(); r.End() == nil {
			return s.deleteUser(index, name), true
		}
	case kindChangeACLs:
		if add, remove := r.acls(), r.acls(); r.End() == nil {
			return s.changeACLs(index, add, remove), true
		}
	case kindPutQuota, kindPutQuotaConnections:
		if q := r.quota(kind == kindPutQuotaConnections); r.End() == nil {
			return s.putQuota(index, q), true
		}
	}
	return Result{}, false
}

// setAccess replaces the access: views keep the old one.
func (s *State) setAccess(index uint64, a Access) {
	a.Version = index
	s.access = &a
	s.changed(index)
}

func (s *State) putUser(index uint64, u User) Result {
	if err := u.Check(); err != nil {
		return Result{Reason: ReasonInvalid, Message: err.Error()}
	}
	a := *s.access
	at, exists := a.find(u.Name)
	if !exists && len(a.users) >= UsersMax {
		return Result{Reason: ReasonLimit, Message: fmt.Sprintf("%d users exist: delete one first", UsersMax)}
	}
	if a.users = slices.Clone(a.users); exists {
		a.users[at] = u
	} else {
		a.users = slices.Insert(a.users, at, u)
	}
	s.setAccess(index, a)
	return Result{}
}

func (s *State) deleteUser(index uint64, name string) Result {
	a := *s.access
	at, ok := a.find(name)
	if !ok {
		return Result{Reason: ReasonUserNotFound, Message: fmt.Sprintf("user %q not found: see broker user list", name)}
	}
	a.users = slices.Delete(slices.Clone(a.users), at, at+1)
	s.setAccess(index, a)
	return Result{}
}

func (s *State) changeACLs(index uint64, add, remove []ACL) Result {
	for _, list := range [][]ACL{add, remove} {
		for i := range list {
			if err := list[i].Check(); err != nil {
				return Result{Reason: ReasonInvalid, Message: err.Error()}
			}
		}
	}
	a := *s.access
	a.acls = slices.Clone(a.acls)
	changed := 0
	for _, acl := range remove {
		if at, ok := slices.BinarySearchFunc(a.acls, acl, compareACL); ok {
			a.acls = slices.Delete(a.acls, at, at+1)
			changed++
		}
	}
	for _, acl := range add {
		if at, ok := slices.BinarySearchFunc(a.acls, acl, compareACL); !ok {
			a.acls = slices.Insert(a.acls, at, acl)
			changed++
		}
	}
	if len(a.acls) > ACLsMax {
		return Result{Reason: ReasonLimit, Message: fmt.Sprintf("%d ACLs, %d are possible: use prefixes", len(a.acls), ACLsMax)}
	}
	if changed > 0 {
		s.setAccess(index, a)
	}
	return Result{First: int64(changed)}
}

func (s *State) putQuota(index uint64, q Quota) Result {
	if q.Principal == "" || len(q.Principal) > principalBytesMax {
		return Result{Reason: ReasonInvalid, Message: fmt.Sprintf("a principal of %d bytes: want 1 to %d, or %s for each that has no quota of its own", len(q.Principal), principalBytesMax, EveryPrincipal)}
	}
	a := *s.access
	a.quotas = slices.Clone(a.quotas)
	at, exists := findQuota(a.quotas, q.Principal)
	none := q == Quota{Principal: q.Principal}
	switch {
	case exists && none:
		a.quotas = slices.Delete(a.quotas, at, at+1)
	case exists:
		a.quotas[at] = q
	case none:
		return Result{}
	case len(a.quotas) >= UsersMax:
		return Result{Reason: ReasonLimit, Message: fmt.Sprintf("%d quotas exist: remove one first, or set one for %s", UsersMax, EveryPrincipal)}
	default:
		a.quotas = slices.Insert(a.quotas, at, q)
	}
	s.setAccess(index, a)
	return Result{}
}

// accessState is the part of a snapshot that is about access.
func (w *writer) accessState(a *Access) {
	w.U64(a.Version)
	w.Count(len(a.users))
	for i := range a.users {
		w.user(&a.users[i])
	}
	w.acls(a.acls)
	w.Count(len(a.quotas))
	for i := range a.quotas {
		w.quota(&a.quotas[i], true)
	}
}

func (r *reader) accessState(version uint8) *Access {
	a := &Access{Version: r.U64()}
	for range r.Count(4 + 4) {
		a.users = append(a.users, r.user())
	}
	a.acls = r.acls()
	for range r.Count(4 + 3*8) {
		a.quotas = append(a.quotas, r.quota(version > snapshotMoved))
	}
	return a
}
