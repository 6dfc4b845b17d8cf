package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lograft/client"
)

// outcomeOf is what a run of a program left behind.
type outcomeOf struct {
	code     int
	out, err string
}

func run(ctx context.Context, program, in string, args ...string) outcomeOf {
	var out, errs bytes.Buffer
	code := Run(ctx, program, args, Streams{strings.NewReader(in), &out, &errs}, Hooks{Version: "v1.2.3"})
	return outcomeOf{code, out.String(), errs.String()}
}

// deadAddress is one where nothing listens.
func deadAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A mistake in the command line exits 2, leaves standard output empty, and says what is wrong before any broker is asked.
func TestUsageErrors(t *testing.T) {
	for _, c := range []struct{ line, says string }{
		{"produce", "wants a topic"},
		{"consume", "wants a topic"},
		{"consume t --bogus", "unknown flag: --bogus"},
		{"consume t -o x", `-o "x"`},
		{"consume t -o 1:2:3", "-o"},
		{"consume t -o 12:10", "ends before it begins"},
		{"consume t -o @soon", "want a time"},
		{"consume t --session !", "--acks-json"},
		{"consume t --session AAAA", "--acks-json"},
		{"consume t --session AAAA --consistency committed", "exclude each other"},
		{"produce t --expected-offset -1", "from 0 on"},
		{"consume t -n -1", "from 0 on"},
		{"consume t --tail -1", "from 0 on"},
		{"consume t --tail 1 -o 5", "exclude each other"},
		{"consume t --timeout -1s", "from 0 on"},
		{"consume t --idle-timeout -1s", "from 0 on"},
		{"consume t -f %q", "-f"},
		{"consume t --consistency x", "linearizable, session or committed"},
		{"consume t -b nohost", "host:port"},
		{"consume t --commit none", "say -g"},
		{"consume t --group=", "name of a group"},
		{"consume t -g g --commit x", "auto or none"},
		{"consume t -g g -p 1", "exclude each other"},
		{"consume t -g g --replica 1", "exclude each other"},
		{"consume t -g g --tail 5", "exclude each other"},
		{"consume t -g g -o 5", "broker group seek g --to 5"},
		{"consume t -g g -n -1", "0 or more"},
		{"consume t -g g --session-timeout 1ms", "1s to 30m"},
		{"consume t -g g --consistency x", "linearizable or committed"},
		{"consume t -g g -f %q", "-f"},
		{"broker group seek g", "--to is missing"},
		{"broker group seek g --to x", `--to "x"`},
		{"broker config validate --config /no/such/file", "no such file"},
		{"broker config show --format yaml", "text or json"},
		{"broker group seek g --to start", "--yes"},
		{"broker group delete g", "--yes"},
		{"broker group describe", "wants one argument"},
		{"broker group lst", "did you mean list?"},
		{"broker group list --format yaml", "text or json"},
		{"produce t -b nohost", "host:port"},
		{"produce t -z foo", "snappy"},
		{"produce t --acks 1", "only all"},
		{"produce t -f xml", "lines or json"},
		{"produce t -o %v --acks-json", "exclude each other"},
		{"produce t -o %q", "-o"},
		{"produce t -p -2", "partition number"},
		{"produce t --delimiter=", "at least one byte"},
		{`produce t -D \q`, "unknown escape"},
		{`produce t -K \x1`, "unknown escape"},
		{"produce t -H d", "key=value"},
		{"produce t --rate -1", "from 0 on"},
		{"produce t --linger -1s", "from 0 on"},
		{"produce t --batch-bytes -1", "from 0 on"},
		{"produce t -f json -k x", "-f json takes"},
		{"produce t -f json -Z", "-f json takes"},
		{"broker bogus", `unknown command or argument "bogus"`},
		{"broker topic creat x", "did you mean create?"},
		{"broker config bogus", `"bogus"`},
		{"broker topic list extra", `"extra"`},
		{"broker topic list --format yaml", "text or json"},
		{"broker cluster health --format yaml", "text or json"},
		{"broker topic create", "wants one argument"},
		{"broker topic create a b", "wants one argument"},
		{"broker topic create a --partitions 0", "at least one"},
		{"broker topic create a --replication-factor -1", "1 to 5"},
		{"broker topic create a -c x", "key=value"},
		{"broker topic delete a", "--yes"},
		{"broker bench prodce", "did you mean produce?"},
		{"broker bench produce --record-size 0", "record size 0"},
		{"broker bench produce --producers 0", "at least one"},
		{"broker bench produce --rate -1", "from 0 on"},
		{"broker bench produce --duration 0s", "bound records or duration"},
		{"broker bench produce -z foo", "snappy"},
		{"broker bench produce --acks 1", "only all"},
		{"broker bench produce --data /nonexistent", "want logs, random, a file"},
		{"broker bench consume --consistency x", "linearizable or committed"},
		{"broker doctor --format yaml", "text or json"},
		{"broker debug bundle --cpu 1h", "want 0 to 5m"},
		{"broker debug bundel", "did you mean bundle?"},
		{"broker --nodes 3", "--dev"},
		{"broker --dev --nodes 10", "1 to 9"},
		{"broker --dev --listen :1", "--listen has no effect with --dev"},
		{"broker quota set p --requests -5", `--requests "-5": want a whole number from 0 on`},
		{"consume t -p 1,x", `--partitions "1,x": want whole numbers divided by commas`},
		{"produce t -p 99999999999", "the number is too large"},
		{"produce t --linger 5", "want a duration"},
		{"consume t --tail 0 -o 5", "exclude each other"},
		{"broker config validate --config /nonexistent.yaml", "nonexistent"},
	} {
		t.Run(c.line, func(t *testing.T) {
			words := strings.Fields(c.line)
			got := run(t.Context(), words[0], "", words[1:]...)
			if got.code != exitUsage || got.out != "" || !strings.HasPrefix(got.err, "error: ") || !strings.Contains(got.err, c.says) {
				t.Fatalf("exit %d, stdout %q, stderr %q; want 2, nothing, and %q", got.code, got.out, got.err, c.says)
			}
		})
	}
}

