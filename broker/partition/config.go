package partition

import (
	"encoding/binary"
	"fmt"

	"lograft/raft"
	"lograft/segment"
)

// Config is what a data partition does with its records: the topic's settings as they travel through the partition's own log, so
// that every replica changes over at the same entry (architecture D13).
type Config struct {
	RetentionMs    int64 // -1: for ever
	RetentionBytes int64 // -1: no limit
	SegmentBytes   int64
	MessageBytes   int64 // largest batch; 0: not checked here
	LogAppendTime  bool  // records get the append time as their timestamp
	// Version orders configurations: a partition never goes back to an older one.
	Version uint64
}

// A configuration entry (segment.KindConfig), and a checkpoint's part:
//
//	version u8=1 | retention ms i64 | retention bytes i64 | segment bytes i64 | message bytes i64 | log append time u8 | number u64   (little-endian)
const (
	configVersion = 1
	configBytes   = 1 + 4*8 + 1 + 8
)

func (c *Config) encode(dst []byte) []byte {
	le := binary.LittleEndian
	dst = append(dst, configVersion)
	for _, v := range []int64{c.RetentionMs, c.RetentionBytes, c.SegmentBytes, c.MessageBytes} {
		dst = le.AppendUint64(dst, uint64(v))
	}
	flag := byte(0)
	if c.LogAppendTime {
		flag = 1
	}
	return le.AppendUint64(append(dst, flag), c.Version)
}

func decodeConfig(b []byte) (Config, error) {
	if len(b) != configBytes || b[0] != configVersion {
		return Config{}, fmt.Errorf("configuration of %d bytes begins with %x: this program reads %d bytes of version %d", len(b), b[:min(len(b), 1)], configBytes, configVersion)
	}
	le := binary.LittleEndian
	at := func(i int) int64 { return int64(le.Uint64(b[1+8*i:])) }
	return Config{RetentionMs: at(0), RetentionBytes: at(1), SegmentBytes: at(2), MessageBytes: at(3), LogAppendTime: b[33] == 1, Version: le.Uint64(b[34:])}, nil
}

// SegmentLimit is segment.Options.LimitOf: the segment limit that a configuration entry sets.
func SegmentLimit(f segment.Frame) (limit int64, ok bool) {
	if len(f.Payload) == 0 {
		return 0, false
	}
	c, err := decodeConfig(f.Payload)
	return c.SegmentBytes, err == nil
}

// Configure says what the topic's settings are as far as this broker knows. A leader whose log holds older ones proposes them.
func (r *Replica) Configure(c Config) {
	if r.fatal != nil || c.Version <= r.want.Version {
		return
	}
	r.want = c
	r.proposeConfig()
}

// proposeConfig brings the log up to the settings wanted, once. It is tried again at each tick.
func (r *Replica) proposeConfig() (proposed bool) {
	l := &r.lead
	if !l.ready || r.opts.Machine != nil || r.want.Version <= max(r.config.Version, l.configured) {
		return false
	}
	if _, err := r.proposeOwn(segment.KindConfig, r.want.encode(nil)); err != nil {
		return false
	}
	l.configured = r.want.Version
	return true
}

// proposeOwn proposes an entry that carries no records. It inherits the append time of the entry before it: only records move a
// partition's clock, so that a trim never makes what it left look younger.
func (r *Replica) proposeOwn(kind segment.Kind, payload []byte) (index uint64, refused *Error) {
	if r.growthBlocked() {
		return 0, r.underRepair()
	}
	if r.moved() {
		return 0, r.notLeader(OutcomeFailed)
	}
	e := envelope{kind: kind, appendTime: r.lead.tail.appendTime}
	if kind == kindCommand && r.opts.Machine != nil {
		e.flags = flagOwn
	}
	if err := r.node.Propose(e.encode(make([]byte, 0, envelopeBytes)), payload); err != nil {
		return 0, r.proposalError(err)
	}
	return r.node.BasicStatus().LastIndex, nil
}

// applyConfig takes a committed configuration.
func (r *Replica) applyConfig(e *raft.Entry) error {
	c, err := decodeConfig(e.Data)
	if err == nil && c.Version > r.config.Version {
		r.config = c
	}
	return err
}
