package raft

import (
	"encoding/binary"
	"errors"
	"slices"
)

// ConfChangeType is what a change does to a node. The numbers are the wire's; 2 is reserved and changes nothing.
type ConfChangeType uint8

// A removed node that is added again must have a new id.
const (
	ConfChangeAddNode        ConfChangeType = 0
	ConfChangeRemoveNode     ConfChangeType = 1
	ConfChangeAddLearnerNode ConfChangeType = 3

	confChangeReserved ConfChangeType = 2
)

// ConfChangeTransition says whether a change goes through a joint configuration and who leaves it.
type ConfChangeTransition uint8

// Auto: simple if one voter changes, else as Implicit. Implicit: joint, left automatically. Explicit: joint, left by an empty
// ConfChangeV2.
const (
	ConfChangeTransitionAuto     ConfChangeTransition = 0
	ConfChangeTransitionImplicit ConfChangeTransition = 1
	ConfChangeTransitionExplicit ConfChangeTransition = 2
)

// ConfChange is one change of one node.
type ConfChange struct {
	ID      uint64
	Type    ConfChangeType
	NodeID  uint64
	Context []byte
}

// ConfChangeSingle is a part of a ConfChangeV2.
type ConfChangeSingle struct {
	Type   ConfChangeType
	NodeID uint64
}

// ConfChangeV2 is any number of changes at once. Without changes it leaves a joint configuration.
type ConfChangeV2 struct {
	Transition ConfChangeTransition
	Changes    []ConfChangeSingle
	Context    []byte
}

// ConfChanger is what ProposeConfChange and ApplyConfChange take: ConfChange and ConfChangeV2 implement it.
type ConfChanger interface {
	AsV1() (ConfChange, bool)
	AsV2() ConfChangeV2
	Marshal() []byte
}

var (
	_ ConfChanger = ConfChange{}
	_ ConfChanger = ConfChangeV2{}
)

// AsV1 gives the change itself.
func (c ConfChange) AsV1() (ConfChange, bool) { return c, true }

// AsV2 gives the change as the only one of a ConfChangeV2.
func (c ConfChange) AsV2() ConfChangeV2 {
	return ConfChangeV2{Changes: []ConfChangeSingle{{Type: c.Type, NodeID: c.NodeID}}, Context: c.Context}
}

// AsV1 is never possible: the entry's type says which of the two it holds.
func (c ConfChangeV2) AsV1() (ConfChange, bool) { return ConfChange{}, false }

// AsV2 gives the change itself.
func (c ConfChangeV2) AsV2() ConfChangeV2 { return c }

func (c *ConfChangeV2) leavesJoint() bool {
	return c.Transition == ConfChangeTransitionAuto && len(c.Changes) == 0
}

// entersJoint reports whether the change needs a joint configuration, and whether it is left automatically.
func (c *ConfChangeV2) entersJoint() (joint, autoLeave bool) {
	if c.Transition == ConfChangeTransitionAuto && len(c.Changes) <= 1 {
		return false, false
	}
	return true, c.Transition != ConfChangeTransitionExplicit
}

// The wire is protobuf:
//
//	ConfChange       1 id varint | 2 type varint | 3 node_id varint | 4 context bytes
//	ConfChangeV2     1 transition varint | 2 changes message, repeated | 3 context bytes
//	ConfChangeSingle 1 type varint | 2 node_id varint
const (
	wireVarint = 0
	wireI64    = 1
	wireBytes  = 2
	wireI32    = 5
)

func appendUint(b []byte, field int, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(field)<<3|wireVarint), v)
}

