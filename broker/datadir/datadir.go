// Package datadir is a broker's data directory as a whole: its lock, its identity, and what it remembers of its peers
// (architecture D11). The journal and the groups' logs below it belong to segment.
//
//	LOCK          held while a broker uses the directory
//	identity.a,b  cluster, node id, directory uuid, boot number, last starts (two copies, copies.go)
//	peers.a,b     the highest incarnation seen of every other broker
//	journal/ groups/
//
// Limitations: a copy of the directory that is younger than one renewal of the boot number can't be told from the original.
package datadir

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/gofrs/flock"

	"lograft/segment/vfs"
)

// ID is a uuid.
type ID = [16]byte

// Identity says whose directory this is. It is synced before anything else of a start.
type Identity struct {
	ClusterName string `json:"cluster_name"`
	ClusterID   ID     `json:"cluster_id"` // zero until the cluster is born
	NodeID      uint64 `json:"node_id"`
	DirID       ID     `json:"dir_id"`
	Boot        uint64 `json:"boot"` // raised at every start and every RaiseBoot
	// Starts are the last startsMax starts, the newest last: what tells a directory from a copy of it that went on by itself.
	Starts []Start `json:"starts,omitempty"`
}

// Start is one start on a directory: it has the boot numbers from Boot on, up to that of the next start.
type Start struct {
	Boot  uint64 `json:"boot"`
	Nonce uint64 `json:"nonce"`
}

// startsMax bounds what a directory remembers of its starts, and a greeting says.
const startsMax = 256

// Options of Open.
type Options struct {
	Dir         string // made if it is missing
	ClusterName string
	NodeID      uint64
	AllowTmpfs  bool
	Random      func([]byte) // chance for the directory's uuid and the start's nonce
}

// Dir is an open, locked data directory. One goroutine owns it.
type Dir struct {
	path     string
	fs       vfs.FS
	lock     *flock.Flock
	identity Identity
	stored   copies
	peers    peerMemory
}

// Open locks the directory, checks that it belongs to this node and cluster, and raises its boot number on stable storage. Errors
// name the fix and leave the directory as it was.
func Open(o Options) (*Dir, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := checkMedium(dir, o.AllowTmpfs); err != nil {
		return nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: dir, fs: vfs.OS(), lock: lock}
	if err := d.open(o); err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return d, nil
}

// OpenOn is Open on another file system than the machine's, without its lock and without a look at its medium. The directory and the one
// that it is in must be there.
func OpenOn(fs vfs.FS, o Options) (*Dir, error) {
	d := &Dir{path: o.Dir, fs: fs}
	return d, d.open(o)
}

// Lock keeps brokers away from a data directory until unlock is called. Errors name the fix.
func Lock(dir string) (unlock func() error, err error) {
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	return lock.Unlock, nil
}

func lockDir(dir string) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("data directory %s can't be made: %w", dir, err)
	}
	name := filepath.Join(dir, "LOCK")
	lock := flock.New(name)
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("data directory %s can't be locked: %w", dir, err)
	}
	if !ok {
		return nil, fmt.Errorf("data directory %s is in use by another broker: stop that one, or give this one its own --data-dir (find it with: fuser %s)", dir, name)
	}
	return lock, nil
}

func (d *Dir) open(o Options) error {
	d.stored = copies{fs: d.fs, dir: d.path, name: "identity"}
	b, found, err := d.stored.load()
	if err != nil {
		return fmt.Errorf("data directory %s: identity: %w: restore the file from a backup; never start with an empty directory in its place", d.path, err)
	}
	if !found {
		if err := d.create(o); err != nil {
			return err
		}
	} else if err := json.Unmarshal(b, &d.identity); err != nil {
		return fmt.Errorf("data directory %s: identity: %w", d.path, err)
	}
	if err := d.check(o); err != nil {
		return err
	}
	d.peers = peerMemory{stored: copies{fs: d.fs, dir: d.path, name: "peers"}}
	if err := d.peers.load(); err != nil {
		return fmt.Errorf("data directory %s: peers: %w", d.path, err)
	}
	return d.start(o)
}

// start raises the boot number and notes the start that it is of.
func (d *Dir) start(o Options) error {
	next := d.identity
	next.Boot++
	var nonce [8]byte
	o.Random(nonce[:])
	next.Starts = append(slices.Clone(next.Starts), Start{Boot: next.Boot, Nonce: binary.LittleEndian.Uint64(nonce[:])})
	next.Starts = next.Starts[max(0, len(next.Starts)-startsMax):]
	return d.save(next)
}

func (d *Dir) create(o Options) error {
	for _, name := range []string{"journal", "groups"} {
		if _, _, err := d.fs.Stat(path.Join(d.path, name)); err == nil {
			return fmt.Errorf("data directory %s holds %s but no identity: it is damaged; restore identity.a or identity.b from a backup, or move the directory away", d.path, name)
		}
	}
	if err := d.fs.SyncDir(filepath.Dir(d.path)); err != nil {
		return err
	}
	d.identity = Identity{ClusterName: o.ClusterName, NodeID: o.NodeID}
	o.Random(d.identity.DirID[:])
	return nil
}

func (d *Dir) check(o Options) error {
	id := &d.identity
	if id.NodeID != o.NodeID {
		return fmt.Errorf("data directory %s belongs to node %d, this is node %d: give each node its own --data-dir", d.path, id.NodeID, o.NodeID)
	}
	if id.ClusterName != o.ClusterName {
		return fmt.Errorf("data directory %s belongs to cluster %q, --cluster-id says %q: use the right directory or the right --cluster-id", d.path, id.ClusterName, o.ClusterName)
	}
	return nil
}

// Identity is who this directory is.
func (d *Dir) Identity() Identity { return d.identity }

// Incarnation is this start on the directory.
func (d *Dir) Incarnation() Incarnation {
	id := &d.identity
	return Incarnation{DirID: id.DirID, Boot: id.Boot, Nonce: id.Starts[len(id.Starts)-1].Nonce}
}

// Path is the directory's absolute path.
func (d *Dir) Path() string { return d.path }

// Born notes the cluster's uuid. The journal must durably know the cluster's birth before: identity without journal means wiped.
func (d *Dir) Born(cluster ID) error {
	if d.identity.ClusterID == cluster {
		return nil
	}
	if d.identity.ClusterID != (ID{}) {
		return fmt.Errorf("data directory %s belongs to cluster %x, not %x", d.path, d.identity.ClusterID, cluster)
	}
	next := d.identity
	next.ClusterID = cluster
	return d.save(next)
}

// RaiseBoot makes this incarnation newer than every copy of the directory made before.
func (d *Dir) RaiseBoot() error {
	next := d.identity
	next.Boot++
	return d.save(next)
}

// save puts the identity into both copies: one that rots leaves the same, not what was before, which others take for an old copy.
func (d *Dir) save(next Identity) error {
	b, err := json.Marshal(next)
	if err != nil {
		return err
	}
	for range 2 {
		if err := d.stored.save(b); err != nil {
			return fmt.Errorf("data directory %s: identity: %w", d.path, err)
		}
	}
	d.identity = next
	return nil
}

// Close unlocks the directory.
func (d *Dir) Close() error {
	if d.lock == nil {
		return nil
	}
	return d.lock.Unlock()
}
