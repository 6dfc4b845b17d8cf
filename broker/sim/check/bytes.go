package check

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
)

// Files are a replica's files by name.
type Files map[string][]byte

// Identical is C7: the replicas of a group hold the same files with the same bytes. Where one begins later than another, because it
// was filled from a snapshot or has not trimmed yet, only files that all of them have are compared, and all of them end in the same.
func Identical(group string, replicas map[uint64]Files) error {
	nodes := slices.Sorted(maps.Keys(replicas))
	if len(nodes) < 2 {
		return nil
	}
	base := slices.Sorted(maps.Keys(replicas[nodes[0]]))
	for _, n := range nodes[1:] {
		names := slices.Sorted(maps.Keys(replicas[n]))
		if len(base) == 0 || len(names) == 0 || base[len(base)-1] != names[len(names)-1] {
			return fmt.Errorf("C7: group %s: node %d ends with %v, node %d with %v", group, nodes[0], last(base), n, last(names))
		}
		from := max(base[0], names[0])
		for _, name := range base {
			if name < from {
				continue
			}
			a, b := replicas[nodes[0]][name], replicas[n][name]
			if !slices.Contains(names, name) {
				return fmt.Errorf("C7: group %s: %s is on node %d and not on node %d: %v, %v", group, name, nodes[0], n, base, names)
			}
			if !bytes.Equal(a, b) {
				return fmt.Errorf("C7: group %s: %s differs between node %d (%d bytes) and node %d (%d bytes) from byte %d on", group, name, nodes[0], len(a), n, len(b), differ(a, b))
			}
		}
		for _, name := range names {
			if name >= from && !slices.Contains(base, name) {
				return fmt.Errorf("C7: group %s: %s is on node %d and not on node %d: %v, %v", group, name, n, nodes[0], names, base)
			}
		}
	}
	return nil
}

func last(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return names[len(names)-1]
}

func differ(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
