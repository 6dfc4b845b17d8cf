package lint

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fileLinesMax: a longer file holds more than one thing, and nobody reads it to the end.
const fileLinesMax = 800

func checkLength(files []*file) []string {
	var found []string
	for _, f := range files {
		if f.lines > fileLinesMax && !f.generated {
			found = append(found, fmt.Sprintf("%s: %d lines, more than %d: split it by what its parts do", f.path, f.lines, fileLinesMax))
		}
	}
	return found
}

// unfinished matches what a comment says when something was put off. What is not there is absent; what is known to be missing
// stands under Limitations, where a user can read it.
var unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)

func checkUnfinished(files []*file) []string {
	var found []string
	for _, f := range files {
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				if word := unfinished.FindString(c.Text); word != "" {
					found = append(found, fmt.Sprintf("%s: comment says %s: do it, or write the limit into the package comment", f.at(c), word))
				}
			}
		}
	}
	return found
}

// pure lists folders whose code must behave the same for the same arguments, so that whole brokers and clients run in one process
// from one seed (architecture D8): no clock, no chance, no files, no sockets, no goroutines. Adapters are the files that meet the
// real world and nothing else; each with its reason.
type pure struct {
	folder   string
	adapters map[string]string
	why      string
}

var pures = []pure{
	{"raft", nil, "the core is replayed from a seed"},
	{"raft/quorum", nil, "pure counting"},
	{"record", nil, "a batch is a function of its records"},
	{"segment", nil, "two replicas fed the same frames must write the same bytes; files come through vfs, tasks are run by their caller"},
	{"segment/journal", map[string]string{
		"walstore.go": "tidwall/wal works on real files only",
		"inspect.go":  "an offline look at its files",
	}, "the promises are written from inside a step"},
	{"broker/partition", nil, "a replica is a step machine"},
	{"broker/engine", map[string]string{
		"run.go": "the driver: goroutines and real time around the step machines",
	}, "workers and syncer are step machines"},
	{"broker/wire", nil, "replicas make the same bytes of the same fields"},
	{"broker/cluster", nil, "every broker must compute the same metadata"},
	{"broker/group", nil, "every broker must compute the same groups"},
	{"broker/rpc", map[string]string{
		"server.go":       "the gRPC adapter around the sessions",
		"guard.go":        "the gRPC interceptors before the sessions",
		"before.go":       "the guard before a message is taken: unary calls, calls without proof, the HTTP port",
		"authenticate.go": "proving a password is no session: it touches no replica",
	}, "sessions are step machines"},
	{"client/core", nil, "producer and consumer run in the simulator with the brokers"},
}

// impureImports are packages that no pure file has a use for.
var impureImports = []string{"os", "os/...", "net", "net/...", "crypto/rand", "syscall", "golang.org/x/sys/...", "io/ioutil"}

// impureCalls are functions that read a clock, wait, or draw from a source nobody handed in.
var impureCalls = map[string][]string{
	"time":         {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"},
	"math/rand":    {"Int", "Int31", "Int31n", "Int63", "Int63n", "Intn", "Uint32", "Uint64", "Float32", "Float64", "Perm", "Shuffle", "Seed", "Read"},
	"math/rand/v2": {"Int", "IntN", "Int32", "Int32N", "Int64", "Int64N", "Uint", "UintN", "Uint32", "Uint32N", "Uint64", "Uint64N", "N", "Float32", "Float64", "Perm", "Shuffle"},
	"context":      {"WithTimeout", "WithDeadline"},
}

func checkPure(files []*file, rules []pure) []string {
	var found []string
	for _, f := range files {
		row := slices.IndexFunc(rules, func(p pure) bool { return p.folder == f.dir() })
		if row < 0 || f.isTest() || f.generated {
			continue
		}
		rule := rules[row]
		if _, adapter := rule.adapters[path.Base(f.path)]; adapter {
			continue
		}
		for _, imported := range f.imports() {
			if matchesAny(impureImports, imported) {
				found = append(found, fmt.Sprintf("%s: %s imports %s: %s", f.path, rule.folder, imported, rule.why))
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				found = append(found, fmt.Sprintf("%s: %s starts a goroutine: %s", f.at(n), rule.folder, rule.why))
			case *ast.SelectorExpr:
				if call := impureUse(f, n); call != "" {
					found = append(found, fmt.Sprintf("%s: %s uses %s: %s", f.at(n), rule.folder, call, rule.why))
				}
			}
			return true
		})
	}
	return found
}

// impureUse is the name of the forbidden function that a selector means, "" if it means none.
func impureUse(f *file, s *ast.SelectorExpr) string {
	ident, ok := s.X.(*ast.Ident)
	if !ok {
		return ""
	}
	for importPath, names := range impureCalls {
		if f.importName(importPath) == ident.Name && slices.Contains(names, s.Sel.Name) {
			return importPath + "." + s.Sel.Name
		}
	}
	return ""
}

// checkStaleAdapters finds rows that name a file that is gone: an exception nobody needs hides the next one.
func checkStaleAdapters(files []*file, rules []pure) []string {
	var found []string
	for _, rule := range rules {
		present := slices.ContainsFunc(files, func(f *file) bool { return f.dir() == rule.folder })
		for name := range rule.adapters {
			exists := slices.ContainsFunc(files, func(f *file) bool { return f.path == rule.folder+"/"+name })
			if present && !exists {
				found = append(found, fmt.Sprintf("%s/%s: listed as an adapter in internal/lint/rules_test.go and not there", rule.folder, name))
			}
		}
	}
	slices.Sort(found)
	return found
}

