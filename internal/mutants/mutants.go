// Package mutants breaks the program in one way at a time, in a copy, and demands that the test named beside the way goes red: a rule
// whose breaking nobody notices is not proven.
//
// A mutant is a .txt file:
//
//	rule: what it breaks
//	test: ./raft -run TestRule02
//	file: raft/ready.go
//	<<<<
//	text that stands there exactly once
//	====
//	text instead
//	>>>>
//
// with more file blocks if it takes more than one change.
package mutants

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

type mutant struct {
	name, rule string
	test       []string // arguments of go test
	edits      []edit
}

type edit struct{ file, old, new string }

// Options of a run.
type Options struct {
	Patches string        // folder of the mutants, from the module's root
	Copy    []string      // folders of the module that the tests need, from its root
	Time    time.Duration // bounds one test run; a mutant that hangs is red
	Tries   int           // how often a test with fresh seeds is run before its mutant counts as green; 0: once
}

// Main runs the mutants with the flags of the command line and ends the process: 0 if every mutant was red, 1 if not, 2 if that could
// not be found out.
func Main(o Options) {
	only := flag.String("only", "", "run the mutants whose name contains this")
	every := flag.Int("every", 1, "run one of so many mutants, from a random first one on; all must fit all the same")
	root := flag.String("root", ".", "the module's root")
	build := flag.Bool("build", false, "only build the mutants: a patch that fits may not compile any more")
	flag.Parse()
	ok, err := run(o, *root, *only, max(*every, 1), *build)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

func run(o Options, root, only string, every int, build bool) (ok bool, err error) {
	mutants, err := load(filepath.Join(root, o.Patches), only)
	if err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := copyTrees(root, dir, o.Copy); err != nil {
		return false, err
	}
	t := tester{dir: dir, time: o.Time, tries: max(o.Tries, 1)}
	if err := t.fit(mutants); err != nil {
		return false, err
	}
	if every > 1 {
		first := rand.N(every)
		fmt.Printf("one of %d mutants, from number %d of %d on\n", every, first+1, len(mutants))
		mutants = slice(mutants, first, every)
	}
	if build {
		return true, t.build(mutants)
	}
	if err := t.baseline(mutants); err != nil {
		return false, err
	}
	fmt.Printf("%-34s %-7s %6s  %s\n", "mutant", "result", "s", "rule | test | what showed it")
	ok = true
	for i := range mutants {
		m := &mutants[i]
		begin := time.Now()
		result, shown, err := t.try(m)
		if err != nil {
			return false, fmt.Errorf("%s: %w", m.name, err)
		}
		ok = ok && result == "red"
		fmt.Printf("%-34s %-7s %6.1f  %s | %s%s\n", m.name, result, time.Since(begin).Seconds(), m.rule, strings.Join(m.test, " "), shown)
	}
	return ok, nil
}

// slice is every so many-th of the mutants.
func slice(mutants []mutant, first, every int) (some []mutant) {
	for i := first; i < len(mutants); i += every {
		some = append(some, mutants[i])
	}
	return some
}

// fit checks that every patch fits, so that one that no longer does is found before anything runs.
func (t tester) fit(mutants []mutant) error {
	var errs []error
	for i := range mutants {
		for _, e := range mutants[i].edits {
			text, err := os.ReadFile(filepath.Join(t.dir, e.file))
			if err != nil {
				errs = append(errs, err)
			} else if n := strings.Count(string(text), e.old); n != 1 {
				errs = append(errs, fmt.Errorf("%s: the old text stands %d times in %s; make the patch fit again", mutants[i].name, n, e.file))
			}
		}
	}
	return errors.Join(errs...)
}

// tester runs tests in a copy of the module.
type tester struct {
	dir   string
	time  time.Duration
	tries int
}

// seedsFlag is followed by how many seeds a simulation runs: fresh ones, unless baseFlag says which is the first.
const seedsFlag, baseFlag = "-seeds", "-base"

// fresh is where in test the number of fresh seeds stands; 0: it has none.
func fresh(test []string) int {
	if slices.Contains(test, baseFlag) {
		return 0
	}
	return slices.Index(test, seedsFlag) + 1
}

// load reads every patch, in the order of names.
func load(dir, only string) ([]mutant, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	var all []mutant
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".txt")
		if !strings.Contains(name, only) {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		m, err := parse(name, string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		all = append(all, m)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no patch in %s has %q in its name", dir, only)
	}
	return all, nil
}

func parse(name, text string) (mutant, error) {
	m := mutant{name: name}
	var e edit
	part := ""
	for line := range strings.Lines(text) {
		bare := strings.TrimRight(line, "\n")
		switch {
		case part == "" && strings.HasPrefix(bare, "rule: "):
			m.rule = bare[len("rule: "):]
		case part == "" && strings.HasPrefix(bare, "test: "):
			m.test = strings.Fields(bare[len("test: "):])
			if fresh(m.test) == len(m.test) {
				return m, fmt.Errorf("%s needs a number behind it", seedsFlag)
			}
		case part == "" && strings.HasPrefix(bare, "file: "):
			e.file = bare[len("file: "):]
		case part == "" && bare == "<<<<":
			part = "old"
		case part == "old" && bare == "====":
			part = "new"
		case part == "new" && bare == ">>>>":
			m.edits = append(m.edits, e)
			e, part = edit{file: e.file}, ""
		case part == "old":
			e.old += line
		case part == "new":
			e.new += line
		case bare != "":
			return m, fmt.Errorf("line %q belongs to nothing", bare)
		}
	}
	if m.rule == "" || len(m.test) == 0 || len(m.edits) == 0 || part != "" {
		return m, errors.New("a patch needs rule:, test:, file: and one closed <<<< ==== >>>> block")
	}
	return m, nil
}

func copyTrees(root, dir string, folders []string) error {
	for _, f := range []string{"go.mod", "go.sum"} {
		if err := copyFile(filepath.Join(root, f), filepath.Join(dir, f)); err != nil {
			return err
		}
	}
	for _, folder := range folders {
		if err := copyTree(root, dir, folder); err != nil {
			return err
		}
	}
	return nil
}

// skipped folders are no part of what is tested.
var skipped = []string{".git", "bench", "bin", "docs", "integration", "mutants"}

func copyTree(root, dir, folder string) error {
	return filepath.WalkDir(filepath.Join(root, folder), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && slices.Contains(skipped, d.Name()):
			return filepath.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(dir, rel), 0o755)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		return copyFile(path, filepath.Join(dir, rel))
	})
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o644)
}

