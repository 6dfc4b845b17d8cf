package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// event is one line of `go test -json` (see `go doc test2json`).
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
	Elapsed    float64
}

type testName struct{ pkg, test string }

type skipped struct {
	name   testName
	reason string
}

// summary counts what it is told.
type summary struct {
	out io.Writer
	// output of tests that are still running; Invariant: an entry goes away with its test.
	output map[testName][]string
	skips  []skipped

	passed, failed      int
	packages, badBuilds int
	badPackages         int
}

func newSummary(out io.Writer) *summary {
	return &summary{out: out, output: make(map[testName][]string)}
}

// line takes one line of input. A line that is not an event is passed on as it is.
func (s *summary) line(text []byte) {
	var e event
	if len(text) == 0 || text[0] != '{' || json.Unmarshal(text, &e) != nil || e.Action == "" {
		fmt.Fprintf(s.out, "%s\n", text)
		return
	}
	name := testName{e.Package, e.Test}
	switch e.Action {
	case "output":
		s.onOutput(name, e.Output)
	case "build-output":
		io.WriteString(s.out, e.Output)
	case "build-fail":
		s.badBuilds++
	case "pass", "fail", "skip":
		s.onEnd(name, e.Action)
	}
}

func (s *summary) onOutput(name testName, text string) {
	if name.test != "" {
		s.output[name] = append(s.output[name], text)
		return
	}
	if text != "PASS\n" {
		io.WriteString(s.out, text)
	}
}

func (s *summary) onEnd(name testName, action string) {
	output := s.output[name]
	delete(s.output, name)
	switch {
	case name.test == "":
		s.packages++
		if action == "fail" {
			s.badPackages++
		}
	case action == "pass":
		s.passed++
	case action == "fail":
		s.failed++
		io.WriteString(s.out, strings.Join(output, ""))
	case action == "skip":
		s.skips = append(s.skips, skipped{name, reason(output)})
	}
}

// reason is what a skipped test logged, without go test's own lines around it.
func reason(output []string) string {
	var parts []string
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- SKIP") {
			continue
		}
		parts = append(parts, line)
	}
	if len(parts) == 0 {
		return "no reason given"
	}
	return strings.Join(parts, " ")
}

// close prints the skipped tests, then one line of counts, and reports whether nothing failed. Tests that never ended (a package
// that crashed) are printed and count as failed; so does a run that had no package at all.
func (s *summary) close() bool {
	open := slices.SortedFunc(maps.Keys(s.output), func(a, b testName) int {
		return cmp.Or(strings.Compare(a.pkg, b.pkg), strings.Compare(a.test, b.test))
	})
	for _, name := range open {
		s.failed++
		fmt.Fprintf(s.out, "--- FAIL: %s (%s): never ended\n%s", name.test, name.pkg, strings.Join(s.output[name], ""))
	}
	for _, skip := range s.skips {
		fmt.Fprintf(s.out, "--- SKIP: %s (%s): %s\n", skip.name.test, skip.name.pkg, skip.reason)
	}
	ok := s.failed+s.badBuilds+s.badPackages == 0 && s.packages > 0
	word := "ok"
	if !ok {
		word = "FAIL"
	}
	fmt.Fprintf(s.out, "%s\tlograft\t%d passed, %d failed, %d skipped in %d packages, %d failed to build\n",
		word, s.passed, s.failed, len(s.skips), s.packages, s.badBuilds)
	return ok
}
