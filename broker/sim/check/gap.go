package check

import (
	"fmt"
	"slices"
)

// Gaps is C8 seen by writers: the times between acknowledgements that were longest after each of some events, as a kill of the leader.
// Times are ns; acks must be sorted.
func Gaps(events, acks []int64) (gaps []int64) {
	for i, at := range events {
		end := int64(1<<63 - 1)
		if i+1 < len(events) {
			end = events[i+1]
		}
		n, _ := slices.BinarySearch(acks, at)
		before, longest := at, int64(0)
		for ; n < len(acks) && before < end; n++ {
			longest = max(longest, acks[n]-before)
			before = acks[n]
		}
		gaps = append(gaps, longest)
	}
	return gaps
}

// GapStatistic is the median and the longest of gaps, in units of one election timeout.
type GapStatistic struct {
	Events      int
	Median, Max float64
}

// Statistic of gaps, with the length of an election timeout in ns.
func Statistic(gaps []int64, electionTimeout int64) GapStatistic {
	if len(gaps) == 0 {
		return GapStatistic{}
	}
	sorted := slices.Sorted(slices.Values(gaps))
	unit := float64(electionTimeout)
	return GapStatistic{Events: len(sorted), Median: float64(sorted[len(sorted)/2]) / unit, Max: float64(sorted[len(sorted)-1]) / unit}
}

// String is a line for a report.
func (s GapStatistic) String() string {
	return fmt.Sprintf("%d events: gap in acknowledged writes median %.2f, max %.2f election timeouts", s.Events, s.Median, s.Max)
}
