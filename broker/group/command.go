package group

import (
	"fmt"
	"slices"
)

// A command is: version u8 | kind u8 | request id 16 | fields.
const commandVersion = 1

const (
	kindJoin = iota + 1
	kindAcknowledge
	kindLeave
	kindExpire
	kindCommit
	kindSeek
	kindDelete
	kindTopics
	kindForget
	kindCommitEpochs // kindCommit with the epochs of its offsets: cluster.FeatureCommitEpochs
	kindsEnd         // what comes from here on, builds before this one do not know: it needs a version of the cluster's commands
)

const commandHeadBytes = 2 + 16

// RequestID names a command. ok is false for what is no command.
func RequestID(command []byte) (id ID, ok bool) {
	if len(command) < commandHeadBytes {
		return id, false
	}
	return ID(command[2:]), true
}

func newCommand(kind uint8, request ID, group string) *writer {
	w := &writer{}
	w.U8(commandVersion)
	w.U8(kind)
	w.ID(request)
	w.Str(group)
	return w
}

// Join makes a member, or says again what an existing one wants. With Resume it must exist: a member that expired is told so instead
// of being made anew under its old id.
type Join struct {
	RequestID         ID
	Group             string
	Member            ID
	ClientID          string
	SessionMs, PollMs uint32
	Resume            bool
	Topics            []Topic // subscribed, as the proposer's metadata has them
	InstanceID        string  // not empty: a static member, see Member.InstanceID
}

// Encode makes the command's bytes.
func (c *Join) Encode() []byte {
	w := newCommand(kindJoin, c.RequestID, c.Group)
	w.ID(c.Member)
	w.Str(c.ClientID)
	w.U32(c.SessionMs)
	w.U32(c.PollMs)
	w.Bool(c.Resume)
	w.topics(c.Topics)
	if c.InstanceID != "" { // without one a command is what it was before there were static members
		w.Str(c.InstanceID)
	}
	return w.Data()
}

func (r *reader) join(group string) Join {
	c := Join{Group: group, Member: r.ID(), ClientID: r.Str(), SessionMs: r.U32(), PollMs: r.U32(), Resume: r.Bool(), Topics: r.topics()}
	if r.Left() > 0 {
		c.InstanceID = r.Str()
	}
	return c
}

// Acknowledge says which partitions a member works on, having been told a generation: what it does not name it has given up.
type Acknowledge struct {
	RequestID  ID
	Group      string
	Member     ID
	Generation int64
	Owned      []TP
}

// Encode makes the command's bytes.
func (c *Acknowledge) Encode() []byte {
	w := newCommand(kindAcknowledge, c.RequestID, c.Group)
	w.ID(c.Member)
	w.I64(c.Generation)
	w.Count(len(c.Owned))
	for _, tp := range c.Owned {
		w.tp(tp)
	}
	return w.Data()
}

func (r *reader) acknowledge(group string) Acknowledge {
	return Acknowledge{Group: group, Member: r.ID(), Generation: r.I64(), Owned: r.tps()}
}

// Leave ends a membership. It has an effect once, and none for an unknown member.
type Leave struct {
	RequestID ID
	Group     string
	Member    ID
}

// Encode makes the command's bytes.
func (c *Leave) Encode() []byte {
	w := newCommand(kindLeave, c.RequestID, c.Group)
	w.ID(c.Member)
	return w.Data()
}

// expire ends the membership of a member that the coordinator did not hear: only of that instance.
type expire struct {
	group    string
	member   ID
	instance uint64
}

func (c *expire) encode() []byte {
	w := newCommand(kindExpire, ID{}, c.group)
	w.ID(c.member)
	w.U64(c.instance)
	return w.Data()
}

// TopicOffset is an offset to be committed: the next one to read.
type TopicOffset struct {
	TP
	TopicID ID
	Offset  int64
	Epoch   int32 // leader epoch of the last record before Offset; 0: not known
}