// baseline runs every named test unbroken, a simulation with few seeds: one that is red anyway proves nothing.
func (t tester) baseline(mutants []mutant) error {
	seen := map[string]bool{}
	for i := range mutants {
		test := slices.Clone(mutants[i].test)
		if k := fresh(test); k > 0 {
			test[k] = "8"
		}
		key := strings.Join(test, " ")
		if seen[key] {
			continue
		}
		seen[key] = true
		out, passed, err := t.goRun(append([]string{"test", "-count=1", "-v"}, test...))
		switch {
		case err != nil:
			return err
		case !passed:
			return fmt.Errorf("%s is red without the mutant%s: %s", key, finding(out), tail(out))
		case !bytes.Contains(out, []byte("--- PASS")):
			return fmt.Errorf("%s runs no test", key)
		}
	}
	return nil
}

// build says which mutants do not build.
func (t tester) build(mutants []mutant) error {
	var errs []error
	for i := range mutants {
		if err := t.applied(&mutants[i], func() error { return nil }); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", mutants[i].name, err))
		}
	}
	return errors.Join(errs...)
}

// try applies m, tests, and takes it back. shown is what of the test's output says what went wrong.
func (t tester) try(m *mutant) (result, shown string, err error) {
	tries := 1
	if fresh(m.test) > 0 {
		tries = t.tries
	}
	result = "GREEN"
	err = t.applied(m, func() error {
		for range tries {
			out, passed, err := t.goRun(append([]string{"test", "-count=1"}, m.test...))
			if err != nil || !passed {
				result, shown = "red", finding(out)
				return err
			}
		}
		return nil
	})
	return result, shown, err
}

// applied calls do while m is applied and builds, and takes it back.
func (t tester) applied(m *mutant, do func() error) (err error) {
	originals := map[string][]byte{}
	defer func() {
		for file, text := range originals {
			err = errors.Join(err, os.WriteFile(file, text, 0o644))
		}
	}()
	packages := []string{"build"}
	for _, e := range m.edits {
		file := filepath.Join(t.dir, e.file)
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if n := strings.Count(string(text), e.old); n != 1 {
			return fmt.Errorf("the old text stands %d times in %s; make the patch fit again", n, e.file)
		}
		if _, ok := originals[file]; !ok {
			originals[file] = text
		}
		if err := os.WriteFile(file, []byte(strings.Replace(string(text), e.old, e.new, 1)), 0o644); err != nil {
			return err
		}
		packages = append(packages, "./"+filepath.Dir(e.file))
	}
	out, built, err := t.goRun(packages)
	if err != nil {
		return err
	}
	if !built {
		return fmt.Errorf("the mutant does not build: %s", tail(out))
	}
	return do()
}

// finding is the line of a simulation that names its seed and what was found, "" if there is none.
func finding(out []byte) string {
	for line := range strings.Lines(string(out)) {
		if _, after, ok := strings.Cut(line, ": seed "); ok {
			return " | seed " + strings.TrimSpace(after[:min(len(after), 200)])
		}
	}
	return ""
}

// goRun runs the go command in dir; passed is its exit code 0.
func (t tester) goRun(args []string) (out []byte, passed bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), t.time)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = t.dir
	cmd.WaitDelay = 5 * time.Second
	out, err = cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return out, true, nil
	case errors.As(err, &exit) || ctx.Err() != nil:
		return out, false, nil
	}
	return out, false, err
}

func tail(out []byte) string {
	const most = 600
	if len(out) > most {
		out = out[len(out)-most:]
	}
	return string(bytes.TrimSpace(out))
}
