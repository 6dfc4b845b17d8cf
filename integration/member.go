package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// Member is a running `consume -g` whose lines are kept as they come.
type Member struct {
	cmd    *exec.Cmd
	stderr lockedBuffer
	ended  chan struct{}
	err    error

	mu    sync.Mutex
	lines []string
}

// StartMember starts `consume` in a group.
func (c *Cluster) StartMember(ctx context.Context, group, topic string, args ...string) (*Member, error) {
	m := &Member{cmd: c.command(ctx, "consume", append([]string{topic, "-g", group}, args...)...), ended: make(chan struct{})}
	m.cmd.Stderr = &m.stderr
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process
		defer close(m.ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			m.mu.Lock()
			m.lines = append(m.lines, lines.Text())
			m.mu.Unlock()
		}
		m.err = m.cmd.Wait()
	}()
	return m, nil
}

// Lines are those that came so far.
func (m *Member) Lines() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.lines...)
}

// Signal sends a signal to the process.
func (m *Member) Signal(sig syscall.Signal) error { return m.cmd.Process.Signal(sig) }

// Wait waits for the end and gives the exit code.
func (m *Member) Wait(ctx context.Context) (int, error) {
	select {
	case <-ctx.Done():
		return 0, fmt.Errorf("consume -g does not end: %w\n%s", context.Cause(ctx), m.stderr.String())
	case <-m.ended:
		return exitCode(m.err)
	}
}

// Stderr is what the process said to people.
func (m *Member) Stderr() string { return strings.TrimSpace(m.stderr.String()) }

// GroupDescription is what `broker group describe --format json` says.
type GroupDescription struct {
	State       string `json:"state"`
	Generation  int64  `json:"generation"`
	Members     int    `json:"members"`
	Coordinator int    `json:"coordinator"`
	TotalLag    *int64 `json:"total_lag"`
	MemberList  []struct {
		ID         string `json:"id"`
		ClientID   string `json:"client_id"`
		InstanceID string `json:"instance_id"`
		Generation int64  `json:"generation"`
		Partitions []struct {
			Topic     string `json:"topic"`
			Partition int    `json:"partition"`
		} `json:"partitions"`
	} `json:"member_list"`
	Partitions []struct {
		Topic      string   `json:"topic"`
		Partition  int      `json:"partition"`
		Committed  *int64   `json:"committed"`
		End        *int64   `json:"end"`
		Lag        *int64   `json:"lag"`
		LagSeconds *float64 `json:"lag_seconds"`
		Member     string   `json:"member"`
	} `json:"partitions"`
}

// DescribeGroup asks for a group.
func (c *Cluster) DescribeGroup(ctx context.Context, name string) (g GroupDescription, err error) {
	r, err := c.Run(ctx, nil, "broker", "group", "describe", name, "--format", "json")
	if err == nil {
		err = json.Unmarshal([]byte(r.Stdout), &g)
	}
	return g, err
}
