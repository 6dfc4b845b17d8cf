package partition

import (
	"encoding/binary"
	"errors"
	"fmt"

	"lograft/raft"
)

// checkpoint is a replica's replicated state as of one index: what a `.state` file holds (storage.md "Format").
//
//	version u8=2 | log start i64 | voters, learners, outgoing, learners next: count u16 + ids u64 | auto leave u8
//	| next offset i64 | last append time i64 | machine bytes u32 + bytes | config | drop to u64 | trim index u64
//	| producers   (little-endian)
type checkpoint struct {
	conf       raft.ConfState
	logStart   int64
	nextOffset int64
	appendTime int64
	machine    []byte // state machine groups; empty for data
	config     Config // data partitions
	dropTo     uint64 // see trimming
	trimIndex  uint64
	producers  producers
}

const checkpointVersion = 2

func (c *checkpoint) encode() []byte {
	le := binary.LittleEndian
	b := []byte{checkpointVersion}
	b = le.AppendUint64(b, uint64(c.logStart))
	for _, ids := range [][]uint64{c.conf.Voters, c.conf.Learners, c.conf.VotersOutgoing, c.conf.LearnersNext} {
		b = le.AppendUint16(b, uint16(len(ids)))
		for _, id := range ids {
			b = le.AppendUint64(b, id)
		}
	}
	autoLeave := byte(0)
	if c.conf.AutoLeave {
		autoLeave = 1
	}
	b = append(b, autoLeave)
	b = le.AppendUint64(b, uint64(c.nextOffset))
	b = le.AppendUint64(b, uint64(c.appendTime))
	b = le.AppendUint32(b, uint32(len(c.machine)))
	b = append(b, c.machine...)
	b = c.config.encode(b)
	b = le.AppendUint64(b, c.dropTo)
	b = le.AppendUint64(b, c.trimIndex)
	return c.producers.encode(b)
}

var errShortCheckpoint = errors.New("checkpoint: bytes end too early")

func decodeCheckpoint(b []byte) (checkpoint, error) {
	var c checkpoint
	if len(b) < 9 {
		return c, errShortCheckpoint
	}
	if b[0] != checkpointVersion {
		return c, fmt.Errorf("checkpoint: version %d, this program reads %d", b[0], checkpointVersion)
	}
	le := binary.LittleEndian
	c.logStart = int64(le.Uint64(b[1:]))
	b = b[9:]
	for _, ids := range []*[]uint64{&c.conf.Voters, &c.conf.Learners, &c.conf.VotersOutgoing, &c.conf.LearnersNext} {
		if len(b) < 2 {
			return c, errShortCheckpoint
		}
		n := int(le.Uint16(b))
		if b = b[2:]; len(b) < 8*n {
			return c, errShortCheckpoint
		}
		for range n {
			*ids = append(*ids, le.Uint64(b))
			b = b[8:]
		}
	}
	if len(b) < 1+8+8+4 {
		return c, errShortCheckpoint
	}
	c.conf.AutoLeave = b[0] == 1
	c.nextOffset, c.appendTime = int64(le.Uint64(b[1:])), int64(le.Uint64(b[9:]))
	n := int(le.Uint32(b[17:]))
	if b = b[21:]; n > len(b) {
		return c, errShortCheckpoint
	}
	c.machine = b[:n:n]
	if b = b[n:]; len(b) < configBytes+16 {
		return c, errShortCheckpoint
	}
	var err error
	if c.config, err = decodeConfig(b[:configBytes]); err != nil {
		return c, err
	}
	c.dropTo, c.trimIndex = le.Uint64(b[configBytes:]), le.Uint64(b[configBytes+8:])
	if c.producers, b, err = decodeProducers(b[configBytes+16:]); err != nil {
		return c, err
	}
	if len(b) != 0 {
		return c, fmt.Errorf("checkpoint: %d bytes too many", len(b))
	}
	return c, nil
}
