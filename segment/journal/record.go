package journal

import (
	"encoding/binary"
	"hash/crc32"
)

// A record, little-endian:
//
//	 0       4         12        20     21        37
//	+-------+---------+---------+------+---------+------+
//	| crc32c| sequence| synced  | kind | group   | body |
//	| of the|         | up to   |      | uuid    |      |
//	| rest  |         |         |      |         |      |
//	+-------+---------+---------+------+---------+------+
//
// Bodies: birth = replica id u64, settings; hard state = term, vote, commit u64; mark = index, term u64, position i64, segment base u64;
// snapshot mark = index, term u64, hash 32 bytes, log start i64, void u64: the sequence up to which persist marks of the group speak of
// the log before; retired = replica id u64; lost is empty; marks floor = sequence u64; marks lost = 1 or 0; checkpoint = format version u16.
const headBytes = 37

type rec struct {
	seq, synced uint64
	kind        kind
	group       GroupID
	body        []byte
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var le = binary.LittleEndian

func encodeRecord(r rec) []byte {
	b := make([]byte, headBytes, headBytes+len(r.body))
	le.PutUint64(b[4:], r.seq)
	le.PutUint64(b[12:], r.synced)
	b[20] = byte(r.kind)
	copy(b[21:], r.group[:])
	b = append(b, r.body...)
	le.PutUint32(b, sumOf(b))
	return b
}

// sumOf is the checksum that belongs into the first bytes of an encoded record.
func sumOf(b []byte) uint32 { return crc32.Checksum(b[4:], castagnoli) }

// decodeRecord reads a record; ok is false unless CRC, kind and length fit. The body shares b.
func decodeRecord(b []byte) (r rec, ok bool) {
	if len(b) < headBytes || le.Uint32(b) != sumOf(b) {
		return r, false
	}
	r = rec{seq: le.Uint64(b[4:]), synced: le.Uint64(b[12:]), kind: kind(b[20]), body: b[headBytes:]}
	copy(r.group[:], b[21:])
	switch n := len(r.body); r.kind {
	case kindBirth:
		return r, n >= 8
	case kindHard:
		return r, n == 24
	case kindMark:
		return r, n == 32
	case kindSnapshot:
		return r, n == 64
	case kindRetired:
		return r, n == 0 || n == 8 // version 1 wrote no id
	case kindLost:
		return r, n == 0
	case kindMarksFloor:
		return r, n == 8
	case kindMarksLost:
		return r, n == 1 && r.body[0] <= 1
	case kindCheckpoint:
		return r, n == 2
	}
	return r, false
}

func encodeBirth(b *Birth) []byte {
	return append(le.AppendUint64(nil, b.ReplicaID), b.Settings...)
}

func decodeBirth(g GroupID, b []byte) Birth {
	return Birth{Group: g, ReplicaID: le.Uint64(b), Settings: append([]byte(nil), b[8:]...)}
}

func encodeHard(h HardState) []byte {
	return le.AppendUint64(le.AppendUint64(le.AppendUint64(nil, h.Term), h.Vote), h.Commit)
}

func decodeHard(b []byte) HardState {
	return HardState{Term: le.Uint64(b), Vote: le.Uint64(b[8:]), Commit: le.Uint64(b[16:])}
}

func encodeMark(m Mark) []byte {
	b := le.AppendUint64(le.AppendUint64(nil, m.Index), m.Term)
	return le.AppendUint64(le.AppendUint64(b, uint64(m.Position)), m.SegmentBase)
}

func decodeMark(b []byte) Mark {
	return Mark{Index: le.Uint64(b), Term: le.Uint64(b[8:]), Position: int64(le.Uint64(b[16:])), SegmentBase: le.Uint64(b[24:])}
}

func encodeSnapshot(m SnapshotMark, void uint64) []byte {
	b := append(le.AppendUint64(le.AppendUint64(nil, m.Index), m.Term), m.Hash[:]...)
	return le.AppendUint64(le.AppendUint64(b, uint64(m.LogStart)), void)
}

func decodeSnapshot(b []byte) (m SnapshotMark, void uint64) {
	m.Index, m.Term, m.LogStart = le.Uint64(b), le.Uint64(b[8:]), int64(le.Uint64(b[48:]))
	copy(m.Hash[:], b[16:48])
	return m, le.Uint64(b[56:])
}