// Help of every command goes to standard output and begins with an example; that of consume says on line 1 that it runs until Ctrl-C.
func TestHelpBeginsWithExamples(t *testing.T) {
	for _, line := range []string{"broker", "broker serve", "broker topic", "broker topic create", "broker topic list", "broker topic describe", "broker topic alter", "broker topic trim", "broker topic delete",
		"broker group", "broker group list", "broker group describe", "broker group seek", "broker group delete", "broker cluster", "broker cluster info", "broker cluster health", "broker config", "broker config show", "broker config validate", "broker config env",
		"broker doctor", "broker debug", "broker debug bundle", "broker bench", "broker bench produce", "broker bench consume", "broker bench e2e", "broker produce", "broker consume", "produce", "consume"} {
		words := strings.Fields(line)
		got := run(t.Context(), words[0], "", append(words[1:], "--help")...)
		first, _, _ := strings.Cut(got.out, "\n")
		if got.code != exitOK || got.err != "" || !strings.HasPrefix(first, "  "+words[0]) && !strings.HasPrefix(first, "  "+words[len(words)-1]) {
			t.Errorf("%s --help: exit %d, line 1 %q, stderr %q", line, got.code, first, got.err)
		}
		if strings.HasSuffix(line, "consume") && line != "broker bench consume" && !strings.Contains(first, "runs until Ctrl-C") {
			t.Errorf("%s --help: line 1 is %q", line, first)
		}
	}
}

// --version and version name the version handed in.
func TestVersion(t *testing.T) {
	for _, line := range []string{"broker version", "broker --version", "produce --version", "consume --version"} {
		words := strings.Fields(line)
		if got := run(t.Context(), words[0], "", words[1:]...); got.code != exitOK || !strings.Contains(got.out, "v1.2.3") {
			t.Errorf("%s: %+v", line, got)
		}
	}
}

// failingWriter is a standard output that takes nothing.
type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// A reader that left is no failure and no word; a full disk is one, said once.
func TestOutputFails(t *testing.T) {
	for _, line := range []string{"consume --help", "broker", "broker version", "broker --version", "broker config env", "broker config show", "broker completion bash", "broker topic"} {
		words := strings.Fields(line)
		if line == "broker" {
			words = append(words, "--help")
		}
		for _, c := range []struct {
			err  error
			code int
			says int
		}{{fmt.Errorf("write: %w", syscall.EPIPE), exitOK, 0}, {fmt.Errorf("write: %w", syscall.ENOSPC), exitItemFailed, 1}} {
			var errs bytes.Buffer
			code := Run(t.Context(), words[0], words[1:], Streams{strings.NewReader(""), failingWriter{c.err}, &errs}, Hooks{Version: "v"})
			if said := strings.Count(errs.String(), "write:"); code != c.code || said != c.says {
				t.Errorf("%s with %v: exit %d, stderr %q", line, c.err, code, errs.String())
			}
		}
	}
}

