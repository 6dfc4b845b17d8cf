//go:build poison

package buffers

import "fmt"

// Poisoned says that given back memory is overwritten (-tags poison).
const Poisoned = true

const (
	poison = 0xDB
	// restMax is how many pieces rest before the first of them is lent again: late readers and writers meet poison, not another's bytes.
	restMax = 64
)

func spoil(b []byte) {
	for i := range b {
		b[i] = poison
	}
}

// unspoiled stops the program if somebody wrote to b after it was given back.
func unspoiled(b []byte) {
	b = b[:cap(b)]
	for i := range b {
		if b[i] != poison {
			panic(fmt.Sprintf("buffers: byte %d of %d was written after its memory was given back", i, len(b)))
		}
	}
}

// rest is memory that was given back a moment ago.
type rest struct{ pieces [][]byte }

// put keeps b back and gives what has rested for long enough, nil if nothing has.
func (r *rest) put(b []byte) []byte {
	r.pieces = append(r.pieces, b)
	if len(r.pieces) <= restMax {
		return nil
	}
	b = r.pieces[0]
	r.pieces[0] = nil
	r.pieces = r.pieces[1:]
	return b
}
