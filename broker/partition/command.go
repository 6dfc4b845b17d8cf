package partition

import (
	"encoding/binary"
	"fmt"

	"lograft/raft"
)

// A command of a data partition (segment.KindCommand) changes what every replica keeps, at the same index:
//
//	version u8=1 | kind u8 | two numbers u64   (little-endian)
//
//	trim:    log start offset, index: whole segments that end at or before it go
//	expire:  append times (ms): producers that appended nothing after the first, or were released and appended nothing after the second, go
//	release: producer id, epoch
const (
	commandVersion = 1
	commandBytes   = 2 + 2*8
)

const (
	commandTrim = iota + 1
	commandExpire
	commandRelease
)

type command struct {
	kind uint8
	a, b uint64
}

func (c command) encode() []byte {
	le := binary.LittleEndian
	return le.AppendUint64(le.AppendUint64([]byte{commandVersion, c.kind}, c.a), c.b)
}

func decodeCommand(b []byte) (command, error) {
	if len(b) != commandBytes || b[0] != commandVersion || b[1] < commandTrim || b[1] > commandRelease {
		return command{}, fmt.Errorf("partition command of %d bytes begins with %x: want %d bytes of version %d and a known kind", len(b), b[:min(len(b), 2)], commandBytes, commandVersion)
	}
	return command{b[1], binary.LittleEndian.Uint64(b[2:]), binary.LittleEndian.Uint64(b[10:])}, nil
}

// flagOwn marks a command of the group's replicas in a group that has a state machine: its other commands are the machine's.
const flagOwn = 1

// own is a command that this leader proposed and who waits for it: in order of index.
type own struct {
	index uint64
	trim  bool // answered when the log start is on stable storage, not already when it is applied
	waiter
}

// command proposes a command for a session.
func (r *Replica) command(env *Env, q *Request, c command) {
	index, err := r.proposeOwn(kindCommand, c.encode())
	if err != nil {
		env.fail(q, err)
		return
	}
	r.lead.own = append(r.lead.own, own{index, c.kind == commandTrim, waiter{q.From, q.Token, q.Deadline}})
}

// applyOwn carries out a committed command of a data partition. What it does is a function of the log alone.
func (r *Replica) applyOwn(e *raft.Entry) error {
	c, err := decodeCommand(e.Data)
	if err != nil {
		return err
	}
	tables := []producers{r.producers}
	if r.lead.known != nil {
		tables = append(tables, r.lead.known) // with batches in flight, which come after this entry and stay
	}
	for _, t := range tables {
		switch c.kind {
		case commandExpire:
			t.expire(e.Index, int64(c.a), int64(c.b))
		case commandRelease:
			t.release(e.Index, int64(c.a), int16(c.b))
		}
	}
	if c.kind == commandTrim {
		r.applyTrim(e.Index, int64(c.a), c.b)
	}
	return nil
}

// resolveOwn answers who waited for commands that are done.
func (r *Replica) resolveOwn(env *Env) {
	l := &r.lead
	for len(l.own) > 0 && l.own[0].index <= r.applied && !(l.own[0].trim && l.own[0].index > r.trim.stable) {
		env.reply(Reply{From: l.own[0].from, Token: l.own[0].token, LogStart: r.logStart, HighWatermark: r.high, LeaderEpoch: int32(r.hard.Term), Applied: r.applied})
		l.own = l.own[1:]
	}
}
