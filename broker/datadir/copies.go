package datadir

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path"

	"lograft/segment/vfs"
)

// copies keeps one small value in two files, written in turn, so that a crash or a bad block never takes both:
//
//	magic "LGRD" | version u8=1 | sequence u64 | payload length u32 | crc-32c of all other bytes u32 | payload   (little-endian)
//
// The valid copy with the higher sequence counts.
type copies struct {
	fs       vfs.FS
	dir      string
	name     string
	sequence uint64 // of the newest valid copy
	older    int    // which file is written next
}

const (
	copyMagic     = "LGRD"
	copyVersion   = 1
	copyHeadBytes = 4 + 1 + 8 + 4 + 4
	copyBytesMax  = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (c *copies) file(i int) string { return path.Join(c.dir, c.name+"."+string(rune('a'+i))) }

// load returns the newest valid value. found is false if neither file is there; if one is there and none is valid, that is an error.
func (c *copies) load() (payload []byte, found bool, err error) {
	var problems []error
	for i := range 2 {
		b, err := readFile(c.fs, c.file(i))
		if vfs.IsNotExist(err) {
			continue
		}
		found = true
		if err != nil {
			problems = append(problems, err)
			continue
		}
		seq, p, err := decodeCopy(b)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", c.file(i), err))
			continue
		}
		if seq >= c.sequence {
			c.sequence, payload, c.older = seq, p, 1-i
		}
	}
	if found && payload == nil {
		return nil, true, fmt.Errorf("no readable copy: %w", errors.Join(problems...))
	}
	return payload, found, nil
}

// save puts the value on stable storage, over the older copy.
func (c *copies) save(payload []byte) error {
	name := c.file(c.older)
	next := name + ".new"
	if err := c.fs.Remove(next); err != nil && !vfs.IsNotExist(err) {
		return err
	}
	f, err := c.fs.Create(next)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(encodeCopy(c.sequence+1, payload), 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := errors.Join(c.fs.Rename(next, name), c.fs.SyncDir(c.dir)); err != nil {
		return err
	}
	c.sequence++
	c.older = 1 - c.older
	return nil
}

func encodeCopy(seq uint64, payload []byte) []byte {
	le := binary.LittleEndian
	b := append([]byte(copyMagic), copyVersion)
	b = le.AppendUint64(b, seq)
	b = le.AppendUint32(b, uint32(len(payload)))
	crc := crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, payload)
	return append(le.AppendUint32(b, crc), payload...)
}

func decodeCopy(b []byte) (seq uint64, payload []byte, err error) {
	le := binary.LittleEndian
	if len(b) < copyHeadBytes || string(b[:4]) != copyMagic {
		return 0, nil, fmt.Errorf("%d bytes that are no such file", len(b))
	}
	if b[4] != copyVersion {
		return 0, nil, fmt.Errorf("version %d, this program reads %d: start the version that wrote it, or a later one", b[4], copyVersion)
	}
	n := int(le.Uint32(b[13:]))
	payload = b[copyHeadBytes:]
	if n != len(payload) {
		return 0, nil, fmt.Errorf("payload of %d bytes, want %d", len(payload), n)
	}
	if got, want := crc32.Update(crc32.Checksum(b[:17], castagnoli), castagnoli, payload), le.Uint32(b[17:]); got != want {
		return 0, nil, fmt.Errorf("checksum %08x, want %08x", got, want)
	}
	return le.Uint64(b[5:]), payload, nil
}

func readFile(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err == nil && size > copyBytesMax {
		err = fmt.Errorf("%s: %d bytes, at most %d", name, size, copyBytesMax)
	}
	var b []byte
	if err == nil {
		b = make([]byte, size)
		_, err = f.ReadAt(b, 0)
	}
	return b, errors.Join(err, f.Close())
}
