package lint

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// arrow says what the packages of one folder may import. A folder without a row of its own is covered by no other row: a new
// package needs a decision.
type arrow struct {
	folder string
	// own lists packages of this module, outside lists modules (or single packages) besides the standard library.
	// "*" allows all of them; a name that ends in "/..." allows the folder and everything below.
	own, outside []string
	why          string
}

// The picture is architecture.md section 2. Test files may import more than this: see testArrows.
var arrows = []arrow{
	{"api/lograft/v1", nil, []string{"*"}, "generated code is a leaf: everybody may depend on it"},
	{"api/peer/v1", nil, []string{"*"}, "generated code is a leaf: everybody may depend on it"},
	{"api/codec", nil, []string{"google.golang.org/grpc/...", "google.golang.org/protobuf/..."},
		"how messages become bytes is the same at both ends, and knows none of them"},
	{"record", nil, []string{"github.com/klauspost/compress/...", "github.com/pierrec/lz4/..."},
		"the record format is a leaf, so that client and broker share it and nothing else"},
	{"raft", []string{"raft/..."}, []string{"google.golang.org/protobuf/encoding/protowire"},
		"the core takes arguments and returns effects: it knows no log, no network, no broker"},
	{"raft/quorum", nil, nil, "pure counting"},
	{"raft/sim", []string{"raft", "raft/quorum", "raft/sim/..."}, nil, "the simulator brings its own disk and network"},
	{"raft/bench", []string{"raft", "raft/quorum"}, nil, "compares the core alone with another core"},
	{"raft/mutants", []string{"internal/mutants"}, nil, "a driver that runs go test on a changed copy"},
	{"broker/mutants", []string{"internal/mutants"}, nil, "a driver that runs go test on a changed copy"},
	{"internal/mutants", nil, nil, "breaks copies of files and runs go test on them"},
	{"internal/buffers", nil, nil, "memory that is lent is a leaf: log, replicas and services hand it on"},
	{"segment", []string{"segment/vfs", "internal/buffers"}, []string{"golang.org/x/sys/..."},
		"the log on disk knows no Raft: broker/partition is where the two meet"},
	{"segment/bench", []string{"segment", "segment/vfs", "internal/buffers"}, []string{"*"}, "a module of its own that compares the log with others"},
	{"integration/peers", []string{"client/bench", "integration"}, []string{"*"}, "a module of its own that compares brokers with others"},
	{"segment/vfs", nil, []string{"golang.org/x/sys/..."}, "a small file system is a leaf"},
	{"segment/journal", []string{"segment", "segment/vfs"}, []string{"github.com/tidwall/wal"},
		"the promises' store knows its groups by 16 bytes and nothing of Raft's rules"},
	{"config", nil, []string{"*"}, "config is a leaf: packages below take an Options struct"},
	{"client/core", []string{"api/lograft/v1", "record"}, nil,
		"the client's decisions are steps without goroutines or sockets, so that the simulator can drive them"},
	{"client", []string{"client/core", "api/codec", "api/lograft/v1", "internal/buffers", "record"}, []string{"*"},
		"a user's program gets the client without the broker"},
	{"client/bench", []string{"client"}, []string{"*"}, "a load is made of what a user's program has"},
	{"certs", nil, nil, "certificates for trying out are a leaf: cli makes them by command, the broker for --dev"},
	{"cli", []string{"client", "client/bench", "config", "certs"}, []string{"*"}, "commands talk to brokers through the public client only"},
	{"cmd/broker", []string{"cli", "config", "segment", "broker", "broker/security"}, []string{"*"}, "the one place where serve meets the broker"},
	{"broker/security", nil, []string{"google.golang.org/grpc/...", "github.com/xdg-go/scram", "github.com/golang-jwt/jwt/v5", "golang.org/x/time/rate"}, "who is who stands apart from what brokers do"},
	{"cmd/produce", []string{"cli"}, nil, "a thin main"},
	{"cmd/consume", []string{"cli"}, nil, "a thin main"},
	{"broker/datadir", []string{"segment/vfs"}, []string{"github.com/gofrs/flock", "golang.org/x/sys/..."},
		"identity of a directory stands below everything that may open a socket"},
	{"broker/wire", nil, nil, "fields and their bytes are a leaf: state machines share it and nothing else"},
	{"broker/cluster", []string{"broker/wire"}, []string{"google.golang.org/protobuf/..."},
		"the metadata state machine is pure: commands in, results out"},
	{"broker/partition", []string{"internal/buffers", "raft", "segment", "segment/vfs", "segment/journal", "record"}, nil,
		"the one package where Raft, the log and records meet"},
	{"broker/engine", []string{"internal/buffers", "broker/partition", "raft", "segment", "segment/vfs", "segment/journal", "record"},
		[]string{"golang.org/x/sync/..."}, "workers own replicas and know neither sockets nor topics"},
	{"broker/transport", []string{"raft"}, []string{"google.golang.org/grpc/...", "golang.org/x/sync/...", "golang.org/x/time/rate"},
		"the mesh carries Raft's messages and opens none of the stores"},
	{"broker/group", []string{"broker/partition", "broker/wire"}, nil, "groups are a state machine: they know no topic but by name, no socket and no log"},
	{"broker/rpc", []string{"broker/partition", "broker/cluster", "broker/group", "internal/buffers", "record", "api/codec", "api/lograft/v1"},
		[]string{"google.golang.org/...", "golang.org/x/sync/...", "golang.org/x/time/rate"}, "the client-facing services see replicas, not their stores"},
	{"broker", []string{"broker/...", "certs", "raft", "segment", "segment/vfs", "segment/journal", "record", "api/..."}, []string{"*"},
		"the broker builds everything and never depends on its clients"},
	{"broker/sim", []string{"broker", "broker/...", "raft", "segment", "segment/vfs", "segment/journal", "record", "client/core", "api/..."}, []string{"google.golang.org/protobuf/..."},
		"the whole-broker simulator drives real brokers and real client cores"},
	{"broker/sim/check", nil, []string{"github.com/anishathalye/porcupine"}, "checkers know nothing of the code they judge"},
	{"integration", []string{"client", "record", "api/lograft/v1"}, []string{"*"}, "real processes are seen from outside, as a user would, and as whoever wishes them ill"},
	{"integration/cmd/demo", []string{"integration"}, []string{"golang.org/x/term"}, "the demo uses what a newcomer could"},
	{"integration/cmd/bench", []string{"integration", "client", "api/lograft/v1"}, []string{"*"}, "measures real processes from outside; counts rounds on a raw stream"},
	{"internal/lint", nil, nil, "rules stand outside what they judge"},
	{"internal/testsum", nil, nil, "counts test results"},
}

