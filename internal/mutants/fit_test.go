package mutants

import (
	"path/filepath"
	"testing"
)

// Every patch fits the code as it is: a change that moves a mutant's text is told here, not when the mutants run.
func TestPatchesFit(t *testing.T) {
	root := filepath.Join("..", "..")
	for _, dir := range []string{"raft/mutants/patches", "broker/mutants/patches"} {
		list, err := load(filepath.Join(root, dir), "")
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			t.Errorf("no patches in %s", dir)
		}
		if err := (tester{dir: root}).fit(list); err != nil {
			t.Error(err)
		}
	}
}
