//go:build !poison

package buffers

// Poisoned says that given back memory is overwritten (-tags poison).
const Poisoned = false

func spoil([]byte) {}

func unspoiled([]byte) {}

type rest struct{}

func (rest) put(b []byte) []byte { return b }
