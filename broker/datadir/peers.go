package datadir

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Incarnation is one start of a broker on one data directory.
type Incarnation struct {
	DirID ID     `json:"dir_id"`
	Boot  uint64 `json:"boot"`
	Nonce uint64 `json:"nonce"` // drawn at each start: tells two copies with the same boot number apart
}

// peerMemory is the highest incarnation seen of each broker, on stable storage before anything of it is believed.
type peerMemory struct {
	stored copies
	seen   map[string]Incarnation // by node id
}

func (m *peerMemory) load() error {
	m.seen = map[string]Incarnation{}
	b, found, err := m.stored.load()
	if err != nil || !found {
		return err
	}
	return json.Unmarshal(b, &m.seen)
}

// CheckPeer decides whether a broker that says it is this incarnation of node may be listened to, and remembers it if it is newer
// than what was seen: a wiped directory or an old copy of one must not vote (architecture D11).
func (d *Dir) CheckPeer(node uint64, in Incarnation) error {
	key := strconv.FormatUint(node, 10)
	old, known := d.peers.seen[key]
	switch {
	case known && old.DirID != in.DirID:
		return fmt.Errorf("node %d was seen with data directory %x and comes with %x: its directory was wiped or exchanged; start it with the old one", node, old.DirID[:4], in.DirID[:4])
	case known && in.Boot < old.Boot:
		return fmt.Errorf("node %d was seen at boot %d and comes with boot %d: its data directory is an old copy; start it with the newest one", node, old.Boot, in.Boot)
	case known && in.Boot == old.Boot && in.Nonce != old.Nonce:
		return fmt.Errorf("two brokers say that they are node %d at boot %d: stop the copy", node, in.Boot)
	case known && old == in:
		return nil
	}
	next := make(map[string]Incarnation, len(d.peers.seen)+1)
	for k, v := range d.peers.seen {
		next[k] = v
	}
	next[key] = in
	b, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := d.peers.stored.save(b); err != nil {
		return fmt.Errorf("data directory %s: peers: %w", d.path, err)
	}
	d.peers.seen = next
	return nil
}
