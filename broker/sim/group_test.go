package sim

import (
	"strings"
	"testing"
)

// groupLoads is a run in which nearly everything is about one group.
func groupLoads(r *Run) []Load {
	return []Load{newProduce(0), newProduce(1), newGroup()}
}

// A group reads on while brokers suffer every fault and its members come, go, pause, die and are cut off: no partition belongs to two
// members in one generation, what is committed never goes back and is never ahead of what the members were given, nothing is left
// out, and once all is well everything is committed and the group is at rest.
func TestSimGroups(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		r := simulate(seed, AllFaults(), groupLoads, steps(t))
		if r.Err != nil {
			t.Fatalf("seed %d: %v\nreplay: go test ./broker/sim -run %s -seed %d\nlast steps:\n%s", seed, r.Err, t.Name(), seed, strings.Join(r.Lines, "\n"))
		}
	}
}
