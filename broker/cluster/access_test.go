package cluster

import (
	"bytes"
	"fmt"
	"testing"
)

func verifier(mechanism string) Verifier {
	n := map[string]int{ScramSHA256: 32, ScramSHA512: 64}[mechanism]
	return Verifier{Mechanism: mechanism, Salt: []byte("12345678"), Iterations: 4096, StoredKey: make([]byte, n), ServerKey: make([]byte, n)}
}

func putUser(id byte, name string, v ...Verifier) []byte {
	return EncodePutUser(PutUser{RequestID: ID{id, 1}, User: User{Name: name, Verifiers: v}})
}

func changeACLs(id byte, add, remove []ACL) []byte {
	return EncodeChangeACLs(ChangeACLs{RequestID: ID{id, 2}, Add: add, Remove: remove})
}

// What ACLs mean: deny beats allow, names are exact or a prefix, who may do something may describe it, and without an ACL nobody may
// do anything.
func TestAllowed(t *testing.T) {
	s := stateOf(t, 1)
	topic := func(who, name string, op Operation) ACL {
		return ACL{Principal: who, Kind: ResourceTopic, Name: name, Op: op}
	}
	deny := func(a ACL) ACL { a.Deny = true; return a }
	prefix := func(a ACL) ACL { a.Prefix = true; return a }
	applied(t, s, changeACLs(1, []ACL{
		topic("alice", "orders", OpRead),
		prefix(topic("bob", "log-", OpAll)),
		deny(topic("bob", "log-secret", OpRead)),
		topic("carol", EveryName, OpCreate),
		topic(EveryPrincipal, "public", OpRead),
		deny(topic("eve", EveryName, OpAll)),
		{Principal: "alice", Kind: ResourceGroup, Name: "g", Op: OpRead},
		{Principal: "root", Kind: ResourceCluster, Name: EveryName, Op: OpAlter},
	}, nil))
	a := s.View().Access()
	for _, c := range []struct {
		who  string
		op   Operation
		kind ResourceKind
		name string
		want bool
	}{
		{"alice", OpRead, ResourceTopic, "orders", true},
		{"alice", OpDescribe, ResourceTopic, "orders", true},
		{"alice", OpWrite, ResourceTopic, "orders", false},
		{"alice", OpRead, ResourceTopic, "orders2", false},
		{"alice", OpRead, ResourceTopic, "order", false},
		{"alice", OpRead, ResourceGroup, "orders", false},
		{"alice", OpRead, ResourceGroup, "g", true},
		{"Alice", OpRead, ResourceTopic, "orders", false},
		{"bob", OpDelete, ResourceTopic, "log-1", true},
		{"bob", OpDelete, ResourceTopic, "log", false},
		{"bob", OpRead, ResourceTopic, "log-secret", false},
		{"bob", OpWrite, ResourceTopic, "log-secret", true},
		{"bob", OpDescribe, ResourceTopic, "log-secret", true},
		{"carol", OpCreate, ResourceTopic, "x", true},
		{"carol", OpDescribe, ResourceTopic, "x", false},
		{"dave", OpRead, ResourceTopic, "public", true},
		{"", OpRead, ResourceTopic, "public", true},
		{"eve", OpRead, ResourceTopic, "public", false},
		{"eve", OpDescribe, ResourceTopic, "public", false},
		{"root", OpAlter, ResourceCluster, EveryName, true},
		{"root", OpDescribe, ResourceCluster, EveryName, true},
		{"root", OpAlter, ResourceTopic, EveryName, false},
	} {
		if got := a.Allowed(c.who, c.op, c.kind, c.name); got != c.want {
			t.Errorf("%q %v %v %q: %t, want %t", c.who, c.op, c.kind, c.name, got, c.want)
		}
	}
}

