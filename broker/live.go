package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"lograft/broker/engine"
)

// Bounds after which a broker counts as stuck. A restart is no cure for a slow disk, so they are far above any sync of a working one.
const (
	loopStillMax  = 15 * time.Second // a worker began no step for so long; ticks reach each every heartbeat
	roundMax      = time.Minute      // of one sync round
	probeWait     = 5 * time.Second  // for the disk to take a small file
	livenessProbe = ".livez"
)

// liveness looks whether the broker still does anything at all (interface.md §5): it never judges data.
type liveness struct {
	probing atomic.Bool // a probe of the disk is under way
}

// stuck says why the process should be restarted, "" if there is no reason. A broker that waits for others to join is alive.
func (l *liveness) stuck(n *node) string {
	if n == nil {
		return ""
	}
	now, _ := n.now()
	if why := loopsStuck(now, n.engine.Stats()); why != "" {
		return why
	}
	return l.probe(n.data.Path())
}

// loopsStuck says which loop stands still at monotonic time now, "" if none does.
func loopsStuck(now int64, s engine.Stats) string {
	if still := time.Duration(now - s.AtNs); s.AtNs != 0 && still > loopStillMax {
		return fmt.Sprintf("a worker has not stepped for %v", still.Round(time.Second))
	}
	if age := time.Duration(now - s.RoundBeganNs); s.RoundBeganNs != 0 && age > roundMax {
		return fmt.Sprintf("a sync round has been under way for %v: the disk does not answer", age.Round(time.Second))
	}
	return ""
}

// probe writes a small file. A full disk takes no more data, but a restart would not make room: it counts as alive.
func (l *liveness) probe(dir string) string {
	if !l.probing.CompareAndSwap(false, true) {
		return "" // another question waits for the same answer
	}
	done := make(chan error, 1)
	go func() { // ends when the disk answers
		defer l.probing.Store(false)
		name := filepath.Join(dir, livenessProbe)
		err := os.WriteFile(name, []byte("x"), 0o600)
		done <- errors.Join(err, os.Remove(name))
	}()
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
			return fmt.Sprintf("the data directory takes no writes: %v", err)
		}
		return ""
	case <-time.After(probeWait):
		return fmt.Sprintf("the data directory took no write within %v", probeWait)
	}
}
