package sim

import (
	"fmt"
	"strings"
)

// Stats count what happened in one run or, after Add, in many.
type Stats struct {
	Runs, Events, Ticks, Readys, Messages, MessagesLost, MessagesDuplicated uint64

	Elections, Proposed, Refused, Committed, Applied                    uint64
	Crashes, PowerCuts, LostWrites, Truncations                         uint64
	Partitions, OneWay, Pauses, Damages, SlowFetches                    uint64
	SnapshotsInstalled, Compactions                                     uint64
	ConfChanges, ConfRefused, JointChanges                              uint64
	Reads, ReadsAnswered, ReadsNoLeader, ReadsRoleChanged, ReadsTimeout uint64
	ReadsLostInCrash                                                    uint64
	HealTicksMax                                                        uint64 // longest, not a sum
}

type figure struct {
	name  string
	value *uint64
}

func (s *Stats) figures() []figure {
	return []figure{
		{"runs", &s.Runs}, {"events", &s.Events}, {"ticks", &s.Ticks}, {"readys", &s.Readys},
		{"messages", &s.Messages}, {"messages lost", &s.MessagesLost}, {"messages duplicated", &s.MessagesDuplicated},
		{"elections won", &s.Elections}, {"proposed", &s.Proposed}, {"refused", &s.Refused},
		{"indexes committed", &s.Committed}, {"entries applied", &s.Applied},
		{"crashes", &s.Crashes}, {"power cuts", &s.PowerCuts}, {"crashes that lost writes", &s.LostWrites}, {"truncations", &s.Truncations},
		{"partitions", &s.Partitions}, {"one-way cuts", &s.OneWay}, {"pauses", &s.Pauses}, {"damaged ranges", &s.Damages}, {"slow fetches", &s.SlowFetches},
		{"snapshots installed", &s.SnapshotsInstalled}, {"compactions", &s.Compactions},
		{"conf changes", &s.ConfChanges}, {"conf changes refused at apply", &s.ConfRefused}, {"joint changes", &s.JointChanges},
		{"reads", &s.Reads}, {"reads answered", &s.ReadsAnswered}, {"reads dropped: no leader", &s.ReadsNoLeader},
		{"reads dropped: role changed", &s.ReadsRoleChanged}, {"reads dropped: timeout", &s.ReadsTimeout},
		{"reads lost in a crash", &s.ReadsLostInCrash}, {"ticks to heal, longest", &s.HealTicksMax},
	}
}

// Add sums o into s.
func (s *Stats) Add(o *Stats) {
	longest := max(s.HealTicksMax, o.HealTicksMax)
	mine, theirs := s.figures(), o.figures()
	for i := range mine {
		*mine[i].value += *theirs[i].value
	}
	s.HealTicksMax = longest
}

// String is one figure a line.
func (s *Stats) String() string {
	var b strings.Builder
	for _, f := range s.figures() {
		fmt.Fprintf(&b, "%-30s %12d\n", f.name, *f.value)
	}
	return b.String()
}

// Gentle names what a sample of many runs saw too little of: a gentle
// simulator proves nothing. The floors are per 100 runs, far under the mean.
func (s *Stats) Gentle() (missing []string) {
	floors := []struct {
		figure
		per100 uint64
	}{
		{figure{"elections", &s.Elections}, 300},
		{figure{"truncations", &s.Truncations}, 30},
		{figure{"crashes that lost writes", &s.LostWrites}, 30},
		{figure{"snapshots installed", &s.SnapshotsInstalled}, 50},
		{figure{"joint changes", &s.JointChanges}, 30},
		{figure{"dropped reads", ptr(s.ReadsNoLeader + s.ReadsRoleChanged + s.ReadsTimeout)}, 200},
		{figure{"answered reads", &s.ReadsAnswered}, 1000},
		{figure{"indexes committed", &s.Committed}, 2000},
		{figure{"slow fetches", &s.SlowFetches}, 20},
		{figure{"damaged ranges", &s.Damages}, 20},
	}
	for _, f := range floors {
		if want := f.per100 * s.Runs / 100; *f.value < want {
			missing = append(missing, fmt.Sprintf("%s: %d, want %d", f.name, *f.value, want))
		}
	}
	return missing
}

func ptr(v uint64) *uint64 { return &v }
