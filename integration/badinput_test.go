package integration

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const badInputMax = 30 * time.Second

// What a user gets wrong at produce, consume and topic: the exit code and a message that names the fix, and nothing half-created.
func TestBadCommands(t *testing.T) {
	ctx := testContext(t)
	c := startCluster(t, ctx, 3)
	must(t, c.CreateTopic(ctx, "t", 1))
	produceAll(t, ctx, c, "t", []Record{{"k", "kept"}})
	unreadable := filepath.Join(t.TempDir(), "gone")
	dir := t.TempDir()

	for _, bad := range []struct {
		name, stdin, command string
		code                 int
		says                 []string
	}{
		{"produce to an unknown topic", "x\n", "produce nosuch", exitItemFailed, []string{`topic "nosuch" not found`, "broker topic create nosuch"}},
		{"consume an unknown topic", "", "consume nosuch -e", exitItemFailed, []string{`topic "nosuch" not found`, "broker topic create nosuch"}},
		{"describe an unknown topic", "", "broker topic describe nosuch", exitItemFailed, []string{`topic "nosuch" not found`}},
		{"unknown replica", "", "consume t -e --replica 9", exitItemFailed, []string{"9", "1, 2, 3"}},
		{"unknown partition", "", "consume t -e -p 7", exitItemFailed, []string{"partition 7"}},
		{"produce to an unknown partition", "x\n", "produce t -p 7", exitItemFailed, []string{"partition 7"}},
		{"bad flag", "", "produce t --nosuchflag", exitUsage, []string{"nosuchflag", "--help"}},
		{"bad command word", "", "broker nosuchword", exitUsage, []string{"nosuchword"}},
		{"bad compression", "x\n", "produce t -z rar", exitUsage, []string{"rar", "zstd"}},
		{"bad consistency", "", "consume t -e --consistency maybe", exitUsage, []string{"maybe", "linearizable"}},
		{"bad offset", "", "consume t -o middle", exitUsage, []string{"middle", "start"}},
		{"no topic", "", "consume", exitUsage, []string{"topic"}},
		{"unreadable file", "", "produce t " + unreadable, exitItemFailed, []string{unreadable}},
		{"a folder as file", "", "produce t " + dir, exitItemFailed, []string{dir}},
		{"too large", strings.Repeat("x", 3<<20) + "\n", "produce t", exitItemFailed, []string{"max.message.bytes", "broker topic alter t"}},
		{"topic there already", "", "broker topic create t", exitItemFailed, []string{`"t"`, "exists"}},
		{"bad topic name", "", "broker topic create ../../x", exitUsage, []string{"../../x"}},
		{"too many replicas", "", "broker topic create u --replication-factor 5", exitItemFailed, []string{"3"}},
		{"delete without --yes", "", "broker topic delete t", exitUsage, []string{"--yes"}},
	} {
		t.Run(bad.name, func(t *testing.T) {
			words := strings.Fields(bad.command)
			wantFailure(t, runWithin(t, badInputMax, c, bad.stdin, words[0], words[1:]...), bad.code, bad.says...)
		})
	}

	if got := consumeAll(t, ctx, c, "t", 1); len(got) != 1 || got[0].Value != "kept" {
		t.Errorf("topic t should hold the one record it had, it holds %+v", got)
	}
	list := run(t, ctx, c, "", "broker", "topic", "list").Stdout
	for _, name := range []string{"nosuch", "u", ".."} {
		for line := range strings.Lines(list) {
			if strings.HasPrefix(line, name) {
				t.Errorf("topic %s was created by a command that failed:\n%s", name, list)
			}
		}
	}
}

// produce --create makes the topic also when there is no record to send, and takes one that is there.
func TestCreateWithoutARecord(t *testing.T) {
	ctx := testContext(t)
	c := startCluster(t, ctx, 1)
	for range 2 {
		must(t, run(t, ctx, c, "", "produce", "empty", "--create").Err())
	}
	if got := run(t, ctx, c, "", "consume", "empty", "-e"); got.Err() != nil || got.Stdout != "" {
		t.Errorf("consume of a topic without a record: %v, %q", got.Err(), got.Stdout)
	}
}

// With no broker to talk to, a command says so, names the way to start one, and exits with 4 in time.
func TestNoBroker(t *testing.T) {
	bin := binaries(t)
	ports, err := FreePorts(1)
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, command := range []string{"broker cluster info", "consume t -e", "broker topic list"} {
		words := strings.Fields(command)
		r, err := bin.Run(ctx, ports[0], nil, words[0], words[1:]...)
		must(t, err)
		wantFailure(t, r, exitUnavailable, ports[0])
	}
}

// serveOnce runs `broker serve` for the given node until it gives up by itself; it must do so soon.
func serveOnce(t *testing.T, bin Binaries, args []string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), badInputMax, fmt.Errorf("it still ran after %v", badInputMax))
	defer cancel()
	r, err := bin.Run(ctx, "", nil, "broker", args...)
	if err != nil {
		t.Error(err)
	}
	return r
}

