package broker

import (
	"context"
	"path/filepath"
	"strings"

	"golang.org/x/sync/semaphore"

	"lograft/segment/vfs"
)

// openBytesMax bounds the checkpoints that are in memory at once while groups are opened: each is read whole, 256 MiB at most, and is the
// state machine's when its group is open.
const openBytesMax = 256 << 20

// openBudget lets groups be opened several at a time as long as their checkpoints fit together.
type openBudget struct {
	room *semaphore.Weighted
	max  int64
}

func newOpenBudget(bytes int64) *openBudget {
	return &openBudget{semaphore.NewWeighted(bytes), bytes}
}

// within is open for calls at the same time: each waits until there is room for the bytes of its group, and what is larger than the budget
// is opened alone.
func (b *openBudget) within(bytes func(i int) int64, open func(i int)) func(i int) {
	return func(i int) {
		n := min(bytes(i), b.max)
		_ = b.room.Acquire(context.Background(), n) // fails only for a context that ends
		defer b.room.Release(n)
		open(i)
	}
}

// checkpointBytes is the size of the largest checkpoint in a group's directory; 0 if there is none, or the directory can't be read, which
// opening it will say.
func checkpointBytes(fs vfs.FS, dir string) (largest int64) {
	names, err := fs.List(dir)
	if err != nil {
		return 0
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".state") {
			continue
		}
		if size, _, err := fs.Stat(filepath.Join(dir, name)); err == nil {
			largest = max(largest, size)
		}
	}
	return largest
}
