//go:build unix

package cli

import (
	"bytes"
	"context"
	"os"
	"testing"
)

// The end of a pipe's reader is seen without writing to it; while it is there, and for what is no pipe, there is nothing to see.
func TestReaderGone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*pipeInterval)
	defer cancel()
	if readerGone(ctx, w) {
		t.Error("gone while it is there")
	}
	r.Close()
	if !readerGone(t.Context(), w) {
		t.Error("not seen to be gone")
	}
	file, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if readerGone(t.Context(), file) || readerGone(t.Context(), &bytes.Buffer{}) {
		t.Error("a file or a buffer has no reader")
	}
}
