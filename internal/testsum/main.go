// Command testsum reads what `go test -json` writes (other lines may stand between), prints it the way plain `go test` would, and
// closes with every skipped test and its reason and one line of counts. It exits 1 if anything failed.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
)

// lineBytesMax bounds one line of input: a test that prints more on one line is an error, not a reason to use more memory.
const lineBytesMax = 16 << 20

func main() {
	ok, err := run(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
	}
	if !ok || err != nil {
		os.Exit(1)
	}
}

// run copies in to out as main's comment says and reports whether everything passed.
func run(in io.Reader, out io.Writer) (bool, error) {
	w := bufio.NewWriter(out)
	s := newSummary(w)
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 64<<10), lineBytesMax)
	for lines.Scan() {
		s.line(lines.Bytes())
		if err := w.Flush(); err != nil {
			return false, err
		}
	}
	ok := s.close()
	if err := lines.Err(); err != nil {
		return false, fmt.Errorf("read: %w", err)
	}
	return ok, w.Flush()
}
