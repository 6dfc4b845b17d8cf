package cli

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lograft/config"
)

// doctorSays runs doctor and gives what it found, by check.
func doctorSays(t *testing.T, args ...string) (code int, found map[string]finding) {
	t.Helper()
	t.Setenv("LOGRAFT_BROKERS", "")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	got := run(t.Context(), "broker", "", append([]string{"doctor", "--format", "json"}, args...)...)
	var out struct {
		OK       bool      `json:"ok"`
		Findings []finding `json:"findings"`
	}
	if err := json.Unmarshal([]byte(got.out), &out); err != nil {
		t.Fatalf("%v in %+v", err, got)
	}
	if out.OK != (got.code == exitOK) {
		t.Errorf("exit %d with ok %t", got.code, out.OK)
	}
	found = map[string]finding{}
	for _, f := range out.Findings {
		found[f.Check] = f
	}
	return got.code, found
}

// Doctor names what will go wrong before a broker starts: each fault with its fix, failures with exit code 3.
func TestDoctor(t *testing.T) {
	free := []string{"--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"}
	code, found := doctorSays(t, append(free, "--data-dir", filepath.Join(t.TempDir(), "not", "yet", "there"))...)
	if code != exitOK || found["data directory"].Status != statusOK || !strings.Contains(found["sync"].Detail, "median") || found["peers"].Status != statusWarn {
		t.Errorf("a new broker: exit %d, %v", code, found)
	}

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, found := doctorSays(t, append(free, "--data-dir", file)...); code != exitUnhealthy || !strings.Contains(found["data directory"].Detail, "no directory") {
		t.Errorf("a file as directory: exit %d, %v", code, found)
	}
	if code, found := doctorSays(t, append(free, "--node-id", "0")...); code != exitUnhealthy || found["configuration"].Status != statusFail {
		t.Errorf("a bad configuration: exit %d, %v", code, found)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dead := deadAddress(t)
	_, found = doctorSays(t, "--data-dir", t.TempDir(), "--listen", l.Addr().String(), "--peer-listen", "127.0.0.1:0", "--http-listen", "",
		"--initial-cluster", "1=127.0.0.1:1,2="+l.Addr().String()+",3="+dead+",4="+dead)
	if f := found["listen"]; f.Status != statusWarn || !strings.Contains(f.Detail, "in use") {
		t.Errorf("a port in use: %v", f)
	}
	if f := found["peer 2"]; f.Status != statusOK || found["peer 3"].Status != statusWarn || !strings.Contains(found["peers"].Detail, "odd number") {
		t.Errorf("peers: %v", found)
	}
	if code, found := doctorSays(t, append(free, "--data-dir", t.TempDir(), "-b", dead)...); code != exitUnhealthy || found["cluster"].Status != statusFail {
		t.Errorf("a cluster that does not answer: exit %d, %v", code, found)
	}
}

// A cluster of one and a disk that is fine are told without a configuration file.
func TestDoctorDisk(t *testing.T) {
	took, err := syncTimes(t.TempDir())
	if err != nil || len(took) != doctorSyncs || took[0] > took[len(took)-1] {
		t.Fatalf("%v %v", took, err)
	}
	if _, err := syncTimes(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a directory that does not exist takes files")
	}
	if found := checkDisk(config.Config{DataDir: t.TempDir()}); found[0].Status != statusOK {
		t.Errorf("%v", found)
	}
}