// ACLs are added and removed in one step, each at most once; users are replaced whole; a snapshot holds it all; views do not change.
func TestAccessState(t *testing.T) {
	s := stateOf(t, 1)
	a := ACL{Principal: "alice", Kind: ResourceTopic, Name: "t", Op: OpRead}
	b := ACL{Principal: "alice", Kind: ResourceTopic, Name: "t", Op: OpRead, Prefix: true, Deny: true}
	if x := applied(t, s, changeACLs(1, []ACL{a, a, b}, nil)); x.First != 2 {
		t.Errorf("%d changed, want 2", x.First)
	}
	before := s.View()
	if x := applied(t, s, changeACLs(2, []ACL{a}, []ACL{b, {Principal: "x", Kind: ResourceTopic, Name: "t", Op: OpRead}})); x.First != 1 {
		t.Errorf("%d changed, want 1", x.First)
	}
	if n := len(before.Access().ACLs()); n != 2 {
		t.Errorf("an old view has %d ACLs now", n)
	}
	if got := s.View().Access().ACLs(); len(got) != 1 || got[0] != a {
		t.Errorf("left: %+v", got)
	}
	put := func(id byte, q Quota) {
		applied(t, s, EncodePutQuota(PutQuota{RequestID: ID{id, 3}, Quota: q}))
	}
	put(1, Quota{Principal: "alice", Requests: 7})
	put(2, Quota{Principal: EveryPrincipal, FetchBytes: 9})
	put(3, Quota{Principal: "gone", FetchBytes: 9})
	put(4, Quota{Principal: "gone"})
	put(5, Quota{Principal: "bob", Requests: 7, Connections: 8})
	put(6, Quota{Principal: "bob", Requests: 7})
	put(7, Quota{Principal: "carol", Connections: 8})
	for who, want := range map[string]Quota{"alice": {Principal: "alice", Requests: 7}, "x": {Principal: EveryPrincipal, FetchBytes: 9}, "gone": {Principal: EveryPrincipal, FetchBytes: 9},
		"bob": {Principal: "bob", Requests: 7}, "carol": {Principal: "carol", Connections: 8}} {
		if got := s.View().Access().QuotaOf(who); got != want {
			t.Errorf("quota of %s: %+v, want %+v", who, got, want)
		}
	}
	applied(t, s, putUser(3, "bob", verifier(ScramSHA512), verifier(ScramSHA256)))
	applied(t, s, putUser(4, "alice", verifier(ScramSHA256)))
	applied(t, s, putUser(5, "bob", verifier(ScramSHA256)))
	if _, ok := s.View().Access().Verifier("bob", ScramSHA512); ok {
		t.Error("a verifier outlived its replacement")
	}
	restored := stateOf(t, 1)
	if err := restored.Restore(s.Snapshot()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(restored.Snapshot(), s.Snapshot()) || fmt.Sprint(restored.View().Access()) != fmt.Sprint(s.View().Access()) {
		t.Error("a restored state is another one")
	}
	applied(t, s, EncodeDeleteUser(DeleteUser{RequestID: ID{6, 1}, Name: "bob"}))
	if s.View().Access().HasUser("bob") || !s.View().Access().HasUser("alice") {
		t.Error("the wrong user is gone")
	}
	refused(t, s, EncodeDeleteUser(DeleteUser{RequestID: ID{7, 1}, Name: "bob"}), ReasonUserNotFound, `"bob"`)
}

// A snapshot of version 4, whose quotas bound no connections, is still read.
func TestSnapshotVersion4(t *testing.T) {
	s := stateOf(t, 1)
	applied(t, s, EncodePutQuota(PutQuota{RequestID: ID{1, 3}, Quota: Quota{Principal: "somebody", Requests: 7}}))
	now := s.Snapshot()
	end := bytes.LastIndex(now, []byte("somebody")) + len("somebody") + 3*8
	old := append([]byte{snapshotMoved}, append(bytes.Clone(now[1:end]), now[end+8:]...)...)
	restored := stateOf(t, 1)
	if err := restored.Restore(old); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(restored.Snapshot(), now) {
		t.Error("a snapshot of version 4 gives another state")
	}
	if err := restored.Restore(append([]byte{snapshotVersion + 1}, now[1:]...)); err == nil {
		t.Error("a snapshot of a version to come is read")
	}
}

// What is malformed is refused by name and changes nothing.
func TestAccessFaults(t *testing.T) {
	s := stateOf(t, 1)
	short := verifier(ScramSHA256)
	short.StoredKey = short.StoredKey[1:]
	weak := verifier(ScramSHA256)
	weak.Iterations = 4095
	plain := verifier(ScramSHA256)
	plain.Mechanism = "PLAIN"
	for i, c := range []struct {
		command []byte
		says    string
	}{
		{putUser(1, "", verifier(ScramSHA256)), "user name"},
		{putUser(2, "*", verifier(ScramSHA256)), "user name"},
		{putUser(3, "a"), "no verifier"},
		{putUser(4, "a", short), "keys of 32 bytes"},
		{putUser(5, "a", weak), "4095 iterations"},
		{putUser(6, "a", plain), "PLAIN"},
		{putUser(7, "a", verifier(ScramSHA256), verifier(ScramSHA256)), "two verifiers"},
		{changeACLs(8, []ACL{{Principal: "", Kind: ResourceTopic, Name: "t", Op: OpRead}}, nil), "principal"},
		{changeACLs(9, []ACL{{Principal: "a", Kind: 9, Name: "t", Op: OpRead}}, nil), "kind"},
		{changeACLs(10, nil, []ACL{{Principal: "a", Kind: ResourceTopic, Name: "t", Op: 0}}), "operation"},
		{changeACLs(11, []ACL{{Principal: "a", Kind: ResourceCluster, Name: "t", Op: OpRead}}, nil), "one cluster"},
		{putUser(12, "a", verifier(ScramSHA256))[:30], "malformed"},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) { refused(t, s, c.command, ReasonInvalid, c.says) })
	}
}
