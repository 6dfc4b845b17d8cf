package cli

import (
	"errors"
	"strings"
	"testing"

	"lograft/client"
)

// survivor is what a broker that is left answers of a group that lost its majority; its log ends with entry (2, last).
func survivor(node, last uint64) heard {
	return heard{node: node, x: client.Recovery{Node: node, LastTerm: 2, LastIndex: last, NextOffset: int64(last) * 10, Stranded: true, Voter: true}}
}

func with(h heard, change func(x *client.Recovery)) heard {
	change(&h.x)
	return h
}

// What the brokers that are left answer becomes one line: the replica that holds most, all that it and the others give up, or why nothing may
// be given up.
func TestJudgeGone(t *testing.T) {
	refused := func(node uint64, reason string) heard {
		return heard{node: node, err: &client.Error{Reason: reason, Message: "refused"}}
	}
	damaged := func(x *client.Recovery) { x.To, x.DropTo = 50, 5 }
	for name, c := range map[string]struct {
		answers []heard
		node    uint64
		problem string // part of it
		more    string // part of what is lost besides
		keeps   int64  // from
		others  int
		healthy bool // a majority is left
	}{
		"the longest":                  {answers: []heard{survivor(1, 9), survivor(2, 10), survivor(3, 8)}, node: 2},
		"none has one":                 {answers: []heard{refused(1, "UNKNOWN_PARTITION")}},
		"one has none":                 {answers: []heard{refused(1, "UNKNOWN_PARTITION"), survivor(2, 9)}, node: 2},
		"one could not be opened":      {answers: []heard{refused(1, "FAULTY")}, problem: "refused"},
		"the longest may be shut":      {answers: []heard{survivor(2, 9), refused(1, "FAULTY")}, node: 2, problem: "broker log recover"},
		"one is silent":                {answers: []heard{survivor(2, 9), refused(1, "UNREACHABLE")}, node: 2, problem: "node 1 was not asked"},
		"one is connected":             {answers: []heard{with(survivor(1, 9), func(x *client.Recovery) { x.Connected = []uint64{3} })}, node: 1, problem: "not gone"},
		"connected, and a majority":    {answers: []heard{with(survivor(1, 9), func(x *client.Recovery) { x.Connected, x.Stranded = []uint64{3}, false })}, node: 1, problem: "not gone", healthy: true},
		"damaged":                      {answers: []heard{with(survivor(1, 9), damaged), survivor(2, 8)}, node: 1, keeps: 50, more: "records [0, 50): damaged on node 1"},
		"of equals, the whole one":     {answers: []heard{with(survivor(1, 9), damaged), survivor(2, 9)}, node: 2, keeps: 50, more: "damaged on node 1", others: 1},
		"damaged entries, no records":  {answers: []heard{with(survivor(1, 9), func(x *client.Recovery) { x.DropTo = 5 })}, node: 1, more: "entries up to 5"},
		"of equals, one that votes":    {answers: []heard{with(survivor(1, 9), func(x *client.Recovery) { x.Voter = false }), survivor(2, 9)}, node: 2},
		"another lost its log":         {answers: []heard{survivor(1, 9), with(survivor(2, 3), func(x *client.Recovery) { x.Refilling = true })}, node: 1, more: "what node 2 held", others: 1},
		"it lost its log":              {answers: []heard{with(survivor(1, 9), func(x *client.Recovery) { x.Refilling = true })}, node: 1, more: "what node 1 held"},
		"another has a problem":        {answers: []heard{survivor(1, 9), with(survivor(2, 3), func(x *client.Recovery) { x.Problem = "not sealed" })}, node: 1, problem: "node 2: not sealed"},
		"a learner has one":            {answers: []heard{survivor(1, 9), with(survivor(2, 3), func(x *client.Recovery) { x.Voter, x.Problem = false, "being filled" })}, node: 1},
		"another lost all of its log":  {answers: []heard{survivor(1, 9), {node: 2, x: client.Recovery{Refilling: true}}}, node: 1, more: "what node 2 held", others: 1},
		"the only one lost its log":    {answers: []heard{{node: 2, x: client.Recovery{Refilling: true}}}, problem: "set it aside", more: "what node 2 held", others: 1},
		"it did, and somebody leads":   {answers: []heard{{node: 2, x: client.Recovery{Refilling: true, Leader: 4}}}, more: "what node 2 held", others: 1, healthy: true},
		"a learner holds most":         {answers: []heard{survivor(1, 9), with(survivor(2, 10), func(x *client.Recovery) { x.Voter = false })}, node: 2},
		"only a learner is left":       {answers: []heard{with(survivor(2, 10), func(x *client.Recovery) { x.Voter = false })}, node: 2},
		"an equal one has applied on":  {answers: []heard{survivor(1, 9), with(survivor(2, 9), func(x *client.Recovery) { x.Stranded = false })}, node: 1, healthy: true},
		"a shorter one lags":           {answers: []heard{survivor(1, 9), with(survivor(2, 8), func(x *client.Recovery) { x.Stranded = false })}, node: 1},
		"a majority, and a sick voter": {answers: []heard{with(survivor(1, 9), func(x *client.Recovery) { x.Stranded, x.Problem = false, "sick" })}, node: 1, healthy: true},
	} {
		t.Run(name, func(t *testing.T) {
			g, _, _ := judgeGone(client.RecoverRequest{Topic: "t", GoneNodes: []uint64{9}}, c.answers)
			if g.Node != c.node || g.Stranded == c.healthy || g.LogStart != c.keeps || len(g.Others) != c.others {
				t.Errorf("%+v", g)
			}
			if (g.Problem == "") != (c.problem == "") || !strings.Contains(g.Problem, c.problem) {
				t.Errorf("problem %q, want %q", g.Problem, c.problem)
			}
			if more := g.more(); (more == "") != (c.more == "") || !strings.Contains(more, c.more) {
				t.Errorf("besides %q is lost, want %q", more, c.more)
			}
			if want := c.keeps; g.trimTo() != want {
				t.Errorf("trimmed to %d, want %d", g.trimTo(), want)
			}
		})
	}
}

