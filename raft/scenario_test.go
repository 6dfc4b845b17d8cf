package raft_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"lograft/raft"
)

var rewriteFlag = flag.Bool("rewrite", false, "write what the scenarios show into testdata, to be read before it is committed")

// Every script in testdata shows the state and messages it says.
//
// A script is blocks of commands, a line of four dashes, and what they show up
// to an empty line. Lines that begin with # are sentences for the reader. The
// commands stand in scenarioCommands.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runScenario(t, file) })
	}
}

func runScenario(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	if !strings.HasPrefix(lines[0], "# ") {
		t.Fatalf("%s: the first line says in a sentence what the script shows", file)
	}
	s := &scenario{nodes: map[uint64]*scenarioNode{}}
	var out strings.Builder
	for at := 0; at < len(lines); {
		line := lines[at]
		if line == "" || strings.HasPrefix(line, "#") {
			fmt.Fprintln(&out, line)
			at++
			continue
		}
		begin := at
		s.out.Reset()
		for ; at < len(lines) && lines[at] != "----"; at++ {
			if lines[at] == "" {
				t.Fatalf("%s:%d: no ---- after the commands", file, at+1)
			}
			fmt.Fprintln(&out, lines[at])
			if err := s.run(lines[at]); err != nil {
				t.Fatalf("%s:%d: %s: %v", file, at+1, lines[at], err)
			}
		}
		if at == len(lines) {
			t.Fatalf("%s:%d: no ---- after the commands", file, begin+1)
		}
		at++
		var want strings.Builder
		for ; at < len(lines) && lines[at] != ""; at++ {
			fmt.Fprintln(&want, lines[at])
		}
		got := s.out.String()
		if got == "" {
			got = "ok\n"
		}
		fmt.Fprintf(&out, "----\n%s", got)
		if got != want.String() && !*rewriteFlag {
			t.Fatalf("%s:%d: %s\nwant:\n%s\ngot:\n%s", file, begin+1, lines[begin], want.String(), got)
		}
	}
	if *rewriteFlag && out.String() != string(text) {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: written", file)
	}
}

// scenario is a cluster whose every step is a command.
type scenario struct {
	out   strings.Builder
	nodes map[uint64]*scenarioNode
	ids   []uint64
	wire  []raft.Message // sent, not delivered
}

// scenarioNode keeps all it ever wrote, so that a crash can lose the tail.
type scenarioNode struct {
	id      uint64
	cfg     raft.Config
	raw     *raft.RawNode
	store   *scenarioStore
	units   []scenarioUnit
	synced  int // units certain
	applied uint64
	confs   []scenarioConf // by index, oldest first

	async, lateApply bool
	unsynced         []scenarioRecord
	toApply          []raft.Entry
	timeouts         []int // what Config.Rand returns next; then 0
}

type scenarioConf struct {
	index uint64
	conf  raft.ConfState
}

type scenarioUnit struct {
	hs     *raft.HardState
	ents   []raft.Entry
	snap   *raft.Snapshot
	number uint64
}

type scenarioRecord struct {
	number   uint64
	units    int
	messages []raft.Message
}

// scenarioStore is a MemoryStorage with faults to order.
type scenarioStore struct {
	*raft.MemoryStorage
	slow, busy       bool // ErrLogTemporarilyUnavailable, ErrSnapshotTemporarilyUnavailable
	faultLo, faultHi uint64
	fetches          []raft.EntriesContext
}

func (st *scenarioStore) Entries(dst []raft.Entry, lo, hi, maxBytes uint64, c raft.EntriesContext) ([]raft.Entry, error) {
	if st.faultHi > lo && st.faultLo < hi {
		return dst, raft.ErrEntryFaulty
	}
	if st.slow && c.CanAsync() {
		st.fetches = append(st.fetches, c)
		return dst, raft.ErrLogTemporarilyUnavailable
	}
	return st.MemoryStorage.Entries(dst, lo, hi, maxBytes, c)
}

func (st *scenarioStore) Term(i uint64) (uint64, error) {
	if i >= st.faultLo && i < st.faultHi {
		return 0, raft.ErrEntryFaulty
	}
	return st.MemoryStorage.Term(i)
}

func (st *scenarioStore) Snapshot(requestIndex, to uint64) (raft.Snapshot, error) {
	if st.busy {
		return raft.Snapshot{}, raft.ErrSnapshotTemporarilyUnavailable
	}
	return st.MemoryStorage.Snapshot(requestIndex, to)
}

