package datadir

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// Incarnation is one start of a broker on one data directory.
type Incarnation struct {
	DirID ID     `json:"dir_id"`
	Boot  uint64 `json:"boot"`
	Nonce uint64 `json:"nonce"` // drawn at each start: tells two copies with the same boot number apart
}

// Seat is a broker's place in the cluster as of one metadata index.
type Seat struct {
	Node    uint64
	DirID   ID     // the only directory that may speak for the node; zero: none yet
	Since   uint64 // metadata index that gave the seat, registered the directory or removed the node; 0: the cluster's birth
	Replica uint64 // of its replica of the metadata group; 0: none
	Addr    string // of its peer port; "": not known
	Gone    bool   // the node was removed
}

// memory is what is remembered of a broker: its seat, and the highest incarnation seen on its directory.
type memory struct {
	Incarnation
	Since   uint64 `json:"since,omitempty"`
	Replica uint64 `json:"replica,omitempty"`
	Addr    string `json:"addr,omitempty"`
	Gone    bool   `json:"gone,omitempty"`
}

// NodesMax is how many nodes are remembered: twice what a cluster's metadata names, brokers and removed nodes. When there are more, the node
// that was removed the longest ago is forgotten; what only a peer tells of is not taken.
const NodesMax = 1024

// peerMemory is what is remembered of all brokers, on stable storage before anything of it is believed.
type peerMemory struct {
	stored copies
	seen   map[string]memory // by node id
}

func (m *peerMemory) load() error {
	m.seen = map[string]memory{}
	b, found, err := m.stored.load()
	if err != nil || !found {
		return err
	}
	return json.Unmarshal(b, &m.seen)
}

// put makes changes stable, then believes them.
func (m *peerMemory) put(changes map[string]memory) error {
	next := make(map[string]memory, len(m.seen)+len(changes))
	for k, v := range m.seen {
		next[k] = v
	}
	for k, v := range changes {
		next[k] = v
	}
	for len(next) > NodesMax && forgetRemoved(next) {
	}
	b, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := m.stored.save(b); err != nil {
		return err
	}
	m.seen = next
	return nil
}

// forgetRemoved forgets the node that was removed first: it stays refused, as one that nobody knows. It reports false if none was removed.
func forgetRemoved(nodes map[string]memory) bool {
	oldest, found := "", false
	for key, m := range nodes {
		if m.Gone && (!found || m.Since < nodes[oldest].Since || m.Since == nodes[oldest].Since && key < oldest) {
			oldest, found = key, true
		}
	}
	delete(nodes, oldest)
	return found
}

func nodeKey(node uint64) string { return strconv.FormatUint(node, 10) }

// Learn takes seats that were committed: of this broker's own metadata (own), or of a peer's. The newer one of a node counts; from its
// index on, another directory than the one that it names is refused. It reports whether anything is new.
func (d *Dir) Learn(seats []Seat, own bool) (bool, error) {
	changes := map[string]memory{}
	for _, s := range seats {
		key := nodeKey(s.Node)
		old, known := d.peers.seen[key]
		next := old
		switch {
		case !known && !own && len(d.peers.seen)+len(changes) >= NodesMax:
			continue
		case !known || s.Since > old.Since || s.Since == old.Since && old.DirID == (ID{}):
			next = memory{Incarnation: Incarnation{DirID: s.DirID}, Since: s.Since, Replica: s.Replica, Addr: s.Addr, Gone: s.Gone}
			if known && s.DirID == old.DirID {
				next.Incarnation = old.Incarnation
			}
		case s.Since < old.Since:
			continue
		default:
			if s.Addr != "" && (own || old.Addr == "") {
				next.Addr = s.Addr
			}
			next.Replica = max(old.Replica, s.Replica) // a memory of before seats has none
		}
		if next != old || !known {
			changes[key] = next
		}
	}
	if len(changes) == 0 {
		return false, nil
	}
	if err := d.peers.put(changes); err != nil {
		return false, fmt.Errorf("data directory %s: peers: %w", d.path, err)
	}
	return true, nil
}