// replaceFlag is args with another value for one flag.
func replaceFlag(args []string, flag, value string) []string {
	args = append([]string(nil), args...)
	for i := range args {
		if args[i] == flag {
			args[i+1] = value
			return args
		}
	}
	return append(args, flag, value)
}

// What an operator gets wrong at `broker serve`: it ends by itself, names the fix, and leaves data directory and cluster as they were.
func TestBadServe(t *testing.T) {
	ctx := testContext(t)
	c := startCluster(t, ctx, 3)
	must(t, c.CreateTopic(ctx, "t", 1))
	sent := []Record{{"k", "one"}, {"k", "two"}}
	acks := produceAll(t, ctx, c, "t", sent)
	bin, args := binaries(t), c.Node(3).serveArgs()

	t.Run("locked data directory", func(t *testing.T) {
		ports, err := FreePorts(3)
		must(t, err)
		r := serveOnce(t, bin, replaceFlag(replaceFlag(replaceFlag(args, "--listen", ports[0]), "--peer-listen", ports[1]), "--http-listen", ports[2]))
		wantFailure(t, r, exitItemFailed, c.Node(3).DataDir, "in use")
	})
	must(t, c.Stop(ctx, c.Node(3)))
	for _, flag := range []string{"--listen", "--peer-listen", "--http-listen"} {
		t.Run("port in use "+flag, func(t *testing.T) {
			r := serveOnce(t, bin, replaceFlag(args, flag, c.Node(1).Client))
			wantFailure(t, r, exitItemFailed, c.Node(1).Client, "in use", flag)
		})
	}
	t.Run("wrong cluster id", func(t *testing.T) {
		wantFailure(t, serveOnce(t, bin, replaceFlag(args, "--cluster-id", "other")), exitItemFailed, "other", "integration")
	})
	t.Run("wrong node id", func(t *testing.T) {
		wantFailure(t, serveOnce(t, bin, replaceFlag(args, "--node-id", "1")), exitItemFailed, c.Node(3).DataDir)
	})
	t.Run("unknown config key", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "lograft.yaml")
		must(t, os.WriteFile(file, []byte("node-idd: 3\n"), 0o644))
		wantFailure(t, serveOnce(t, bin, append([]string{"serve", "--config", file}, args[1:]...)), exitUsage, file, "node-idd")
	})
	t.Run("unreadable config file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "gone.yaml")
		wantFailure(t, serveOnce(t, bin, append([]string{"serve", "--config", file}, args[1:]...)), exitUsage, file)
	})
	t.Run("bad flag", func(t *testing.T) {
		wantFailure(t, serveOnce(t, bin, append([]string{"serve", "--nosuchflag"}, args[1:]...)), exitUsage, "nosuchflag")
	})
	t.Run("not loopback", func(t *testing.T) {
		wantFailure(t, serveOnce(t, bin, replaceFlag(args, "--listen", "0.0.0.0:0")), exitUsage, "--insecure")
	})

	must(t, c.Start(c.Node(3)))
	waitReady(t, ctx, c)
	if err := CheckCopy(sent, acks, consumeAll(t, ctx, c, "t", 3)); err != nil {
		t.Errorf("replica 3 after all those mistakes: %v", err)
	}
}

// A data directory in memory is refused unless the operator says so, and nothing is left in it.
func TestDataDirectoryInMemory(t *testing.T) {
	bin := binaries(t)
	const memory = "/dev/shm"
	if !onTmpfs(memory) {
		t.Skipf("%s is not a tmpfs here", memory)
	}
	dir, err := os.MkdirTemp(memory, "lograft-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	c, err := New(Options{Bin: bin, Dir: t.TempDir(), Nodes: 1})
	must(t, err)
	wantFailure(t, serveOnce(t, bin, replaceFlag(c.Node(1).serveArgs(), "--data-dir", dir)), exitItemFailed, dir, "--allow-tmpfs")
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in the refused directory: %v %v", left, err)
	}
}

// Bytes go through as they are: CR, NUL, bytes that are not UTF-8, an empty line, and a line as long as allowed.
func TestOddInput(t *testing.T) {
	ctx := testContext(t)
	c := startCluster(t, ctx, 1)
	must(t, c.CreateTopic(ctx, "t", 1))
	input := []byte("cr\r\n\n\x00nul\xff\xfe\n" + strings.Repeat("long", 200_000) + "\n")
	run(t, ctx, c, string(input), "produce", "t")
	r := run(t, ctx, c, "", "consume", "t", "-e", "-f", `%v\n`)
	if !bytes.Equal([]byte(r.Stdout), input) {
		t.Errorf("%d bytes came back, %d were sent, or they differ", len(r.Stdout), len(input))
	}
}
