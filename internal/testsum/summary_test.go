package main

import (
	"bytes"
	"strings"
	"testing"
)

func sum(t *testing.T, lines ...string) (string, bool) {
	t.Helper()
	var out bytes.Buffer
	ok, err := run(strings.NewReader(strings.Join(lines, "\n")+"\n"), &out)
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), ok
}

// Counts, the reason of a skip and lines of other programs all arrive; output of tests that passed does not.
func TestCountsAndReasons(t *testing.T) {
	out, ok := sum(t,
		`go vet ./...`,
		`{"Action":"start","Package":"p"}`,
		`{"Action":"output","Package":"p","Test":"TestA","Output":"chatter\n"}`,
		`{"Action":"pass","Package":"p","Test":"TestA"}`,
		`{"Action":"output","Package":"p","Test":"TestB","Output":"=== RUN   TestB\n"}`,
		`{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:7: no data\n"}`,
		`{"Action":"output","Package":"p","Test":"TestB","Output":"--- SKIP: TestB (0.00s)\n"}`,
		`{"Action":"skip","Package":"p","Test":"TestB"}`,
		`{"Action":"output","Package":"p","Output":"PASS\n"}`,
		`{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}`,
		`{"Action":"pass","Package":"p"}`)
	want := "go vet ./...\nok  \tp\t0.1s\n--- SKIP: TestB (p): b_test.go:7: no data\n" +
		"ok\tlograft\t1 passed, 0 failed, 1 skipped in 1 packages, 0 failed to build\n"
	if out != want || !ok {
		t.Fatalf("got ok=%v\n%s\nwant\n%s", ok, out, want)
	}
}

// Every way a run can fail makes the whole fail: a test, a build, a package, a test that never ended, nothing at all.
func TestFailures(t *testing.T) {
	for name, lines := range map[string][]string{
		"test": {`{"Action":"output","Package":"p","Test":"TestA","Output":"it broke\n"}`, `{"Action":"fail","Package":"p","Test":"TestA"}`,
			`{"Action":"pass","Package":"p"}`},
		"build":       {`{"Action":"build-fail","ImportPath":"p"}`, `{"Action":"pass","Package":"q"}`},
		"package":     {`{"Action":"fail","Package":"p"}`},
		"never ended": {`{"Action":"output","Package":"p","Test":"TestA","Output":"it broke\n"}`, `{"Action":"pass","Package":"p"}`},
		"nothing":     {`make: *** [test] Error 1`},
	} {
		out, ok := sum(t, lines...)
		if ok || !strings.Contains(out, "FAIL\tlograft") {
			t.Errorf("%s: ok=%v, output:\n%s", name, ok, out)
		}
		if strings.Contains(lines[0], "it broke") && !strings.Contains(out, "it broke") {
			t.Errorf("%s: the failed test's output is missing:\n%s", name, out)
		}
	}
}
