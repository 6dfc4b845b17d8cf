package datadir

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// checkMedium refuses file systems that lose everything with the power: a sync there promises nothing.
func checkMedium(dir string, allow bool) error {
	if allow {
		return nil
	}
	existing := dir
	for {
		if _, err := os.Stat(existing); err == nil {
			break
		}
		up := filepath.Dir(existing)
		if up == existing {
			return nil
		}
		existing = up
	}
	var st unix.Statfs_t
	if err := unix.Statfs(existing, &st); err != nil {
		return fmt.Errorf("data directory %s: statfs: %w", dir, err)
	}
	if t := int64(st.Type); t == unix.TMPFS_MAGIC || t == unix.RAMFS_MAGIC {
		return fmt.Errorf("data directory %s is in memory (tmpfs): everything is lost with the power; use a disk, or say --allow-tmpfs", dir)
	}
	return nil
}
