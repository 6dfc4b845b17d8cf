package core

// murmur2 is Kafka's hash of keys: 32-bit MurmurHash2 with seed 0x9747b28c (public domain algorithm by A. Appleby), so that a key
// goes to the same partition as with Kafka's own clients.
func murmur2(b []byte) uint32 {
	const m, r = 0x5bd1e995, 24
	h := 0x9747b28c ^ uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		k := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
		k *= m
		k ^= k >> r
		k *= m
		h *= m
		h ^= k
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(b[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h
}

// PartitionOf is the partition of a key among n.
func PartitionOf(key []byte, n int) int32 { return int32(murmur2(key)&0x7fffffff) % int32(n) }
