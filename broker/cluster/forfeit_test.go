package cluster

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func (c *club) forfeit(nodes ...uint64) Result {
	f := Forfeit{RequestID: c.request()}
	for _, n := range nodes {
		seat, _ := c.s.seat(n)
		f.Lost = append(f.Lost, LostDirectory{NodeID: n, DirID: seat.DirID})
	}
	return c.do(EncodeForfeit(f))
}

// Two of three directories are given up: they are retired everywhere, the seats stay, and an empty directory may take each one's place at once,
// where it would be refused else. Then every partition wants its three replicas again.
func TestForfeit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClub(t, 3)
		c.do(EncodeCreateTopic(CreateTopic{RequestID: c.request(), Seed: c.request(), Name: "three", Partitions: 4, ReplicationFactor: 3}))
		for _, bad := range [][]uint64{{1, 2, 3}, {9}, {2, 2}} {
			if x := c.forfeit(bad...); x.Reason == ReasonNone {
				t.Fatalf("nodes %v are given up", bad)
			}
		}
		if x := c.do(EncodeForfeit(Forfeit{RequestID: c.request(), Lost: []LostDirectory{{NodeID: 2, DirID: ID{77}}}})); x.Reason != ReasonWrongDirectory {
			t.Fatalf("a directory that is not registered: %q", x.Reason)
		}
		v := c.s.View()
		old := v.Metadata.Replicas
		if x := c.forfeit(2, 3); x.Reason != ReasonNone {
			t.Fatal(x.Message)
		}
		if x := c.forfeit(2, 3); x.Reason != ReasonNone {
			t.Fatalf("again: %s", x.Message)
		}
		v = c.s.View()
		if got := v.Retired(&v.Metadata); len(got) != 2 || got[0] != old[1] || got[1] != old[2] {
			t.Fatalf("retired of the metadata group: %+v", got)
		}
		if len(v.Seats()) != 3 || len(v.Metadata.Voters) != 1 {
			t.Fatalf("%d seats, %d voters of the metadata group", len(v.Seats()), len(v.Metadata.Voters))
		}
		c.partitions(func(name string, p *Partition) {
			if n := len(v.Retired(p)); n != 2 {
				t.Fatalf("%s/%d: %d of its replicas are retired", name, p.Number, n)
			}
		})
		for _, n := range []uint64{2, 3} {
			if x := c.do(EncodeJoinBroker(JoinBroker{RequestID: c.request(), NodeID: n, DirID: c.dir(), PeerAddr: fmt.Sprintf("n%d:1", n)})); x.Reason != ReasonNone {
				t.Fatalf("node %d with an empty directory: %s", n, x.Message)
			}
			c.announce(n)
		}
		c.quiet()
		v = c.s.View()
		c.partitions(func(name string, p *Partition) {
			if len(p.Voters) != 3 || len(p.Replicas) != 3 || len(v.Retired(p)) != 0 {
				t.Fatalf("%s/%d: %+v", name, p.Number, p)
			}
		})
	})
}
