package rpc

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"lograft/broker/partition"
)

var reasonRow = regexp.MustCompile("^\\| `([A-Z_]+)` \\| ([A-Z_]+) \\|")

// documented is the table of docs/errors.md: reason to gRPC code.
func documented(t *testing.T) map[string]codes.Code {
	t.Helper()
	text, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]codes.Code{}
	for line := range strings.Lines(string(text)) {
		m := reasonRow.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		var c codes.Code
		if err := c.UnmarshalJSON([]byte(strconv.Quote(m[2]))); err != nil {
			t.Errorf("docs/errors.md: %s: %v", m[1], err)
		}
		if _, twice := rows[m[1]]; twice {
			t.Errorf("docs/errors.md: %s has two rows", m[1])
		}
		rows[m[1]] = c
	}
	return rows
}

// declaredReasons are the values of all constants named Reason... in a source file.
func declaredReasons(t *testing.T, path string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") || len(spec.Values) != 1 {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
			if s, _ := strconv.Unquote(lit.Value); s != "" {
				out = append(out, s)
			}
		}
		return true
	})
	return out
}

// Every reason has a gRPC code, and docs/errors.md says the same one: no more rows, no fewer.
func TestErrorsDocumented(t *testing.T) {
	rows := documented(t)
	for reason, code := range codeOf {
		if got, ok := rows[string(reason)]; !ok || got != code {
			t.Errorf("docs/errors.md: %s should stand there with %v, found %t with %v", reason, code, ok, got)
		}
	}
	for reason := range rows {
		if _, ok := codeOf[partition.Reason(reason)]; !ok {
			t.Errorf("docs/errors.md: no broker gives %s", reason)
		}
	}
	declared := append(declaredReasons(t, "../partition/request.go"), declaredReasons(t, "../cluster/command.go")...)
	if len(declared) < 20 {
		t.Fatalf("only %d reasons were found in the sources", len(declared))
	}
	for _, reason := range declared {
		if _, ok := codeOf[partition.Reason(reason)]; !ok {
			t.Errorf("%s has no gRPC code: it would be Internal", reason)
		}
	}
}