// scenarioCommands: n is a node's id.
func scenarioCommands() map[string]func(s *scenario, a args) error {
	return map[string]func(s *scenario, a args) error{
		"nodes":     (*scenario).addNodes,     // nodes 1 2 3 [learners=4] [log=terms,..] [option..]: births with a snapshot at 1/1
		"join":      (*scenario).join,         // join 4 [option..]: an empty node
		"start":     (*scenario).restart,      // start n [option..]: again, from what its disk kept
		"crash":     (*scenario).crash,        // crash n: what was not synced is gone
		"tick":      (*scenario).tick,         // tick n [times]
		"campaign":  (*scenario).campaign,     // campaign n
		"propose":   (*scenario).propose,      // propose n data [size=bytes]
		"conf":      (*scenario).proposeConf,  // conf n (v1|auto|implicit|explicit) [add4 rm1 learn2 ..]
		"read":      (*scenario).read,         // read n ctx
		"transfer":  (*scenario).transfer,     // transfer n to
		"forget":    (*scenario).forget,       // forget n
		"ping":      (*scenario).ping,         // ping n
		"want":      (*scenario).wantSnapshot, // want n: RequestSnapshot
		"report":    (*scenario).report,       // report n peer (finish|failure|progress|unreachable)
		"set":       (*scenario).set,          // set n [async|sync|late] [slow|fast] [busy|free] [fault=lo,hi] [electable=..] ..
		"ready":     (*scenario).ready,        // ready n [times]: one Ready, as n drives it
		"sync":      (*scenario).sync,         // sync n [number]: up to and with that Ready; all
		"apply":     (*scenario).apply,        // apply n [count]
		"fetched":   (*scenario).fetched,      // fetched n: every fetch that waited is there
		"snapshot":  (*scenario).snapshot,     // snapshot n index: taken from its state
		"compact":   (*scenario).compact,      // compact n index
		"deliver":   (*scenario).deliver,      // deliver n [from=..] [type=..] [count=..]
		"drop":      (*scenario).drop,         // drop [to=..] [from=..] [type=..]
		"dup":       (*scenario).dup,          // dup [to=..] [from=..] [type=..]: each once more
		"step":      (*scenario).step,         // step n Type from=.. term=.. ..: a message nobody sent
		"stabilize": (*scenario).stabilize,    // stabilize [ids]: until nothing moves
		"quiet":     (*scenario).quiet,        // quiet command..: run it, show nothing but refusals
		"wire":      (*scenario).showWire,     // wire: what is in flight
		"status":    (*scenario).status,       // status [n]: role, term, log, progress
		"log":       (*scenario).showLog,      // log n
		"groups":    (*scenario).groups,       // groups n 1=1 2=2 ..: group commit on
	}
}

// args are a command's words: plain ones and key=value.
type args struct {
	words []string
	named map[string]string
}

func (a args) id(i int) (uint64, error) {
	if i >= len(a.words) {
		return 0, fmt.Errorf("word %d is missing", i+1)
	}
	return strconv.ParseUint(a.words[i], 10, 64)
}

func (a args) number(key string, otherwise uint64) uint64 {
	if v, ok := a.named[key]; ok {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			panic(fmt.Sprintf("%s=%s: %v", key, v, err))
		}
		return n
	}
	return otherwise
}

func (a args) has(word string) bool { return slices.Contains(a.words, word) }

func ids(list string) (out []uint64) {
	for _, w := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
		n, err := strconv.ParseUint(w, 10, 64)
		if err != nil {
			panic(err)
		}
		out = append(out, n)
	}
	return out
}

func (s *scenario) run(line string) error {
	fields := strings.Fields(line)
	cmd, ok := scenarioCommands()[fields[0]]
	if !ok {
		return errors.New("no such command")
	}
	a := args{named: map[string]string{}}
	for _, f := range fields[1:] {
		if k, v, ok := strings.Cut(f, "="); ok && fields[0] != "quiet" {
			a.named[k] = v
		} else {
			a.words = append(a.words, f)
		}
	}
	return cmd(s, a)
}

func (s *scenario) printf(format string, v ...any) { fmt.Fprintf(&s.out, format+"\n", v...) }

func (s *scenario) node(a args) (*scenarioNode, error) {
	id, err := a.id(0)
	if err != nil {
		return nil, err
	}
	n := s.nodes[id]
	if n == nil {
		return nil, fmt.Errorf("no node %d", id)
	}
	if n.raw == nil {
		return nil, fmt.Errorf("node %d is down", id)
	}
	return n, nil
}

// refused prints an error by its sentinels, never by its words.
func (s *scenario) refused(n *scenarioNode, err error) {
	if err != nil {
		s.printf("n%d refuses: %s", n.id, errorNames(err))
	}
}

func errorNames(err error) string {
	known := []struct {
		err  error
		name string
	}{
		{raft.ErrProposalDropped, "ProposalDropped"}, {raft.ErrNoLeader, "NoLeader"}, {raft.ErrNotLeader, "NotLeader"},
		{raft.ErrForwardingDisabled, "ForwardingDisabled"}, {raft.ErrTransferring, "Transferring"},
		{raft.ErrUncommittedLimit, "UncommittedLimit"}, {raft.ErrRemoved, "Removed"},
		{raft.ErrConfChangePending, "ConfChangePending"}, {raft.ErrInvalidConfChange, "InvalidConfChange"},
		{raft.ErrNotPromotable, "NotPromotable"}, {raft.ErrStepLocalMsg, "StepLocalMsg"},
		{raft.ErrStepPeerNotFound, "StepPeerNotFound"}, {raft.ErrInvalidMessage, "InvalidMessage"},
		{raft.ErrRequestSnapshotDropped, "RequestSnapshotDropped"}, {raft.ErrReadyOutstanding, "ReadyOutstanding"},
		{raft.ErrRoleChanged, "RoleChanged"}, {raft.ErrReadTimeout, "ReadTimeout"},
		{raft.ErrCompacted, "Compacted"}, {raft.ErrLeaseMode, "LeaseMode"}, {raft.ErrUnavailable, "Unavailable"}, {raft.ErrSnapshotOutOfDate, "SnapshotOutOfDate"},
	}
	var names []string
	for _, k := range known {
		if errors.Is(err, k.err) {
			names = append(names, k.name)
		}
	}
	var fatal *raft.FatalError
	if errors.As(err, &fatal) {
		names = append(names, fmt.Sprintf("Fatal index=%d term=%d", fatal.Index, fatal.Term))
	}
	if len(names) == 0 {
		names = []string{"error"}
	}
	return strings.Join(names, " ")
}
