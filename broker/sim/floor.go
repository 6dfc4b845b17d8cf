package sim

import (
	"fmt"
	"slices"
)

// floors are how often each fault must have happened in 100 seeds, about a third of the mean: a gentle simulation proves nothing.
func floors() map[string]int {
	f := map[string]int{
		"power cut at a disk call":     25,
		"answer lost":                  200,
		"disk error on sync":           4,
		"disk error on write":          2,
		"disk error on read":           2,
		"disk error on syncdir":        2,
		"linearizable answer":          4000,
		"acknowledged append":          10000,
		"acknowledged and stable":      1000,
		"append of unknown outcome":    150,
		"failed append":                800,
		"damage repaired":              1,
		"leader change":                2000,
		"vote and stable":              300,
		"segment sealed":               300,
		"old copy refused":             300,
		"directory registered":         8,
		"members: partition moved":     20,
		"members: replica replaced":    35,
		"members: sent back":           1,
		"members: rebalance":           10,
		"members: decommission":        8,
		"membership settled":           100,
		"replica retired":              200,
		"trim":                         80,
		"group seek repeated":          10,
		"group seek":                   24,
		"committed offset sought back": 25,
		"record aged out":              800,
		"fill begun":                   50,
		"snapshot installed":           200,
		"end of a fill":                5,
		"frame lost":                   3000,
		"frame twice":                  3000,
	}
	for _, fault := range AllFaults() {
		f[fault.Name] = 4 * fault.Weight
	}
	f["bit flip in a sealed segment"] = 2 // not every group has one
	f["directory lost"] = 8               // again only when all that it held is replaced
	f["old copy put back"] = 6            // and all others have met a start that is not in it
	return f
}

// gentleSeeds is the smallest sample that floors are asked of: below it one that is fine falls under a floor by chance (of 60 seeds two in
// a hundred do, of 300 fewer than one in 100,000).
const gentleSeeds = 200

// Gentle names what so many seeds saw too little of; few seeds may see anything.
func Gentle(total map[string]int, seeds int) (missing []string) {
	if seeds < gentleSeeds {
		return nil
	}
	for name, per100 := range floors() {
		if want := per100 * seeds / 100; total[name] < want {
			missing = append(missing, fmt.Sprintf("%s: %d in %d seeds, want %d", name, total[name], seeds, want))
		}
	}
	slices.Sort(missing)
	return missing
}

// tally adds what happened in the run besides faults to its counts.
func (r *Run) tally() {
	f := r.Counts.Faults
	f["linearizable answer"] = r.History.Reads()
	for _, a := range r.History.Appends() {
		f[outcomeNames[a.Outcome]]++
	}
	f["turned bit that nothing read"], f["damage repaired"] = len(r.unread), r.Counts.Repairs
	f["fill begun"], f["snapshot installed"] = r.Counts.Fills, r.Counts.Installs
	f["leader change"], f["segment sealed"] = r.Counts.LeaderChanges, r.Counts.Seals
	f["frame lost"], f["frame twice"] = r.Counts.FramesLost, r.Counts.FramesDup
}

var outcomeNames = [...]string{"append of unknown outcome", "acknowledged append", "failed append"}
