package broker

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// spaceOf looks at the file system of a directory; what can't be told is 0.
func spaceOf(dir string) diskSpace {
	var s diskSpace
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) == nil {
		s.free, s.size = int64(st.Bavail)*int64(st.Bsize), int64(st.Blocks)*int64(st.Bsize)
	}
	b, _ := os.ReadFile("/proc/self/io")
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(line, []byte("write_bytes: ")); ok {
			s.deviceWritten, _ = strconv.ParseInt(string(bytes.TrimSpace(v)), 10, 64)
		}
	}
	return s
}
