//go:build !linux

package cli

// openFiles is not known here.
func openFiles() (limit uint64, ok bool) { return 0, false }

// diskSpace is not known here.
func diskSpace(string) (free, size int64, ok bool) { return 0, 0, false }
