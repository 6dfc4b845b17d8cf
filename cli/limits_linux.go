package cli

import "golang.org/x/sys/unix"

// openFiles is how many files a process may have open.
func openFiles() (limit uint64, ok bool) {
	var r unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r)
	return r.Max, err == nil // Go raises the soft limit to the hard one
}

// diskSpace is of the file system that holds dir, bytes.
func diskSpace(dir string) (free, size int64, ok bool) {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, err == nil
}
