package integration

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What a newcomer types second: `broker --dev --nodes 3` in one shell; produce --create, then consume from another replica into cmp,
// with no addresses given. Ctrl-C ends the brokers and leaves no files.
func TestDevThreeNodes(t *testing.T) {
	ctx := testContext(t)
	bin := binaries(t)
	for node := range 3 {
		for port := range 3 {
			addr := fmt.Sprintf("127.0.0.1:%d", 7400+10*node+port)
			l, err := net.Listen("tcp", addr)
			if err != nil {
				t.Skipf("%s is in use: --dev has fixed ports, and something on this machine has one of them", addr)
			}
			l.Close()
		}
	}
	dir, tmp := t.TempDir(), t.TempDir()
	log, err := os.Create(filepath.Join(dir, "dev.log"))
	must(t, err)
	defer log.Close()
	env := append(cleanEnv(), "TMPDIR="+tmp)
	if onTmpfs(tmp) {
		env = append(env, "LOGRAFT_ALLOW_TMPFS=true")
	}
	dev, err := startProcess(bin.Path("broker"), []string{"--dev", "--nodes", "3"}, env, log)
	must(t, err)
	t.Cleanup(func() {
		dev.kill()
		if t.Failed() {
			t.Logf("broker --dev said:\n%s", tail(log.Name(), 4096))
		}
	})
	must(t, Until(ctx, func() (bool, error) {
		if dev.ended() {
			return false, fmt.Errorf("broker --dev ended: %v", dev.err)
		}
		for node := range 3 {
			n := Node{HTTP: fmt.Sprintf("127.0.0.1:%d", 7402+10*node)}
			if n.Ready(ctx) != nil {
				return false, nil
			}
		}
		return true, nil
	}))

	input := generatedLogs()["mixed"]
	r, err := bin.Run(ctx, "", strings.NewReader(input), "produce", "t", "--create", "--acks-json")
	must(t, err)
	must(t, r.Err())
	if acks, err := ParseAcks(r.Stdout); err != nil || len(acks) != strings.Count(input, "\n") {
		t.Errorf("%d acknowledgements, %v", len(acks), err)
	}
	r, err = bin.Run(ctx, "", nil, "consume", "t", "-e", "--replica", "2", "-f", `%v\n`)
	must(t, err)
	must(t, r.Err())
	if r.Stdout != input {
		t.Errorf("replica 2 returned %d bytes that are not the %d bytes sent", len(r.Stdout), len(input))
	}

	must(t, dev.signal(syscall.SIGINT))
	code, err := dev.wait(ctx)
	if err != nil || code != 0 && code != 130 {
		t.Errorf("after Ctrl-C: exit code %d, %v", code, err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
