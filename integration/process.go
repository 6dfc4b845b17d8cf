package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// process is one program that runs in the background. Its methods may be called by any goroutine.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the program has ended and err is set
	err  error
}

// startProcess starts the program at path with its output going to out. One goroutine waits for its end.
func startProcess(path string, args []string, env []string, out *os.File) (*process, error) {
	cmd := exec.Command(path, args...)
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = childAttributes()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// ended reports whether the program has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal sends sig to the program alone.
func (p *process) signal(sig syscall.Signal) error {
	if p.ended() {
		return fmt.Errorf("pid %d has ended: %v", p.pid(), p.err)
	}
	return p.cmd.Process.Signal(sig)
}

// kill ends the program and everything it started, stopped or not, and waits for the end.
func (p *process) kill() {
	if !p.ended() {
		// The group is ours: childAttributes made it. It may end between the check and the signal, which is what we want.
		_ = syscall.Kill(-p.pid(), syscall.SIGKILL)
	}
	<-p.done
}

// wait returns the program's exit code once it has ended; a program that a signal ended has code 128 + signal, as in a shell.
func (p *process) wait(ctx context.Context) (int, error) {
	select {
	case <-p.done:
		return exitCode(p.err)
	case <-ctx.Done():
		return 0, fmt.Errorf("pid %d has not ended: %w", p.pid(), context.Cause(ctx))
	}
}

func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// tail is the last up to bytesMax bytes of a file, for messages.
func tail(path string, bytesMax int64) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > bytesMax {
		if _, err := f.Seek(-bytesMax, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, bytesMax))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// lockedBuffer collects output that one goroutine writes while another may read.
type lockedBuffer struct {
	mu  sync.Mutex
	buf []byte
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf = append(b.buf, p...)
	return len(p), nil
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.buf)
}