func (w *writer) offsets(list []TopicOffset) {
	w.Count(len(list))
	for i := range list {
		w.tp(list[i].TP)
		w.ID(list[i].TopicID)
		w.I64(list[i].Offset)
	}
}

func (r *reader) offsets() (list []TopicOffset) {
	for range r.Count(8 + 16 + 8) {
		list = append(list, TopicOffset{TP: r.tp(), TopicID: r.ID(), Offset: r.I64()})
	}
	return list
}

// epochs are those of a list of offsets, one for each.
func (w *writer) epochs(list []TopicOffset) {
	for i := range list {
		w.U32(uint32(list[i].Epoch))
	}
}

func (r *reader) epochs(list []TopicOffset) {
	for i := range list {
		list[i].Epoch = int32(r.U32())
	}
}

// Commit moves committed offsets forward, all of them or none; back, where a log lost what was committed (Offset.before). Without any epoch its bytes are what they were before there were epochs.
type Commit struct {
	RequestID  ID
	Group      string
	Member     ID
	Generation int64
	Offsets    []TopicOffset
}

func isCommit(command []byte) bool {
	return len(command) >= commandHeadBytes && (command[1] == kindCommit || command[1] == kindCommitEpochs)
}

// Encode makes the command's bytes.
func (c *Commit) Encode() []byte {
	kind, epochs := uint8(kindCommit), slices.ContainsFunc(c.Offsets, func(o TopicOffset) bool { return o.Epoch != 0 })
	if epochs {
		kind = kindCommitEpochs
	}
	w := newCommand(kind, c.RequestID, c.Group)
	w.ID(c.Member)
	w.I64(c.Generation)
	w.offsets(c.Offsets)
	if epochs {
		w.epochs(c.Offsets)
	}
	return w.Data()
}

func (r *reader) commit(group string, epochs bool) Commit {
	c := Commit{Group: group, Member: r.ID(), Generation: r.I64(), Offsets: r.offsets()}
	if epochs {
		r.epochs(c.Offsets)
	}
	return c
}

// Seek sets committed offsets of a group without members, in any direction; it makes the group if there is none.
type Seek struct {
	RequestID ID
	Group     string
	Topics    []Topic // of the offsets
	Offsets   []TopicOffset
}

// Encode makes the command's bytes.
func (c *Seek) Encode() []byte {
	w := newCommand(kindSeek, c.RequestID, c.Group)
	w.topics(c.Topics)
	w.offsets(c.Offsets)
	return w.Data()
}

func (r *reader) seek(group string) Seek {
	return Seek{Group: group, Topics: r.topics(), Offsets: r.offsets()}
}

// Delete removes a group without members and its offsets.
type Delete struct {
	RequestID ID
	Group     string
}

// Encode makes the command's bytes.
func (c *Delete) Encode() []byte { return newCommand(kindDelete, c.RequestID, c.Group).Data() }

// topics tells a group what the metadata says of its topics now.
type topics struct {
	group  string
	topics []Topic
}

func (c *topics) encode() []byte {
	w := newCommand(kindTopics, ID{}, c.group)
	w.topics(c.topics)
	return w.Data()
}

// forget removes a group that has had no members for retentionMs by the entry's append time.
type forget struct {
	group       string
	retentionMs int64
}

func (c *forget) encode() []byte {
	w := newCommand(kindForget, ID{}, c.group)
	w.I64(c.retentionMs)
	return w.Data()
}

func (x *Result) encode() []byte {
	w := &writer{}
	w.Str(string(x.Reason))
	w.Str(x.Message)
	w.I64(x.Generation)
	return w.Data()
}

// DecodeResult reads the answer to a command.
func DecodeResult(b []byte) (Result, error) {
	r := newReader(b)
	x := Result{Reason: Reason(r.Str()), Message: r.Str(), Generation: r.I64()}
	if err := r.End(); err != nil {
		return Result{}, fmt.Errorf("result: %w", err)
	}
	return x, nil
}
