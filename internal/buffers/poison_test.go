//go:build poison

package buffers

import "testing"

const poisonForTest = poison

// Memory that somebody writes to after he gave it back is not lent again: the program stops.
func TestWrittenAfterFree(t *testing.T) {
	p := NewPool(1 << 20)
	l := p.Lend()
	b := l.Get(classMin)
	l.Free()
	b[17] = 1
	for range restMax {
		l := p.Lend()
		l.Get(classMin)
		l.Free()
	}
	refuses(t, "a write after Free", func() { p.Lend().Get(classMin) })
}
