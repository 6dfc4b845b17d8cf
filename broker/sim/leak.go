package sim

import (
	"fmt"

	"lograft/broker/engine"
)

// quitter is a load whose clients hold streams.
type quitter interface{ Quit() }

// partTime is how long after the last client has gone a broker may still hold something of it: longer than any call's timeout.
const partTime = int64(20e9)

// farewell lets every client go. Then no broker may hold a session, a request that waits, or bytes of its budgets; and a broker that stops
// in order closes every file.
func (r *Run) farewell() error {
	for _, l := range r.loads {
		if q, ok := l.(quitter); ok {
			q.Quit()
		}
	}
	r.quit = true
	r.RunFor(partTime)
	for _, n := range r.nodes {
		if len(n.replies) > 0 {
			return fmt.Errorf("leak: node %d still waits for %d sessions or requests, the first is %d", n.id, len(n.replies), sortedKeys(n.replies)[0])
		}
		if env := n.rpc; env != nil && (env.Appends.Used() != 0 || env.Answers.Used() != 0) {
			return fmt.Errorf("leak: node %d counts %d bytes of appends and %d of answers, and has no client", n.id, env.Appends.Used(), env.Answers.Used())
		}
	}
	for _, n := range r.nodes {
		if !r.RunUntil(partTime, func() bool { return n.reading == 0 }) { // a broker that stops in order lets them end
			return fmt.Errorf("leak: node %d never is without a read under way", n.id)
		}
		var eff engine.Effects
		for _, l := range n.workers {
			l.Close(&eff)
			for _, err := range eff.Halted {
				return fmt.Errorf("leak: node %d: close: %w", n.id, err)
			}
		}
		if err := n.journal.Close(); err != nil {
			return fmt.Errorf("leak: node %d: close: %w", n.id, err)
		}
		if len(n.handles) > 0 {
			return fmt.Errorf("leak: node %d has closed everything and holds %v", n.id, n.handles.names())
		}
		n.stop()
	}
	return nil
}
