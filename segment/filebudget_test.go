package segment

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"lograft/segment/vfs"
)

// Many logs are read from end to end, again and again, within one budget of open files: it is kept but for one sealed file and the unsealed
// ones of each log, and nothing is left open at the end.
func TestFileBudget(t *testing.T) {
	const logs, budgetFiles = 8, 10
	fs, budget := vfs.NewMem(), NewFileBudget(budgetFiles)
	var all []*Log
	for i := range logs {
		o := testOptions(fs)
		o.Dir, o.SealedFilesMax, o.Files = fmt.Sprint("data/g", i), 4, budget
		l, _ := mustOpen(t, o)
		m := newMaker(rand.New(rand.NewPCG(1, uint64(i))))
		for range 20 {
			mustAppend(t, l, m.frames(10)...)
			mustSync(t, l)
			sealAll(t, l, l.LastIndex())
		}
		all = append(all, l)
	}
	unsealed := int64(0)
	for _, l := range all {
		if len(l.Sealed(0)) < 6 {
			t.Fatalf("%d sealed segments", len(l.Sealed(0)))
		}
		unsealed += int64(len(l.segs) - len(l.Sealed(0)))
	}
	for range 3 {
		for _, l := range all {
			for i := l.FirstIndex(); i <= l.LastIndex(); {
				task := l.ColdEntries(i, l.LastIndex()+1, 1000)
				task.Do()
				if task.Err != nil || len(task.Frames) == 0 {
					t.Fatalf("entry %d: %v", i, task.Err)
				}
				i = task.Frames[len(task.Frames)-1].Index + 1
			}
		}
		if open := budget.Open(); open > budgetFiles+logs+unsealed {
			t.Errorf("%d files are open, the budget is %d, %d logs with %d unsealed segments", open, budgetFiles, logs, unsealed)
		}
	}
	for _, l := range all {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if open := budget.Open(); open != 0 {
		t.Errorf("%d files are open after all logs are closed", open)
	}
}
