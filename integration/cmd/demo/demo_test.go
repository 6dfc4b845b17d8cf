package main

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stage is a folder with the demo and the fake programs, an input file, and an empty folder for temporary files.
type stage struct{ bin, input, tmp string }

func newStage(t *testing.T, text string) stage {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := stage{bin: filepath.Join(dir, "bin"), input: filepath.Join(dir, "input"), tmp: filepath.Join(dir, "tmp")}
	for _, d := range []string{s.bin, s.tmp} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"broker", "produce", "consume", "demo"} {
		if err := os.Symlink(self, filepath.Join(s.bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(s.input, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s stage) command(t *testing.T, fault string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, "demo"), "-bin", s.bin, "-file", s.input)
	cmd.Env = append(os.Environ(), "TMPDIR="+s.tmp, "FAKE_DIR="+t.TempDir(), "FAKE_FAULT="+fault)
	return cmd
}

// nothingLeft fails if a temporary file or a broker of this stage is still there.
func (s stage) nothingLeft(t *testing.T) {
	t.Helper()
	left, err := os.ReadDir(s.tmp)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		line, err := os.ReadFile(p)
		if err == nil && strings.Contains(string(line), s.bin) {
			t.Errorf("process left behind: %s: %q", p, line)
		}
	}
}

// With brokers that behave, the demo ends with 0, prints four equal hashes, and leaves nothing.
func TestSame(t *testing.T) {
	s := newStage(t, strings.Repeat("a line\n\n", 500)+"no newline at the end")
	out, err := s.command(t, "").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	sum := sha256.Sum256([]byte(strings.Repeat("a line\n\n", 500) + "no newline at the end\n"))
	if got := strings.Count(string(out), hex.EncodeToString(sum[:])); got != 4 {
		t.Errorf("the input's hash stands %d times in the output, want 4:\n%s", got, out)
	}
	s.nothingLeft(t)
}

// Whatever goes wrong, the demo ends with 1, says what, and leaves nothing.
func TestFaults(t *testing.T) {
	for fault, says := range map[string]string{
		"byte of 1":          "1 of 3 copies differ",
		"byte of 2":          "1 of 3 copies differ",
		"short 3":            "1 of 3 copies differ",
		"record twice":       "a record is lost or there twice",
		"record fails":       "line 6 was not acknowledged: no luck (reason LUCK, outcome failed)",
		"produce ends":       "out of breath",
		"broker ends":        "no space on the moon",
		"broker exits badly": "exit code 1, want 0",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, strings.Repeat("a line\n", 100))
			out, err := s.command(t, fault).CombinedOutput()
			if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 {
				t.Errorf("ended with %v, want exit code 1", err)
			}
			if !strings.Contains(string(out), says) {
				t.Errorf("the output does not say %q:\n%s", says, out)
			}
			s.nothingLeft(t)
		})
	}
}

// Ctrl-C at different moments ends the demo with 130 and leaves nothing.
func TestInterrupt(t *testing.T) {
	for _, moment := range []string{"pid", "Produce the first", "Produce the second", "Read it back"} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, strings.Repeat("a line\n", 100))
			cmd := s.command(t, "")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			kill := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
			defer kill.Stop()
			var said strings.Builder
			for buf := make([]byte, 256); !strings.Contains(said.String(), moment); {
				n, err := out.Read(buf)
				said.Write(buf[:n])
				if err != nil {
					t.Fatalf("%v before %q in:\n%s", err, moment, said.String())
				}
			}
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			io.Copy(&said, out)
			err = cmd.Wait()
			if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != exitInterrupted {
				t.Errorf("ended with %v, want exit code 130:\n%s", err, said.String())
			}
			s.nothingLeft(t)
		})
	}
}

// The halves of an input are cut after a newline, both have lines, and what is sent is the file with a closing newline.
func TestScan(t *testing.T) {
	for _, text := range []string{"a\nb", "a\nb\n", "\n\n", "a\n" + strings.Repeat("x", 100), strings.Repeat("y", 100) + "\nb\n", "a\nb\nc\nd\n",
		strings.Repeat("z", 3<<20) + "\n" + strings.Repeat("w", 5<<20)} {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		in, err := scan(path)
		if err != nil {
			t.Fatalf("%.20q: %v", text, err)
		}
		sent := strings.TrimSuffix(text, "\n") + "\n"
		sum := sha256.Sum256([]byte(sent))
		if in.bytes != int64(len(sent)) || in.lines != strings.Count(sent, "\n") || in.sum != hex.EncodeToString(sum[:]) {
			t.Errorf("%.20q: %d bytes, %d lines, sum %s", text, in.bytes, in.lines, in.sum)
		}
		if in.halfLines < 1 || in.halfLines >= in.lines || strings.Count(sent[:in.half], "\n") != in.halfLines || sent[in.half-1] != '\n' {
			t.Errorf("%.20q: half at byte %d, line %d", text, in.half, in.halfLines)
		}
		r, err := in.reader(in.half)
		if err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(r)
		r.Close()
		if err != nil || string(rest) != sent[in.half:] {
			t.Errorf("%.20q: second half has %d bytes, %v", text, len(rest), err)
		}
	}
	for _, text := range []string{"", "one line", "one line\n"} {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := scan(path); err == nil || !strings.Contains(err.Error(), "at least two lines") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Numbers are grouped from the right.
func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) = %s, want %s", n, got, want)
		}
	}
}
