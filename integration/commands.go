package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Result is what one command left behind.
type Result struct {
	Command        string
	Stdout, Stderr string
	Code           int // 128 + signal if a signal ended it
}

// Err is nil if the command exited with 0, else an error with everything it said.
func (r Result) Err() error {
	if r.Code == 0 {
		return nil
	}
	return fmt.Errorf("%s: exit code %d\n%s", r.Command, r.Code, strings.TrimSpace(r.Stderr))
}

// Run runs one program of bin to its end, talking to brokers (a list of addresses; "" leaves the program's default).
// An error means that it could not be run or that ctx ended first; a failing exit code is in the Result.
func (b Binaries) Run(ctx context.Context, brokers string, stdin io.Reader, program string, args ...string) (Result, error) {
	return runCommand(ctx, b.command(ctx, brokers, program, args...), stdin, program, args)
}

func runCommand(ctx context.Context, cmd *exec.Cmd, stdin io.Reader, program string, args []string) (Result, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	err := cmd.Run()
	r := Result{Command: program + " " + strings.Join(args, " "), Stdout: stdout.String(), Stderr: stderr.String()}
	if ctx.Err() != nil {
		return r, fmt.Errorf("%s: %w\n%s", r.Command, context.Cause(ctx), r.Stderr)
	}
	r.Code, err = exitCode(err)
	return r, err
}

func (b Binaries) command(ctx context.Context, brokers, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.Path(program), args...)
	cmd.Env = cleanEnv()
	if brokers != "" {
		cmd.Env = append(cmd.Env, "LOGRAFT_BROKERS="+brokers)
	}
	cmd.SysProcAttr = childAttributes()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// Run runs one program against all brokers of the cluster; it fails unless the program exits with 0.
func (c *Cluster) Run(ctx context.Context, stdin io.Reader, program string, args ...string) (Result, error) {
	r, err := c.RunAs(ctx, SuperUser, stdin, program, args...)
	return r, errors.Join(err, r.Err())
}

// RunAs runs one program against all brokers as a user of a secure cluster, "" for nobody; a failing exit code is in the Result.
func (c *Cluster) RunAs(ctx context.Context, user string, stdin io.Reader, program string, args ...string) (Result, error) {
	cmd := c.opts.Bin.command(ctx, c.Brokers(), program, args...)
	cmd.Env = append(cmd.Env, c.secureEnv(user)...)
	return runCommand(ctx, cmd, stdin, program, args)
}

// command is a program that talks to all brokers, as the super user of a secure cluster.
func (c *Cluster) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := c.opts.Bin.command(ctx, c.Brokers(), program, args...)
	cmd.Env = append(cmd.Env, c.secureEnv(SuperUser)...)
	return cmd
}

// CreateTopic makes a topic whose partitions have a replica on every broker, at most 5.
func (c *Cluster) CreateTopic(ctx context.Context, name string, partitions int) error {
	_, err := c.Run(ctx, nil, "broker", "topic", "create", name,
		"--partitions", fmt.Sprint(partitions), "--replication-factor", fmt.Sprint(min(len(c.nodes), 5)))
	return err
}

// topicDescription is the part of `broker topic describe --format json` that this package reads.
type topicDescription struct {
	Partitions []struct {
		Partition int `json:"partition"`
		Leader    int `json:"leader"`
	} `json:"partitions"`
}

// Leader asks for the node that leads a partition; 0 when there is none at the moment.
func (c *Cluster) Leader(ctx context.Context, topic string, partition int) (int, error) {
	r, err := c.Run(ctx, nil, "broker", "topic", "describe", topic, "--format", "json")
	if err != nil {
		return 0, err
	}
	var d topicDescription
	if err := json.Unmarshal([]byte(r.Stdout), &d); err != nil {
		return 0, fmt.Errorf("%s: %w in:\n%s", r.Command, err, r.Stdout)
	}
	for _, p := range d.Partitions {
		if p.Partition == partition {
			return p.Leader, nil
		}
	}
	return 0, fmt.Errorf("%s: no partition %d in:\n%s", r.Command, partition, r.Stdout)
}

