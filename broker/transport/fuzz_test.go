package transport

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"reflect"
	"runtime"
	"testing"

	"lograft/raft"
)

// allocated is what f allocates, bytes. Other goroutines count too: bounds leave room for them.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// What a peer greets with never panics, is bounded, and what is taken says the same when it is encoded again.
func FuzzHello(f *testing.F) {
	f.Add(Hello{Protocol: Protocol, ClusterName: "c", NodeID: 3, Boot: 9, Born: true, Class: Control}.encode())
	f.Add([]byte(`{"Class":255}`))
	f.Add([]byte(`{"ClusterID":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18]}`))
	f.Add([]byte(`{"cluster_name":"\ud800","NodeID":18446744073709551615}`))
	f.Add([]byte(`[[[[[[[[[[[[[[[[[[[[`))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := decodeHello(data)
		if err != nil {
			return
		}
		if h.Class >= classes || h.NodeID == 0 || len(data) > helloBytesMax {
			t.Fatalf("taken: %+v", h)
		}
		if !json.Valid(h.encode()) {
			t.Fatalf("%+v is encoded as no JSON", h)
		}
		again, err := decodeHello(h.encode())
		if len(h.encode()) <= helloBytesMax && (err != nil || !bytes.Equal(again.encode(), h.encode())) {
			t.Fatalf("%+v came back as %+v, %v", h, again, err)
		}
	})
}

// A clock message is read back to the same bytes or is none.
func FuzzClock(f *testing.F) {
	f.Add(encodeClock(1_800_000_000_000, true))
	f.Add(encodeClock(-1, false))
	f.Add([]byte{clockKind})
	f.Fuzz(func(t *testing.T, data []byte) {
		if wall, full, ok := decodeClock(data); ok && !bytes.Equal(encodeClock(wall, full), data) {
			t.Fatalf("%d, %v", wall, full)
		}
	})
}

func sampleFrame(msgs ...raft.Message) []byte {
	e := NewEncoder()
	for i := range msgs {
		e.Add(GroupID{byte(i + 1)}, &msgs[i])
	}
	f := e.Frame()
	out := append([]byte(nil), f.Head...)
	for _, p := range f.Payloads {
		out = append(out, p...)
	}
	return out
}

// resum makes the head's checksum right, so that the fuzzer gets behind it.
func resum(b []byte) {
	if len(b) < frameHeadFixed {
		return
	}
	if n := int(binary.LittleEndian.Uint32(b[5:])); n >= frameHeadFixed && n <= len(b) {
		binary.LittleEndian.PutUint32(b[9:], crc32.Checksum(b[frameHeadFixed:n], castagnoli))
	}
}

// A frame of any bytes never panics and never costs more memory than its bytes can hold; what is taken is encoded to the same bytes.
func FuzzDecode(f *testing.F) {
	f.Add(sampleFrame(raft.Message{Type: raft.MsgHeartbeat, From: 1, To: 2, Term: 3, Context: []byte("read")}))
	f.Add(sampleFrame(raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Entries: []raft.Entry{{Term: 1, Index: 2, Context: []byte("envelope"), Data: []byte("batch")}, {Index: 3}}},
		raft.Message{Type: raft.MsgRequestVote, From: 2, To: 1, Reject: true}, raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Commit: 9, NoAnswer: true}))
	f.Add(sampleFrame(raft.Message{Type: raft.MsgSnapshot, Snapshot: &raft.Snapshot{Data: []byte("state"), Metadata: raft.SnapshotMetadata{Index: 9, Term: 2,
		ConfState: raft.ConfState{Voters: []uint64{1, 2}, Learners: []uint64{3}, AutoLeave: true}}}}))
	huge := sampleFrame(raft.Message{})
	binary.LittleEndian.PutUint32(huge[1:], 1<<31)
	f.Add(huge)
	f.Fuzz(func(t *testing.T, data []byte) {
		data = append([]byte(nil), data...) // it becomes ours
		resum(data)
		var msgs []GroupMessage
		var err error
		if cost := allocated(func() { msgs, err = Decode(data, DefaultLimits()) }); cost > 8<<20+8*uint64(len(data)) {
			t.Fatalf("%d bytes cost %d bytes of memory", len(data), cost)
		}
		if err != nil {
			return
		}
		e := NewEncoder()
		for i := range msgs {
			e.Add(msgs[i].Group, &msgs[i].Msg)
		}
		if len(msgs) == 0 {
			return
		}
		frame := e.Frame()
		out := append([]byte(nil), frame.Head...)
		for _, p := range frame.Payloads {
			out = append(out, p...)
		}
		again, err := Decode(out, DefaultLimits())
		if err != nil || !reflect.DeepEqual(again, msgs) {
			t.Fatalf("%+v came back as %+v, %v", msgs, again, err)
		}
	})
}
