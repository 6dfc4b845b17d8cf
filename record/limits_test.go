package record

import (
	"encoding/binary"
	"testing"
)

// What doc.go says of frames is so: several in a row are read as one, and a zstd frame in one segment above 8 MiB is refused.
func TestFramesAreReadAsDocumented(t *testing.T) {
	for _, c := range []Codec{CodecGzip, CodecLZ4, CodecZstd} {
		one, err := c.compress(nil, []byte("one"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.decompress(append(one, one...), 6); err != nil || string(got) != "oneone" {
			t.Errorf("two frames of %v: %q, %v", c, got, err)
		}
	}
	for size, refused := range map[uint32]bool{8 << 20: false, 8<<20 + 1: true} {
		// one segment, 4 bytes of size, then RLE blocks of 128 KiB and a last one of what is left
		blob := binary.LittleEndian.AppendUint32([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0}, size)
		for left := size; left > 0; {
			n := min(left, 128<<10)
			left -= n
			head := n<<3 | 1<<1
			if left == 0 {
				head |= 1
			}
			blob = append(blob, byte(head), byte(head>>8), byte(head>>16), 'x')
		}
		if got, err := CodecZstd.decompress(blob, 64<<20); (err != nil) != refused || !refused && len(got) != int(size) {
			t.Errorf("zstd segment of %d bytes: %d bytes, %v", size, len(got), err)
		}
	}
}