// startsGoroutines: go statements, and calls that hand a function to a goroutine.
func startsGoroutines(f *file) bool {
	found := false
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = true
		case *ast.SelectorExpr:
			if n.Sel.Name == "Go" && (f.importName("golang.org/x/sync/errgroup") != "" || f.importName("sync") != "") {
				found = true
			}
		}
		return !found
	})
	return found
}

// checkLeaks: a package that starts goroutines outside its tests proves at the end of them that none is left.
func checkLeaks(files []*file) []string {
	starts, verified := make(map[string]string), make(map[string]bool)
	for _, f := range files {
		if !f.isTest() && startsGoroutines(f) && starts[f.dir()] == "" {
			starts[f.dir()] = f.path
		}
		if f.isTest() && f.importName("go.uber.org/goleak") != "" && callsVerifyTestMain(f) {
			verified[f.dir()] = true
		}
	}
	var found []string
	for dir, file := range starts {
		if !verified[dir] {
			found = append(found, fmt.Sprintf("%s starts goroutines and %s has no TestMain with goleak.VerifyTestMain: a leak would go unseen", file, dir))
		}
	}
	slices.Sort(found)
	return found
}

func callsVerifyTestMain(f *file) bool {
	for _, decl := range f.ast.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Name.Name != "TestMain" || fn.Body == nil {
			continue
		}
		calls := false
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			calls = calls || ok && s.Sel.Name == "VerifyTestMain"
			return !calls
		})
		return calls
	}
	return false
}

// No source file is longer than fileLinesMax lines; generated ones are nobody's reading.
func TestFileLength(t *testing.T) {
	report(t, checkLength(tree(t)))
}

// No comment puts work off.
func TestNothingPutOff(t *testing.T) {
	report(t, checkUnfinished(tree(t)))
}

// Pure packages have no clock, chance, file, socket or goroutine of their own, except in their adapter files.
func TestPurePackages(t *testing.T) {
	files := tree(t)
	report(t, checkPure(files, pures))
	report(t, checkStaleAdapters(files, pures))
}

// Every package that starts goroutines looks for leaks when its tests end.
func TestGoroutineLeaksAreLookedFor(t *testing.T) {
	report(t, checkLeaks(tree(t)))
}

func report(t *testing.T, findings []string) {
	t.Helper()
	for _, finding := range findings {
		t.Error(finding)
	}
}

// One line too many is found, the limit itself and generated code are not.
func TestFileLengthSeesBadSamples(t *testing.T) {
	body := strings.Repeat("\n", fileLinesMax-1)
	wantFindings(t, checkLength(sample(t,
		"a/long.go", "package a\n"+body+"\n",
		"a/just.go", "package a\n"+body,
		"a/gen.go", "// Code generated by x. DO NOT EDIT.\n\npackage a\n"+body,
	)), "a/long.go: 801 lines")
}

// Words in comments are found, in strings and inside other words they are not.
func TestNothingPutOffSeesBadSamples(t *testing.T) {
	wantFindings(t, checkUnfinished(sample(t,
		"a/a.go", "package a\n\n// TO"+"DO: later\nconst c = \"TO"+"DO\"\n",
		"a/b.go", "package a\n\n/* first\nFIX"+"ME(x) */\nvar mastodon int // MASTODON\n",
	)), "a/a.go:3", "a/b.go:3")
}

// Each impure act is found in a pure package; types, handed-in sources, tests, adapters and other packages are left alone.
func TestPurePackagesSeeBadSamples(t *testing.T) {
	rules := []pure{{"core", map[string]string{"real.go": "adapter", "gone.go": "adapter"}, "it is replayed"}}
	impure := `import ("os"; clock "time"; "math/rand/v2"); func f() { go f(); _ = clock.Now(); _ = rand.IntN(2); _ = os.Args }`
	files := sample(t,
		"core/a.go", "package core; "+impure,
		"core/b.go", `package core; import ("time"; "math/rand/v2"); func g(r *rand.Rand, d time.Duration) int { return r.IntN(2) }`,
		"core/c.go", `package core; import t "time"; type local struct{}; func (local) Now() {}; func h(time local) { time.Now(); var _ t.Time }`,
		"core/real.go", "package core; "+impure,
		"core/a_test.go", "package core; "+impure,
		"other/a.go", "package other; "+impure,
	)
	wantFindings(t, checkPure(files, rules),
		"core/a.go: core imports os", "core/a.go:1: core starts a goroutine", "uses time.Now", "uses math/rand/v2.IntN")
	wantFindings(t, checkStaleAdapters(files, rules), "core/gone.go: listed as an adapter")
}

// A go statement, an errgroup and a WaitGroup.Go are seen; goroutines of tests and a verified package are not reported.
func TestGoroutineLeaksSeeBadSamples(t *testing.T) {
	wantFindings(t, checkLeaks(sample(t,
		"a/a.go", "package a; func f() { go f() }",
		"a/a_test.go", `package a; import ("testing"; "go.uber.org/goleak"); func TestOther(t *testing.T) { goleak.VerifyNone(t) }`,
		"b/b.go", `package b; import "golang.org/x/sync/errgroup"; func f(g *errgroup.Group) { g.Go(nil) }`,
		"c/c.go", `package c; import "sync"; func f(g *sync.WaitGroup) { g.Go(nil) }`,
		"d/d.go", "package d; func f() { go f() }",
		"d/d_test.go", `package d; import ("testing"; "go.uber.org/goleak"); func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }`,
		"e/e_test.go", "package e; func f() { go f() }",
	)), "a/a.go starts goroutines", "b/b.go", "c/c.go")
}