// Seats are all that is known, by node id.
func (d *Dir) Seats() []Seat {
	var list []Seat
	for key, m := range d.peers.seen {
		node, err := strconv.ParseUint(key, 10, 64)
		if err == nil {
			list = append(list, Seat{Node: node, DirID: m.DirID, Since: m.Since, Replica: m.Replica, Addr: m.Addr, Gone: m.Gone})
		}
	}
	slices.SortFunc(list, func(a, b Seat) int {
		if a.Node < b.Node {
			return -1
		}
		return 1
	})
	return list
}

// Removed reports whether a node was removed from the cluster, as far as is known here.
func (d *Dir) Removed(node uint64) bool { return d.peers.seen[nodeKey(node)].Gone }

// Seated says whether a directory may speak for a node, as far as is known here.
func (d *Dir) Seated(node uint64, dir ID) error {
	old, known := d.peers.seen[nodeKey(node)]
	switch {
	case !known:
		return fmt.Errorf("node %d is no broker of this cluster as far as is known here: add it with broker cluster add %d=HOST:PORT", node, node)
	case old.Gone:
		return fmt.Errorf("node %d was removed from the cluster: stop it; to bring it back, add it with broker cluster add and start it with an empty data directory", node)
	case old.DirID == ID{}:
		return fmt.Errorf("no data directory is registered for node %d, and it comes with %x: if that one was given up (broker cluster recover), empty it and start it, so that it registers anew", node, dir[:4])
	case old.DirID != dir:
		return fmt.Errorf("node %d is registered with data directory %x and comes with %x: start it with the registered one, or empty its data directory and start it, so that it registers anew", node, old.DirID[:4], dir[:4])
	}
	return nil
}

// Seen is the newest start of a node that was listened to here, the zero one if none was.
func (d *Dir) Seen(node uint64) Incarnation { return d.peers.seen[nodeKey(node)].Incarnation }

// CheckPeer decides whether a broker that says it is this incarnation of node may be listened to, and remembers it if it is newer
// than what was seen: a wiped directory or an old copy of one must not vote (architecture D11). starts are the last of its directory: a
// copy that was started so often, or ran for so long, that its boot number is the higher one lacks the start that was seen.
func (d *Dir) CheckPeer(node uint64, in Incarnation, starts []Start) error {
	if err := d.Seated(node, in.DirID); err != nil {
		return err
	}
	old := d.peers.seen[nodeKey(node)]
	switch {
	case in.Boot < old.Boot:
		return fmt.Errorf("node %d was seen at boot %d and comes with boot %d: its data directory is an old copy; start it with the newest one, or empty it and start it, so that it registers anew", node, old.Boot, in.Boot)
	case in.Boot == old.Boot && in.Nonce != old.Nonce:
		return fmt.Errorf("two brokers say that they are node %d at boot %d: stop the copy", node, in.Boot)
	case old.Incarnation == in:
		return nil
	case !follows(old.Incarnation, starts):
		return fmt.Errorf("node %d was seen at boot %d, in a start that the data directory it comes with (boot %d) knows nothing of: it is an old copy that was started on its own; start node %d with the newest one, or empty it and start it, so that it registers anew", node, old.Boot, in.Boot, node)
	}
	next := old
	next.Incarnation = in
	if err := d.peers.put(map[string]memory{nodeKey(node): next}); err != nil {
		return fmt.Errorf("data directory %s: peers: %w", d.path, err)
	}
	return nil
}

// follows reports whether a directory with these starts went through one that was seen. What was before the first of them can't be told,
// and is believed.
func follows(seen Incarnation, starts []Start) bool {
	for _, s := range slices.Backward(starts) {
		if s.Boot <= seen.Boot {
			return s.Nonce == seen.Nonce
		}
	}
	return true
}
