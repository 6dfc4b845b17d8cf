package vfs

import "math/rand/v2"

// Crash is a power cut: it returns a new file system with what was synced and a random part of the rest, file contents by 4 KiB block
// and sector, sizes between the synced and the last one, names by single change. Handles of m, and m itself, answer ErrCrashed from
// then on. rng alone decides, so a seed replays.
func (m *Mem) Crash(rng *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crashed = true
	after := &Mem{limit: m.limit}
	seen := map[*inode]*inode{}
	after.root = survive(m.root, rng, seen)
	after.used = treeBytes(after.root)
	return after
}

// Synced is the crash that keeps nothing but what was synced; m goes on.
func (m *Mem) Synced() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := &Mem{limit: m.limit}
	after.root = survive(m.root, nil, map[*inode]*inode{})
	after.used = treeBytes(after.root)
	return after
}

// Clone copies everything as a reader sees it now, all of it synced; m goes on.
func (m *Mem) Clone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := &Mem{limit: m.limit, used: m.used}
	after.root = cloneNode(m.root)
	return after
}

func cloneNode(n *inode) *inode {
	if !n.isDir() {
		data := append([]byte(nil), n.data...)
		return &inode{data: data, synced: append([]byte(nil), data...)}
	}
	out := newDir()
	for _, name := range sortedNames(n.entries) {
		c := cloneNode(n.entries[name])
		out.entries[name], out.durable[name] = c, c
	}
	return out
}

func treeBytes(n *inode) int64 {
	size := int64(len(n.data))
	for _, c := range n.entries {
		size += treeBytes(c)
	}
	return size
}

// survive is what is left of n. A nil rng keeps the synced state only.
func survive(n *inode, rng *rand.Rand, seen map[*inode]*inode) *inode {
	if out, ok := seen[n]; ok {
		return out
	}
	if !n.isDir() {
		data := surviveBytes(n, rng)
		out := &inode{data: data, synced: append([]byte(nil), data...)}
		seen[n] = out
		return out
	}
	names := make(map[string]*inode, len(n.durable))
	for name, c := range n.durable {
		names[name] = c
	}
	if rng != nil {
		for _, c := range n.unsynced {
			c.replay(names, rng)
		}
	}
	out := newDir()
	seen[n] = out
	for _, name := range sortedNames(names) {
		c := survive(names[name], rng, seen)
		out.entries[name], out.durable[name] = c, c
	}
	return out
}

// replay keeps a change of a directory, part of it, or nothing. A rename may leave both names but never neither.
func (c *entryChange) replay(names map[string]*inode, rng *rand.Rand) {
	keep := rng.IntN(3)
	if keep == 0 {
		return
	}
	if c.node == nil {
		delete(names, c.name)
		return
	}
	names[c.name] = c.node
	if c.removed != "" && keep == 1 {
		delete(names, c.removed)
	}
}

func surviveBytes(n *inode, rng *rand.Rand) []byte {
	if rng == nil {
		return append([]byte(nil), n.synced...)
	}
	size := len(n.synced)
	if len(n.data) != size {
		lo, hi := min(size, len(n.data)), max(size, len(n.data))
		switch rng.IntN(4) {
		case 0:
			size = len(n.data)
		case 1:
			size = lo + rng.IntN(hi-lo+1)
		case 2:
			size = min(hi, (lo+rng.IntN(hi-lo+1)+blockBytes-1)/blockBytes*blockBytes)
		}
	}
	out := make([]byte, size)
	copy(out, n.synced)
	style := rng.IntN(3) // 0: loses all, 1: keeps all, 2: block by block
	for at := 0; at < size && style > 0; at += blockBytes {
		end := min(at+blockBytes, size, len(n.data))
		if end <= at {
			break
		}
		if style == 1 || rng.IntN(2) == 0 {
			copy(out[at:end], n.data[at:end])
			continue
		}
		if rng.IntN(8) == 0 { // torn within the block
			cut := at + (1+rng.IntN(7))*blockBytes/8
			copy(out[at:min(cut, end)], n.data[at:end])
		}
	}
	return out
}
