package main

import (
	"encoding/hex"
	"fmt"

	"lograft/broker"
	"lograft/cli"
	"lograft/segment"
)

// inspectLogs reads a data directory for broker log.
func inspectLogs(dir string, entry func(cli.LogEntry) error) (cli.LogReport, error) {
	var each func(string, uint64, int64, segment.Frame) error
	if entry != nil {
		each = func(group string, base uint64, position int64, f segment.Frame) error {
			return entry(cli.LogEntry{Group: group, Segment: fmt.Sprintf("%020d.log", base), Position: position, Index: f.Index, Term: f.Term, Kind: f.Kind.String(),
				Offset: f.Offset, Records: f.Count, AppendTime: f.AppendTime, Bytes: len(f.Payload)})
		}
	}
	found, err := broker.InspectOffline(dir, each)
	out := cli.LogReport{Segments: []cli.LogSegment{}, Journal: []cli.LogJournal{}, Other: []string{}, Problems: []string{}}
	for _, g := range found.Groups {
		for _, i := range g.Segments {
			s := cli.LogSegment{Group: hex.EncodeToString(i.Group[:]), Segment: i.Name, First: i.Base, Last: i.Last, BaseOffset: i.BaseOffset, NextOffset: i.NextOffset,
				Bytes: i.Bytes, Entries: i.Frames, Sealed: i.Sealed, Trailing: i.Trailing}
			if i.Sealed {
				s.Hash = hex.EncodeToString(i.Hash[:])
			}
			out.Segments = append(out.Segments, s)
		}
		for _, o := range g.Other {
			out.Other = append(out.Other, g.Dir+"/"+o)
		}
		for _, p := range g.Problems {
			out.Problems = append(out.Problems, g.Dir+"/"+p)
		}
	}
	for _, j := range found.Journal {
		out.Journal = append(out.Journal, cli.LogJournal{Log: j.Name, Records: j.Records, LastSequence: j.Last, Trailing: j.Trailing})
		switch {
		case j.Missing:
			out.Problems = append(out.Problems, fmt.Sprintf("journal %s is missing", j.Name))
		case j.Gaps > 0:
			out.Problems = append(out.Problems, fmt.Sprintf("journal %s: %d places hold no record", j.Name, j.Gaps))
		}
	}
	return out, err
}

// cutLog gives up the end of a damaged log for broker log recover.
func cutLog(dir string, accept bool) (cli.LogCut, error) {
	c, err := broker.RecoverOffline(dir, accept)
	return cli.LogCut{Dir: c.Dir, Needed: c.Needed, Refused: c.Refused, KeptLast: c.KeptLast, LogStart: c.LogStart, LostFrom: c.KeptNext, KnownLast: c.KnownLast, KnownNext: c.KnownNext,
		Problems: append([]string{}, c.Problems...), Replicated: c.Replicated, Accepted: c.Accepted}, err
}