func appendBytes(b []byte, field int, v []byte) []byte {
	b = binary.AppendUvarint(b, uint64(field)<<3|wireBytes)
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// Marshal encodes the change; the zero value is no bytes.
func (c ConfChange) Marshal() []byte {
	b := appendUint(nil, 1, c.ID)
	b = appendUint(b, 2, uint64(c.Type))
	b = appendUint(b, 3, c.NodeID)
	if len(c.Context) > 0 {
		b = appendBytes(b, 4, c.Context)
	}
	return b
}

// Marshal encodes the change; the zero value is no bytes.
func (c ConfChangeV2) Marshal() []byte {
	b := appendUint(nil, 1, uint64(c.Transition))
	for _, s := range c.Changes {
		b = appendBytes(b, 2, appendUint(appendUint(nil, 1, uint64(s.Type)), 2, s.NodeID))
	}
	if len(c.Context) > 0 {
		b = appendBytes(b, 3, c.Context)
	}
	return b
}

var errWire = errors.New("raft: malformed configuration change")

// field is one protobuf field: v of a varint, data of a length-delimited one.
type field struct {
	number, wire int
	v            uint64
	data         []byte
}

func nextField(b []byte) (f field, rest []byte, err error) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
		return f, nil, errWire
	}
	b = b[n:]
	f.number, f.wire = int(tag>>3), int(tag&7)
	switch f.wire {
	case wireVarint:
		if f.v, n = binary.Uvarint(b); n <= 0 {
			return f, nil, errWire
		}
		return f, b[n:], nil
	case wireBytes:
		length, n := binary.Uvarint(b)
		if n <= 0 || length > uint64(len(b)-n) {
			return f, nil, errWire
		}
		f.data = b[n : n+int(length) : n+int(length)]
		return f, b[n+int(length):], nil
	case wireI64, wireI32:
		size := 8
		if f.wire == wireI32 {
			size = 4
		}
		if len(b) < size {
			return f, nil, errWire
		}
		return f, b[size:], nil
	}
	return f, nil, errWire
}

// eachField visits the fields of a message; want gives the wire type of a known field, -1 for one to be skipped.
func eachField(b []byte, want func(number int) int, visit func(field) error) error {
	for len(b) > 0 {
		f, rest, err := nextField(b)
		if err != nil {
			return err
		}
		b = rest
		switch w := want(f.number); {
		case w < 0:
		case w != f.wire:
			return errWire
		default:
			if err := visit(f); err != nil {
				return err
			}
		}
	}
	return nil
}

func small(v, highest uint64) (uint8, error) {
	if v > highest {
		return 0, errWire
	}
	return uint8(v), nil
}

// UnmarshalConfChange decodes a ConfChange. Unknown fields are skipped; an unknown type is an error.
func UnmarshalConfChange(b []byte) (ConfChange, error) {
	var c ConfChange
	want := func(n int) int {
		switch n {
		case 1, 2, 3:
			return wireVarint
		case 4:
			return wireBytes
		}
		return -1
	}
	err := eachField(b, want, func(f field) error {
		switch f.number {
		case 1:
			c.ID = f.v
		case 2:
			t, err := small(f.v, uint64(ConfChangeAddLearnerNode))
			c.Type = ConfChangeType(t)
			return err
		case 3:
			c.NodeID = f.v
		case 4:
			c.Context = slices.Clone(f.data)
		}
		return nil
	})
	if err != nil {
		return ConfChange{}, err
	}
	return c, nil
}

// UnmarshalConfChangeV2 decodes a ConfChangeV2. Unknown fields are skipped; unknown types and transitions are errors.
func UnmarshalConfChangeV2(b []byte) (ConfChangeV2, error) {
	var c ConfChangeV2
	want := func(n int) int {
		switch n {
		case 1:
			return wireVarint
		case 2, 3:
			return wireBytes
		}
		return -1
	}
	err := eachField(b, want, func(f field) error {
		switch f.number {
		case 1:
			t, err := small(f.v, uint64(ConfChangeTransitionExplicit))
			c.Transition = ConfChangeTransition(t)
			return err
		case 2:
			s, err := unmarshalSingle(f.data)
			c.Changes = append(c.Changes, s)
			return err
		case 3:
			c.Context = slices.Clone(f.data)
		}
		return nil
	})
	if err != nil {
		return ConfChangeV2{}, err
	}
	return c, nil
}

func unmarshalSingle(b []byte) (ConfChangeSingle, error) {
	var s ConfChangeSingle
	want := func(n int) int {
		if n == 1 || n == 2 {
			return wireVarint
		}
		return -1
	}
	err := eachField(b, want, func(f field) error {
		if f.number == 2 {
			s.NodeID = f.v
			return nil
		}
		t, err := small(f.v, uint64(ConfChangeAddLearnerNode))
		s.Type = ConfChangeType(t)
		return err
	})
	return s, err
}

// decodeConfChange decodes the change of a configuration entry.
func decodeConfChange(e *Entry) (ConfChangeV2, error) {
	if e.Type == EntryConfChange {
		c, err := UnmarshalConfChange(e.Data)
		return c.AsV2(), err
	}
	return UnmarshalConfChangeV2(e.Data)
}
