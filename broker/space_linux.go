package broker

import (
	"bytes"
	"os"
	"strconv"

	"lograft/segment/vfs"
)

// spaceOf looks at the file system of a directory; what can't be told is 0.
func spaceOf(dir string) diskSpace {
	var s diskSpace
	if free, size, err := vfs.OS().Space(dir); err == nil {
		s.free, s.size = free, size
	}
	b, _ := os.ReadFile("/proc/self/io")
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(line, []byte("write_bytes: ")); ok {
			s.deviceWritten, _ = strconv.ParseInt(string(bytes.TrimSpace(v)), 10, 64)
		}
	}
	return s
}