// Where brokers do not know a topic before the metadata group goes on, that one is brought back first, alone. Any other problem stops everything.
func TestPossibleOfAPlan(t *testing.T) {
	metadata := stranded{Group: metadataGroup, ask: client.RecoverRequest{Metadata: true}}
	lagging, _, _ := judgeGone(client.RecoverRequest{Topic: "t"}, []heard{survivor(1, 9), {node: 2, err: &client.Error{Reason: "TOPIC_NOT_FOUND"}}})
	silent, _, _ := judgeGone(client.RecoverRequest{Topic: "t"}, []heard{{node: 3, err: &client.Error{Reason: "UNREACHABLE"}}, {node: 2, err: &client.Error{Reason: "TOPIC_NOT_FOUND"}}})
	aside, _, _ := judgeGone(client.RecoverRequest{Topic: "t", GoneNodes: []uint64{9}}, []heard{{node: 2, x: client.Recovery{Refilling: true}}})
	well := stranded{Group: "t/1"}
	if lagging.Problem == "" || !lagging.later || silent.later {
		t.Fatalf("%+v, %+v", lagging, silent)
	}
	for name, c := range map[string]struct {
		plan []stranded
		want int
	}{
		"all is well":       {[]stranded{metadata, well}, 2},
		"a broker lags":     {[]stranded{metadata, well, lagging}, 1},
		"to be deleted":     {[]stranded{metadata, aside, well}, 1},
		"one is silent":     {[]stranded{metadata, lagging, silent}, 0},
		"no metadata first": {[]stranded{well, lagging}, 0},
		"metadata is bad":   {[]stranded{{Problem: "bad", ask: metadata.ask}, lagging}, 0},
	} {
		if list, good := possible(c.plan); len(list) != c.want || good != (c.want > 0) {
			t.Errorf("%s: %+v, %v", name, list, good)
		}
	}
}

// An accept counts if it was carried out, or if there is nothing to bring back.
func TestAcceptedSaysWhy(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		x    client.Recovery
		err  error
		well bool
	}{{x: client.Recovery{Stranded: true, Done: true}, well: true}, {x: client.Recovery{Stranded: true, Problem: "no"}}, {x: client.Recovery{Problem: "it has a leader"}, well: true}, {err: broken}} {
		if err := accepted(c.x, c.err); (err == nil) != c.well {
			t.Errorf("%+v, %v: %v", c.x, c.err, err)
		}
	}
}
