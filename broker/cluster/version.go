package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Commands are numbered by versions, so that brokers of two builds can run side by side: a command or field of version N is proposed
// only once the cluster's active version is N or more, and the active version is raised to N (RaiseCommands) only when every broker has
// registered with a build that carries out N. It is never lowered (Kafka's metadata.version, CockroachDB's cluster version).

// CommandsKnown is the newest version that this build carries out.
const CommandsKnown = 4

// commandsFirst is what builds know that do not say what they know.
const commandsFirst = 1

// Feature is something that brokers of older builds would refuse beside newer ones that carry it out.
type Feature uint8

// The features, with the version that brought them in the table below.
const (
	FeatureStaticMembers Feature = iota
	FeatureConnectionQuotas
	FeatureRacks
	FeatureCommitEpochs
)

var features = []struct {
	name  string
	since uint32
}{
	FeatureStaticMembers:    {"static members of consumer groups", 2},
	FeatureConnectionQuotas: {"quotas of connections", 2},
	FeatureRacks:            {"racks and brokers that are away", 3},
	FeatureCommitEpochs:     {"leader epochs of committed offsets", 4},
}

// String is the feature's name for people.
func (f Feature) String() string { return features[f].name }

// Since is the version of commands that brought the feature.
func (f Feature) Since() uint32 { return features[f].since }

// ErrTooOld is wrapped by what ends a broker whose build does not know the cluster's commands.
var ErrTooOld = errors.New("BROKER_TOO_OLD")

// A broker says what it knows behind its version, as "VERSION (commands N)": builds that know nothing of it keep the text as it is.
const (
	knownBegin = " (commands "
	knownEnd   = ")"
)

// SayKnown is what a broker of this build registers as its version. Not more than addrBytesMax come of it.
func SayKnown(version string, known uint32) string {
	said := knownBegin + strconv.FormatUint(uint64(known), 10) + knownEnd
	return version[:min(len(version), addrBytesMax-len(said))] + said
}

// parseVersion parts what a broker registered into its build and the commands that it knows.
func parseVersion(s string) (build string, known uint32) {
	at := strings.LastIndex(s, knownBegin)
	if at < 0 || !strings.HasSuffix(s, knownEnd) {
		return s, commandsFirst
	}
	n, err := strconv.ParseUint(s[at+len(knownBegin):len(s)-len(knownEnd)], 10, 32)
	if err != nil || n < commandsFirst {
		return s, commandsFirst
	}
	return s[:at], uint32(n)
}

// Build is the version of the broker's program, without what it knows.
func (b *Broker) Build() string {
	build, _ := parseVersion(b.Version)
	return build
}

// Commands is the newest version of commands that the broker's build carries out.
func (b *Broker) Commands() uint32 {
	_, known := parseVersion(b.Version)
	return known
}

// oldest is what keeps the active version from being raised: the node that knows least of those whose directories are
// registered. registered is false if it has not said yet what it knows; node is 0 if there is no broker.
func oldest(seats []Seat, brokers []Broker) (node uint64, known uint32, registered bool) {
	for _, seat := range seats {
		if seat.DirID == (ID{}) {
			continue
		}
		at, ok := findBroker(brokers, seat.NodeID)
		knows := uint32(commandsFirst)
		if ok = ok && brokers[at].DirID == seat.DirID; ok {
			knows = brokers[at].Commands()
		}
		if node == 0 || knows < known {
			node, known, registered = seat.NodeID, knows, ok
		}
	}
	return node, known, registered
}

// Raisable is the version that the active one can be raised to now: the lowest that all brokers know; at most what this build knows.
func (v *View) Raisable() uint32 {
	_, known, _ := oldest(v.seats, v.brokers)
	return min(known, CommandsKnown)
}

// Oldest is the broker that knows the fewest commands, and the newest version that it knows; 0, 0 without brokers.
func (v *View) Oldest() (node uint64, known uint32) {
	node, known, _ = oldest(v.seats, v.brokers)
	return node, known
}

// Allows reports whether a feature may be used. If it may not, message names who is in the way, and soon says that nobody is: the
// version is about to be raised.
func (v *View) Allows(f Feature) (ok, soon bool, message string) {
	if v.Commands >= f.Since() {
		return true, false, ""
	}
	node, known, registered := oldest(v.seats, v.brokers)
	switch {
	case node != 0 && !registered:
		return false, true, fmt.Sprintf("%s need commands of version %d, the cluster's are of version %d: node %d has not registered yet", f, f.Since(), v.Commands, node)
	case known >= f.Since() || node == 0:
		return false, true, fmt.Sprintf("%s need commands of version %d, which every broker knows: the cluster is about to raise its own, %d", f, f.Since(), v.Commands)
	}
	build := ""
	if b, ok := v.BrokerByID(node); ok {
		build = b.Build()
	}
	return false, false, fmt.Sprintf("%s need commands of version %d, the cluster's are of version %d: node %d runs build %q, which knows %d; start every broker with the newer build (broker cluster info)", f, f.Since(), v.Commands, node, build, known)
}

// RaiseCommands raises the active version. It is refused while a broker does not know it; to the active one or below it changes nothing.
type RaiseCommands struct {
	RequestID ID
	To        uint32
}

// EncodeRaiseCommands makes the command's bytes.
func EncodeRaiseCommands(c RaiseCommands) []byte {
	w := newCommand(kindRaiseCommands, c.RequestID)
	w.U32(c.To)
	return w.Data()
}

// sinceOf is the version of commands that brought a kind.
func sinceOf(kind uint8) uint32 {
	switch kind {
	case kindRaiseCommands:
		return 2
	case kindSetAway:
		return FeatureRacks.Since()
	case kindForfeit:
		return 3
	}
	return commandsFirst
}

func (s *State) raiseCommands(index uint64, to uint32) Result {
	if to <= s.commands {
		return Result{}
	}
	node, known, _ := oldest(s.seats, s.brokers)
	switch {
	case node != 0 && known >= to:
	case s.commands == commandsFirst:
		return malformed(kindRaiseCommands) // what builds say that never heard of it
	default:
		return Result{Reason: ReasonNotUpgraded, Message: fmt.Sprintf("commands of version %d: node %d knows %d; start every broker with the newer build", to, node, known)}
	}
	s.commands = to
	s.changed(index)
	return Result{}
}

// checkKnown refuses a broker whose build does not carry out what the cluster's do.
func (s *State) checkKnown(c *RegisterBroker) Result {
	build, known := parseVersion(c.Version)
	if known >= s.commands {
		return Result{}
	}
	return Result{Reason: ReasonTooOld, Message: fmt.Sprintf("node %d runs build %q, which carries out commands of version %d, and the cluster's are of version %d: start it with the build of the others, or a newer one; the version is never lowered", c.NodeID, build, known, s.commands)}
}

// Fault says that the cluster's commands are of a version that this build does not carry out: nothing may be applied any more.
func (s *State) Fault() error {
	if s.commands <= s.known {
		return nil
	}
	return fmt.Errorf("%w: the cluster's commands are of version %d and this build carries out up to %d: start the broker with the build of the others, or a newer one; the version is never lowered", ErrTooOld, s.commands, s.known)
}

// forgetKnown keeps what a node registered, without what its build knew: another directory may come with another build. Before the first raise
// it stays as older builds keep it.
func (s *State) forgetKnown(node uint64) {
	if s.commands == commandsFirst {
		return
	}
	if at, ok := findBroker(s.brokers, node); ok {
		s.brokers = slices.Clone(s.brokers)
		s.brokers[at].Version = s.brokers[at].Build()
	}
}
