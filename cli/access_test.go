package cli

import (
	"slices"
	"testing"

	"lograft/client"
)

// Several principals are separated by commas, as operations are; a comma with a backslash is part of a name, and an empty one is refused.
func TestPrincipals(t *testing.T) {
	for arg, want := range map[string][]string{
		"alice":           {"alice"},
		"alice,bob":       {"alice", "bob"},
		`Smith\, J.,*`:    {"Smith, J.", "*"},
		"alice,":          nil,
		",bob":            nil,
		"":                nil,
		"alice,,bob":      nil,
		`domain\user,bob`: {`domain\user`, "bob"},
	} {
		got, err := principalsOf(arg)
		if !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q: got %q, %v; want %q", arg, got, err, want)
		}
	}
	f := aclFlags{topic: "t*"}
	got, err := f.acls([]string{"alice,bob", "read,write"}, true)
	if err != nil || len(got) != 4 || got[2] != (client.ACL{Principal: "bob", Kind: "topic", Name: "t", Prefix: true, Operation: "read", Deny: true}) {
		t.Errorf("two principals and two operations: %+v, %v", got, err)
	}
}