// WaitLeader returns the partition's leader as soon as there is one outside the given nodes.
func (c *Cluster) WaitLeader(ctx context.Context, topic string, partition int, not ...int) (int, error) {
	leader := 0
	last := errors.New("no leader")
	err := Until(ctx, func() (bool, error) {
		leader, last = c.Leader(ctx, topic, partition)
		if last != nil || leader == 0 {
			return false, nil
		}
		for _, id := range not {
			if leader == id {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return 0, fmt.Errorf("leader of %s/%d: %w (last answer: node %d, %v)", topic, partition, err, leader, last)
	}
	return leader, nil
}

// Ack is one line of `produce --acks-json`: the fate of one input record.
type Ack struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	Offset    int64  `json:"offset"`
	Timestamp int64  `json:"timestamp"`
	Session   string `json:"session"`

	Error   string `json:"error"`
	Reason  string `json:"reason"`
	Outcome string `json:"outcome"`
}

// Failed reports whether the record was not acknowledged.
func (a Ack) Failed() bool { return a.Error != "" || a.Reason != "" || a.Outcome != "" }

// ParseAcks reads the whole output of `produce --acks-json`.
func ParseAcks(text string) ([]Ack, error) {
	var acks []Ack
	for line := range strings.Lines(text) {
		var a Ack
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			return nil, fmt.Errorf("acknowledgement %d: %w in %q", len(acks)+1, err, line)
		}
		acks = append(acks, a)
	}
	return acks, nil
}

// Producer is a `produce --acks-json` process that is fed while it runs. One goroutine writes, another may read acknowledgements.
type Producer struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.Reader
	stderr *lockedBuffer
}

// StartProducer starts `produce TOPIC --acks-json` with further arguments. Wait must be called once.
func (c *Cluster) StartProducer(ctx context.Context, topic string, args ...string) (*Producer, error) {
	cmd := c.command(ctx, "produce", append([]string{topic, "--acks-json"}, args...)...)
	p := &Producer{cmd: cmd, stderr: new(lockedBuffer)}
	cmd.Stderr = p.stderr
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if p.stdout, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return p, cmd.Start()
}

// Write feeds input records.
func (p *Producer) Write(b []byte) (int, error) { return p.stdin.Write(b) }

// CloseInput says that no more records come.
func (p *Producer) CloseInput() error { return p.stdin.Close() }

// Acks calls each for every acknowledgement, in input order, until the program closes its output or each returns an error.
func (p *Producer) Acks(each func(Ack) error) error {
	d := json.NewDecoder(p.stdout)
	for n := 1; ; n++ {
		var a Ack
		err := d.Decode(&a)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("acknowledgement %d: %w", n, err)
		}
		if err := each(a); err != nil {
			return err
		}
	}
}

// Stderr is what the program has said so far.
func (p *Producer) Stderr() string { return strings.TrimSpace(p.stderr.String()) }

// Wait returns when the program has ended; call it after Acks has returned.
func (p *Producer) Wait() error {
	code, err := exitCode(p.cmd.Wait())
	if err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	return Result{Command: "produce", Stderr: p.stderr.String(), Code: code}.Err()
}

// ConsumeHash is the SHA-256, in hex, of everything one replica returns for a topic: every value followed by a newline.
func (c *Cluster) ConsumeHash(ctx context.Context, topic string, replica int, args ...string) (string, error) {
	var stderr bytes.Buffer
	hash := sha256.New()
	args = append([]string{topic, "-e", "--replica", fmt.Sprint(replica), "-f", `%v\n`}, args...)
	cmd := c.command(ctx, "consume", args...)
	cmd.Stdout, cmd.Stderr = hash, &stderr
	code, err := exitCode(cmd.Run())
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	r := Result{Command: "consume " + strings.Join(args, " "), Stderr: stderr.String(), Code: code}
	if err := errors.Join(err, r.Err()); err != nil {
		return "", fmt.Errorf("read replica %d: %w", replica, err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
