package cluster

import "fmt"

// A command is: version u8 | kind u8 | request id | fields. A command of an unknown version or kind is refused in the same way on
// every broker that runs the same version.
const commandVersion = 1

const (
	kindRegisterBroker = iota + 1
	kindCreateTopic
	kindDeleteTopic
	kindAllocProducerIDs
	kindConfirmRemoved
	kindAlterTopic
	kindAddPartitions
)

// commandHeadBytes is what RequestID reads.
const commandHeadBytes = 2 + 16

// RequestID names a command; the same id proposed twice has one effect and one result. ok is false for what is no command.
func RequestID(command []byte) (id ID, ok bool) {
	if len(command) < commandHeadBytes {
		return id, false
	}
	return ID(command[2:]), true
}

func newCommand(kind uint8, request ID) *writer {
	w := &writer{}
	w.u8(commandVersion)
	w.u8(kind)
	w.id(request)
	return w
}

// RegisterBroker says where a broker can be reached. The answer is empty.
type RegisterBroker struct {
	RequestID                      ID
	NodeID                         uint64
	DirID                          ID
	ClientAddr, PeerAddr, HTTPAddr string
	Version                        string
}

// EncodeRegisterBroker makes the command's bytes.
func EncodeRegisterBroker(c RegisterBroker) []byte {
	w := newCommand(kindRegisterBroker, c.RequestID)
	w.u64(c.NodeID)
	w.id(c.DirID)
	for _, s := range []string{c.ClientAddr, c.PeerAddr, c.HTTPAddr, c.Version} {
		w.str(s)
	}
	return w.b
}

func (r *reader) registerBroker() RegisterBroker {
	return RegisterBroker{NodeID: r.u64(), DirID: r.id(), ClientAddr: r.str(), PeerAddr: r.str(), HTTPAddr: r.str(), Version: r.str()}
}

// CreateTopic makes a topic. The answer's Topic is its id, also if a topic of that name exists (ReasonTopicExists).
type CreateTopic struct {
	RequestID         ID
	Seed              ID // chance of the proposer: topic and group ids come from it
	Name              string
	Partitions        int32
	ReplicationFactor int32
	Config            []ConfigEntry
}

// EncodeCreateTopic makes the command's bytes.
func EncodeCreateTopic(c CreateTopic) []byte {
	w := newCommand(kindCreateTopic, c.RequestID)
	w.id(c.Seed)
	w.str(c.Name)
	w.u32(uint32(c.Partitions))
	w.u32(uint32(c.ReplicationFactor))
	w.config(c.Config)
	return w.b
}

func (r *reader) createTopic() CreateTopic {
	return CreateTopic{Seed: r.id(), Name: r.str(), Partitions: int32(r.u32()), ReplicationFactor: int32(r.u32()), Config: r.config()}
}

func (w *writer) config(list []ConfigEntry) {
	w.count(len(list))
	for _, c := range list {
		w.str(c.Key)
		w.str(c.Value)
	}
}

func (r *reader) config() (list []ConfigEntry) {
	for range r.count(8) {
		list = append(list, ConfigEntry{Key: r.str(), Value: r.str()})
	}
	return list
}

// DeleteTopic deletes a topic by name; Topic, if it is not zero, must be its id. The answer's Topic is the id deleted.
type DeleteTopic struct {
	RequestID ID
	Name      string
	Topic     ID
}

// EncodeDeleteTopic makes the command's bytes.
func EncodeDeleteTopic(c DeleteTopic) []byte {
	w := newCommand(kindDeleteTopic, c.RequestID)
	w.str(c.Name)
	w.id(c.Topic)
	return w.b
}

func (r *reader) deleteTopic() DeleteTopic { return DeleteTopic{Name: r.str(), Topic: r.id()} }

// AllocProducerIDs reserves a block of producer ids. The answer's First begins it.
type AllocProducerIDs struct {
	RequestID ID
	Count     uint32 // 1 to producerIDsMax
}

// EncodeAllocProducerIDs makes the command's bytes.
func EncodeAllocProducerIDs(c AllocProducerIDs) []byte {
	w := newCommand(kindAllocProducerIDs, c.RequestID)
	w.u32(c.Count)
	return w.b
}

// ConfirmRemoved says that a data directory holds nothing of these deleted groups any more.
type ConfirmRemoved struct {
	RequestID ID
	DirID     ID
	Groups    []ID
}

// EncodeConfirmRemoved makes the command's bytes.
func EncodeConfirmRemoved(c ConfirmRemoved) []byte {
	w := newCommand(kindConfirmRemoved, c.RequestID)
	w.id(c.DirID)
	w.count(len(c.Groups))
	for _, g := range c.Groups {
		w.id(g)
	}
	return w.b
}

func (r *reader) confirmRemoved() ConfirmRemoved {
	c := ConfirmRemoved{DirID: r.id()}
	for range r.count(16) {
		c.Groups = append(c.Groups, r.id())
	}
	return c
}

// Reason says why a command was refused; the words are those of docs/errors.md.
type Reason string

// Reasons of a Result.
const (
	ReasonNone             Reason = ""
	ReasonTopicExists      Reason = "TOPIC_EXISTS"
	ReasonTopicNotFound    Reason = "TOPIC_NOT_FOUND"
	ReasonNotEnoughBrokers Reason = "NOT_ENOUGH_BROKERS"
	ReasonInvalid          Reason = "INVALID_ARGUMENT"
	ReasonLimit            Reason = "LIMIT_REACHED"
	ReasonWrongDirectory   Reason = "WRONG_DIRECTORY"
	ReasonUserNotFound     Reason = "USER_NOT_FOUND"
)

// Result answers a command.
type Result struct {
	Reason  Reason
	Message string // names the fix
	Topic   ID
	First   int64
}

func (x *Result) encode() []byte {
	w := &writer{}
	w.str(string(x.Reason))
	w.str(x.Message)
	w.id(x.Topic)
	w.u64(uint64(x.First))
	return w.b
}

// DecodeResult reads the answer to a command.
func DecodeResult(b []byte) (Result, error) {
	r := &reader{b: b}
	x := Result{Reason: Reason(r.str()), Message: r.str(), Topic: r.id(), First: int64(r.u64())}
	if err := r.end(); err != nil {
		return Result{}, fmt.Errorf("result: %w", err)
	}
	return x, nil
}