// Each kind of error has its exit code, and only real failures are spoken of.
func TestExitCodes(t *testing.T) {
	live := t.Context()
	gone, cancel := context.WithCancel(live)
	cancel()
	unreachable := &client.Error{Reason: "UNREACHABLE", Message: "m"}
	if !client.Unavailable(unreachable) {
		t.Skip("the client names it otherwise")
	}
	for _, c := range []struct {
		name   string
		ctx    context.Context
		err    error
		code   int
		silent bool
	}{
		{"none", live, nil, exitOK, true},
		{"broken pipe beside a failure", live, errors.Join(errors.New("x"), syscall.EPIPE), exitOK, true},
		{"item", live, errors.New("x"), exitItemFailed, false},
		{"usage", live, fmt.Errorf("in: %w", usagef("x")), exitUsage, false},
		{"unhealthy", live, codeError(exitUnhealthy), exitUnhealthy, true},
		{"unavailable", live, unreachable, exitUnavailable, false},
		{"timed out", live, context.DeadlineExceeded, exitUnavailable, false},
		{"interrupted", gone, context.Canceled, exitInterrupted, true},
		{"a call cut by the interrupt", gone, unreachable, exitInterrupted, true},
		{"cancelled by nobody", live, context.Canceled, exitItemFailed, false},
		{"failed before the interrupt", gone, errors.New("x"), exitItemFailed, false},
	} {
		var errs bytes.Buffer
		a := &app{Streams: Streams{Err: &errs}}
		if code := a.exit(c.ctx, c.err); code != c.code || (errs.Len() == 0) != c.silent {
			t.Errorf("%s: exit %d, said %q; want %d", c.name, code, errs.String(), c.code)
		}
	}
}

// Without a broker every command gives up with 4 and names the address and the fix.
func TestNobodyAnswers(t *testing.T) {
	at := deadAddress(t)
	for _, line := range []string{"broker topic list", "broker topic describe t", "broker topic delete t --yes", "broker cluster health", "broker cluster info", "consume t -e --timeout 300ms",
		"consume t --timeout 300ms"} {
		words := strings.Fields(line)
		got := run(t.Context(), words[0], "", append(words[1:], "-b", at)...)
		if got.code != exitUnavailable || got.out != "" || !strings.Contains(got.err, at) {
			t.Errorf("%s: %+v", line, got)
		}
	}
	got := run(t.Context(), "produce", "a\nb\n", "t", "-b", at, "--delivery-timeout", "300ms", "--acks-json")
	if got.code != exitUnavailable || strings.Count(got.out, `"outcome":"failed"`) != 2 || !strings.Contains(got.err, "sent 2 records: 0 acknowledged, 0 unknown, 2 failed") {
		t.Errorf("produce: %+v", got)
	}
}

// Ctrl-C ends consume with 130 and nothing said.
func TestConsumeInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	stop := time.AfterFunc(100*time.Millisecond, cancel)
	defer stop.Stop()
	if got := run(ctx, "consume", "", "t", "-b", deadAddress(t)); got.code != exitInterrupted || got.out+got.err != "" {
		t.Fatalf("%+v", got)
	}
}

// Ctrl-C while produce waits for input, or for its turn under --rate, ends it with 130; it says how many were sent and what became of them.
func TestProduceInterrupted(t *testing.T) {
	for _, rate := range []string{"0", "0.001"} {
		in, keyboard := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, _ = keyboard.Write([]byte("a\nb\n"))
			time.AfterFunc(100*time.Millisecond, cancel)
		}()
		var out, errs bytes.Buffer
		began := time.Now()
		code := Run(ctx, "produce", []string{"t", "-b", deadAddress(t), "--delivery-timeout", "200ms", "--rate", rate}, Streams{in, &out, &errs}, Hooks{})
		keyboard.Close()
		sent := map[string]string{"0": "interrupted: sent 2 records: 0 acknowledged, ", "0.001": "interrupted: sent 1 record: 0 acknowledged, "}[rate]
		if code != exitInterrupted || out.Len() > 0 || !strings.Contains(errs.String(), sent) || time.Since(began) > 2*flushTimeout {
			t.Errorf("--rate %s: exit %d, stdout %q, stderr %q", rate, code, out.String(), errs.String())
		}
	}
}

// A file that can't be read is named before anything of the others is sent.
func TestProduceMissingFile(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{filepath.Join(dir, "none"), dir} {
		got := run(t.Context(), "produce", "", "t", name)
		if got.code != exitItemFailed || !strings.Contains(got.err, name) || !strings.Contains(got.err, "nothing was sent") {
			t.Errorf("%+v", got)
		}
	}
}
