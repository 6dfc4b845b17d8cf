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
	kindJoinBroker
	kindAddBroker
	kindRemoveBroker
	kindDecommission
	kindReassign
	kindRebalance
	kindSettled
	kindRaiseCommands
	kindSetAway
	kindForfeit
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
	w.U8(commandVersion)
	w.U8(kind)
	w.ID(request)
	return w
}

// RegisterBroker says where a broker can be reached. The answer is empty.
type RegisterBroker struct {
	RequestID                      ID
	NodeID                         uint64
	DirID                          ID
	ClientAddr, PeerAddr, HTTPAddr string
	Version                        string // see SayKnown
	Rack                           string // from FeatureRacks on; empty: none
}

// EncodeRegisterBroker makes the command's bytes.
func EncodeRegisterBroker(c RegisterBroker) []byte {
	w := newCommand(kindRegisterBroker, c.RequestID)
	w.U64(c.NodeID)
	w.ID(c.DirID)
	for _, s := range []string{c.ClientAddr, c.PeerAddr, c.HTTPAddr, c.Version} {
		w.Str(s)
	}
	if c.Rack != "" { // without one a command is what it was before there were racks
		w.Str(c.Rack)
	}
	return w.Data()
}

func (r *reader) registerBroker(known uint32) RegisterBroker {
	c := RegisterBroker{NodeID: r.U64(), DirID: r.ID(), ClientAddr: r.Str(), PeerAddr: r.Str(), HTTPAddr: r.Str(), Version: r.Str()}
	if r.Left() > 0 && known >= FeatureRacks.Since() {
		c.Rack = r.Str()
	}
	return c
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
	w.ID(c.Seed)
	w.Str(c.Name)
	w.U32(uint32(c.Partitions))
	w.U32(uint32(c.ReplicationFactor))
	w.config(c.Config)
	return w.Data()
}

func (r *reader) createTopic() CreateTopic {
	return CreateTopic{Seed: r.ID(), Name: r.Str(), Partitions: int32(r.U32()), ReplicationFactor: int32(r.U32()), Config: r.config()}
}

func (w *writer) config(list []ConfigEntry) {
	w.Count(len(list))
	for _, c := range list {
		w.Str(c.Key)
		w.Str(c.Value)
	}
}

func (r *reader) config() (list []ConfigEntry) {
	for range r.Count(8) {
		list = append(list, ConfigEntry{Key: r.Str(), Value: r.Str()})
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
	w.Str(c.Name)
	w.ID(c.Topic)
	return w.Data()
}

func (r *reader) deleteTopic() DeleteTopic { return DeleteTopic{Name: r.Str(), Topic: r.ID()} }

// AllocProducerIDs reserves a block of producer ids. The answer's First begins it.
type AllocProducerIDs struct {
	RequestID ID
	Count     uint32 // 1 to producerIDsMax
}

// EncodeAllocProducerIDs makes the command's bytes.
func EncodeAllocProducerIDs(c AllocProducerIDs) []byte {
	w := newCommand(kindAllocProducerIDs, c.RequestID)
	w.U32(c.Count)
	return w.Data()
}

// ConfirmRemoved says that a data directory holds nothing any more of the replicas of these groups that were removed from it.
type ConfirmRemoved struct {
	RequestID ID
	DirID     ID
	Groups    []ID
}

// EncodeConfirmRemoved makes the command's bytes.
func EncodeConfirmRemoved(c ConfirmRemoved) []byte {
	w := newCommand(kindConfirmRemoved, c.RequestID)
	w.ID(c.DirID)
	w.Count(len(c.Groups))
	for _, g := range c.Groups {
		w.ID(g)
	}
	return w.Data()
}

func (r *reader) confirmRemoved() ConfirmRemoved {
	c := ConfirmRemoved{DirID: r.ID()}
	for range r.Count(16) {
		c.Groups = append(c.Groups, r.ID())
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
	ReasonBrokerNotFound   Reason = "BROKER_NOT_FOUND"
	ReasonBrokerInUse      Reason = "BROKER_IN_USE"
	ReasonMajorityLost     Reason = "MAJORITY_LOST"
	ReasonInProgress       Reason = "CHANGE_IN_PROGRESS"
	ReasonNotUpgraded      Reason = "CLUSTER_NOT_UPGRADED"
	ReasonTooOld           Reason = "BROKER_TOO_OLD"
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
	w.Str(string(x.Reason))
	w.Str(x.Message)
	w.ID(x.Topic)
	w.U64(uint64(x.First))
	return w.Data()
}

// DecodeResult reads the answer to a command.
func DecodeResult(b []byte) (Result, error) {
	r := newReader(b)
	x := Result{Reason: Reason(r.Str()), Message: r.Str(), Topic: r.ID(), First: int64(r.U64())}
	if err := r.End(); err != nil {
		return Result{}, fmt.Errorf("result: %w", err)
	}
	return x, nil
}