// testArrows: what test files must not import either, and why. A test may reach further than its package, but two packages that
// do not know each other must stay testable without each other.
var testArrows = []arrow{
	{"raft/...", []string{"segment/...", "broker/...", "record", "client"}, nil, "raft is proved without a log"},
	{"segment/...", []string{"raft/...", "broker/...", "record", "client"}, nil, "the log is proved without Raft"},
	{"record", []string{"raft/...", "segment/...", "broker/...", "client"}, nil, "the format is proved alone"},
	{"client", []string{"broker/...", "cli"}, nil, "the client is proved against the protocol, not against one broker"},
	{"cli", []string{"broker/..."}, nil, "commands are proved against the client"},
	{"integration/...", []string{"broker/...", "raft/...", "segment/..."}, nil, "real processes are seen from outside"},
}

// checkers judge histories and import nothing of ours: every test may use them.
const checkers = "broker/sim/check"

func matches(pattern, name string) bool {
	if folder, deep := strings.CutSuffix(pattern, "/..."); deep {
		return name == folder || strings.HasPrefix(name, folder+"/")
	}
	return pattern == "*" || pattern == name
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, name) })
}

// checkArrows finds imports that no arrow allows and folders that have no row.
func checkArrows(files []*file, allowed, forbiddenInTests []arrow) []string {
	var found []string
	unknown := make(map[string]bool)
	for _, f := range files {
		row := slices.IndexFunc(allowed, func(a arrow) bool { return a.folder == f.dir() })
		if row < 0 {
			if !unknown[f.dir()] {
				found = append(found, fmt.Sprintf("%s: no row in internal/lint/arrows_test.go says what this package may import", f.dir()))
			}
			unknown[f.dir()] = true
			continue
		}
		for _, imported := range f.imports() {
			own, isOwn := strings.CutPrefix(imported, module+"/")
			std := !strings.Contains(strings.Split(imported, "/")[0], ".") && !isOwn && imported != "C"
			if f.isTest() {
				for _, a := range forbiddenInTests {
					if isOwn && own != checkers && matches(a.folder, f.dir()) && matchesAny(a.own, own) {
						found = append(found, fmt.Sprintf("%s: a test of %s imports %s: %s", f.path, f.dir(), own, a.why))
					}
				}
				continue
			}
			a := allowed[row]
			ok := std || isOwn && matchesAny(a.own, own) || !isOwn && matchesAny(a.outside, imported)
			if !ok {
				found = append(found, fmt.Sprintf("%s: %s may not import %s: %s", f.path, a.folder, imported, a.why))
			}
		}
	}
	return found
}

// The arrows of architecture.md section 2 hold.
func TestImportArrows(t *testing.T) {
	for _, finding := range checkArrows(tree(t), arrows, testArrows) {
		t.Error(finding)
	}
}

// Each kind of wrong arrow is found: own, outside, cgo, from a test, and a folder nobody decided about. Allowed ones are not.
func TestImportArrowsSeeBadSamples(t *testing.T) {
	wantFindings(t, checkArrows(sample(t,
		"raft/a.go", `package raft; import ("errors"; "lograft/raft/quorum"; "lograft/segment")`,
		"raft/b.go", `package raft; import ("google.golang.org/protobuf/encoding/protowire"; "google.golang.org/grpc"; "C")`,
		"raft/c_test.go", `package raft; import ("lograft/segment/vfs"; "pgregory.net/rapid")`,
		"broker/a.go", `package broker; import ("lograft/cli"; "lograft/broker/engine")`,
		"cli/a.go", `package cli; import ("lograft/broker"; "lograft/client")`,
		"new/a.go", `package new`,
		"new/b.go", `package new`,
	), arrows, testArrows),
		"raft/a.go: raft may not import lograft/segment",
		"raft/b.go: raft may not import google.golang.org/grpc",
		"raft/b.go: raft may not import C",
		"raft/c_test.go: a test of raft imports segment/vfs",
		"broker/a.go: broker may not import lograft/cli",
		"cli/a.go: cli may not import lograft/broker",
		"new: no row",
	)
}

// The table itself: every row once, every row with a reason.
func TestArrowTable(t *testing.T) {
	seen := make(map[string]bool)
	for _, a := range arrows {
		if a.why == "" || seen[a.folder] {
			t.Errorf("row %q: it needs a reason and must stand once", a.folder)
		}
		seen[a.folder] = true
	}
}
