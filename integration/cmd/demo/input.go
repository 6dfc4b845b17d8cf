package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// input is the file to send, as it will be sent: every line a record, the last one closed by a newline.
type input struct {
	path string
	// bytes and lines are what is sent; half and halfLines are where its first half ends: after the last newline of the first half of
	// the bytes, or after line 1. Invariant: 0 < halfLines < lines.
	bytes, half      int64
	lines, halfLines int
	// padded: the file's last line has no newline, one is added.
	padded bool
	sum    string // SHA-256 of what is sent
}

var errTooShort = errors.New("it needs at least two lines, so that the leader can be killed between them: choose another with make demo FILE=PATH")

// scan reads the file once.
func scan(path string) (input, error) {
	f, err := os.Open(path)
	if err != nil {
		return input{}, fmt.Errorf("input: %w: name a file with make demo FILE=PATH", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return input{}, err
	}
	if !info.Mode().IsRegular() {
		return input{}, fmt.Errorf("input %s is not a regular file: name one with make demo FILE=PATH", path)
	}
	in := input{path: path}
	hash := sha256.New()
	r := bufio.NewReaderSize(f, 1<<20)
	open := false // the last piece read did not end with a newline
	for {
		piece, err := r.ReadSlice('\n')
		hash.Write(piece)
		in.bytes += int64(len(piece))
		if len(piece) > 0 {
			open = piece[len(piece)-1] != '\n'
			if !open {
				in.lines++
			}
		}
		if !open && (in.lines == 1 || in.bytes <= info.Size()/2) {
			in.half, in.halfLines = in.bytes, in.lines
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return input{}, fmt.Errorf("input: %w", err)
		}
	}
	if open {
		hash.Write([]byte{'\n'})
		in.bytes++
		in.lines++
		in.padded = true
	}
	if in.lines < 2 {
		return input{}, fmt.Errorf("input %s has %d line(s): %w", path, in.lines, errTooShort)
	}
	in.sum = hex.EncodeToString(hash.Sum(nil))
	return in, nil
}

// reader gives what is sent, from byte from on.
func (in input) reader(from int64) (io.ReadCloser, error) {
	f, err := os.Open(in.path)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	if !in.padded {
		return f, nil
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(f, strings.NewReader("\n")), f}, nil
}
