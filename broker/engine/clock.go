package engine

import "slices"

// clockFreshNs is how old a peer's last word about its clock may be for its clock to count.
const clockFreshNs = int64(5e9)

func (w *Worker) setClock(c PeerClock) {
	at, ok := slices.BinarySearchFunc(w.clocks, c.Node, func(p PeerClock, node uint64) int {
		switch {
		case p.Node < node:
			return -1
		case p.Node > node:
			return 1
		}
		return 0
	})
	if ok {
		w.clocks[at] = c
		return
	}
	w.clocks = slices.Insert(w.clocks, at, c)
}

// peerFull is partition.Env.Full.
func (w *Worker) peerFull(node uint64) bool {
	for i := range w.clocks {
		if c := &w.clocks[i]; c.Node == node {
			return c.Full && w.env.Now-c.At <= clockFreshNs
		}
	}
	return false
}

// clockMedian is partition.Env.Clocks: of these nodes' clocks those heard within clockFreshNs, run on by our monotonic clock.
func (w *Worker) clockMedian(nodes []uint64) (lower, upper int64, heard int) {
	var buf [8]int64
	walls := buf[:0]
	for _, node := range nodes {
		if node == w.node {
			walls = append(walls, w.env.Wall)
			continue
		}
		for i := range w.clocks {
			if c := &w.clocks[i]; c.Node == node && w.env.Now-c.At <= clockFreshNs {
				walls = append(walls, c.Wall+(w.env.Now-c.At)/1e6)
			}
		}
	}
	if len(walls) == 0 {
		return w.env.Wall, w.env.Wall, 0
	}
	slices.Sort(walls)
	return walls[(len(walls)-1)/2], walls[len(walls)/2], len(walls)
}
