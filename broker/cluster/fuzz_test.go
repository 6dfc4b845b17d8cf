package cluster

import (
	"bytes"
	"runtime"
	"testing"
)

func fuzzState() *State {
	birth := ComputeBirth("c", []Member{{NodeID: 1, DirID: ID{1}}, {NodeID: 2, DirID: ID{2}}, {NodeID: 3, DirID: ID{3}}})
	s := NewState(birth)
	for i, c := range fuzzCommands() {
		s.Apply(uint64(i+2), 0, c)
	}
	return s
}

func fuzzCommands() (list [][]byte) {
	for n := byte(1); n <= 3; n++ {
		list = append(list, EncodeRegisterBroker(RegisterBroker{RequestID: ID{n}, NodeID: uint64(n), DirID: ID{n}, ClientAddr: "a:1", PeerAddr: "b:2", HTTPAddr: "c:3", Version: "v"}))
	}
	return append(list,
		EncodeCreateTopic(CreateTopic{RequestID: ID{4}, Seed: ID{9}, Name: "t", Partitions: 3, ReplicationFactor: 3, Config: []ConfigEntry{{Key: "retention.ms", Value: "1000"}}}),
		EncodeAlterTopic(AlterTopic{RequestID: ID{5}, Name: "t", Set: []ConfigEntry{{Key: "segment.bytes", Value: "1048576"}}}),
		EncodeAddPartitions(AddPartitions{RequestID: ID{6}, Name: "t", Partitions: 4}),
		EncodeAllocProducerIDs(AllocProducerIDs{RequestID: ID{7}, Count: 10}),
		EncodePutUser(PutUser{RequestID: ID{8}, User: User{Name: "u", Verifiers: []Verifier{{Mechanism: ScramSHA256, Salt: make([]byte, 16), Iterations: 15_000, StoredKey: make([]byte, 32), ServerKey: make([]byte, 32)}}}}),
		EncodeChangeACLs(ChangeACLs{RequestID: ID{9}, Add: []ACL{{Principal: "u", Kind: ResourceTopic, Name: "t", Prefix: true, Op: OpRead}}}),
		EncodePutQuota(PutQuota{RequestID: ID{10}, Quota: Quota{Principal: "u", Requests: 5}}),
		EncodePutQuota(PutQuota{RequestID: ID{15}, Quota: Quota{Principal: "u", Connections: 5}}),
		EncodeCreateTopic(CreateTopic{RequestID: ID{11}, Seed: ID{8}, Name: "gone", Partitions: 2, ReplicationFactor: 1}),
		EncodeDeleteTopic(DeleteTopic{RequestID: ID{12}, Name: "gone"}),
		EncodeConfirmRemoved(ConfirmRemoved{RequestID: ID{13}, DirID: ID{1}, Groups: []ID{{5}}}),
		EncodeForfeit(Forfeit{RequestID: ID{16}, Lost: []LostDirectory{{NodeID: 3, DirID: ID{3}}}}),
		EncodeDeleteUser(DeleteUser{RequestID: ID{14}, Name: "nobody"}))
}

// A command of any bytes gets an answer and never a panic; the state is the same on every broker that applies it, and survives a snapshot.
func FuzzCommand(f *testing.F) {
	for _, c := range fuzzCommands() {
		f.Add(c)
	}
	base := fuzzState().Snapshot()
	f.Fuzz(func(t *testing.T, command []byte) {
		one, two := fuzzState(), fuzzState()
		if err := two.Restore(base); err != nil {
			t.Fatal(err)
		}
		a, b := one.Apply(100, 5, command), two.Apply(100, 5, command)
		if !bytes.Equal(a, b) || !bytes.Equal(one.Snapshot(), two.Snapshot()) {
			t.Fatal("two brokers make different things of one command")
		}
		if _, err := DecodeResult(a); err != nil {
			t.Fatal(err)
		}
		if err := two.Restore(one.Snapshot()); err != nil || !bytes.Equal(one.Snapshot(), two.Snapshot()) {
			t.Fatalf("the state is not that of its snapshot: %v", err)
		}
	})
}

// A snapshot of any bytes is taken or refused, never a panic; it costs no more than its bytes can hold, and what is taken stays so.
func FuzzRestore(f *testing.F) {
	s := fuzzState()
	f.Add(s.Snapshot())
	f.Add(NewState(s.birth).Snapshot())
	f.Add(s.birth.Encode())
	f.Add((&PartitionBirth{Topic: ID{1}, Voters: []uint64{1, 2}, Replicas: []Replica{{ID: 1, NodeID: 2}}}).Encode())
	f.Add((&Result{Reason: ReasonInvalid, Message: "m", First: 7}).encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		n := NewState(s.birth)
		before := n.Snapshot()
		var began, ended runtime.MemStats
		runtime.ReadMemStats(&began)
		err := n.Restore(data)
		_, _ = DecodeBirth(data)
		_, _ = DecodePartitionBirth(data)
		_, _ = DecodeResult(data)
		runtime.ReadMemStats(&ended)
		if cost := ended.TotalAlloc - began.TotalAlloc; cost > 8<<20+64*uint64(len(data)) {
			t.Fatalf("%d bytes cost %d bytes of memory", len(data), cost)
		}
		if err != nil {
			if !bytes.Equal(n.Snapshot(), before) {
				t.Fatal("a snapshot that was refused changed the state")
			}
			return
		}
		n.View()
		if err := n.Restore(n.Snapshot()); err != nil {
			t.Fatal(err)
		}
	})
}

// What a cluster and a group are born with, and what a command is answered, come from other brokers: each is read back as the same or
// refused.
func FuzzBirth(f *testing.F) {
	f.Add((&Birth{ClusterID: ID{1}, ClusterName: "c", MetadataGroup: ID{2}, Members: []Member{{NodeID: 1, DirID: ID{3}, ReplicaID: 1, Voter: true}}}).Encode())
	f.Add((&PartitionBirth{Topic: ID{1}, Number: 2, Voters: []uint64{1, 2, 3}, Learners: []uint64{4}, Replicas: []Replica{{ID: 1, NodeID: 1, Dir: ID{5}}}}).Encode())
	f.Add((&Result{Reason: ReasonLimit, Message: "m", Topic: ID{1}, First: -1}).encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if b, err := DecodeBirth(data); err == nil { // a flag may be any byte
			if again, err := DecodeBirth(b.Encode()); err != nil || !bytes.Equal(again.Encode(), b.Encode()) {
				t.Fatalf("%+v, %v", b, err)
			}
		}
		if p, err := DecodePartitionBirth(data); err == nil {
			if again, err := DecodePartitionBirth(p.Encode()); err != nil || !bytes.Equal(again.Encode(), p.Encode()) {
				t.Fatalf("%+v, %v", p, err)
			}
		}
		if x, err := DecodeResult(data); err == nil && !bytes.Equal(x.encode(), data) {
			t.Fatalf("%+v", x)
		}
	})
}
