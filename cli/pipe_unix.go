//go:build unix

package cli

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// pipeInterval is how often a pipe that nothing is written to is looked at.
const pipeInterval = 200 * time.Millisecond

// readerGone waits until the reader of the pipe out has gone (true) or ctx is done (false). It lets `consume t | head -1` end on a topic
// that gets no more records, where no write would ever fail. It says false at once if out is no pipe.
func readerGone(ctx context.Context, out any) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	if st, err := f.Stat(); err != nil || st.Mode()&os.ModeNamedPipe == 0 {
		return false
	}
	tick := time.NewTicker(pipeInterval)
	defer tick.Stop()
	for {
		poll := []unix.PollFd{{Fd: int32(f.Fd())}}
		if n, err := unix.Poll(poll, 0); err == nil && n > 0 && poll[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0 {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}
