package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// LogReport is what an offline look at a data directory found.
type LogReport struct {
	Segments []LogSegment `json:"segments"`
	Journal  []LogJournal `json:"journal"`
	Other    []string     `json:"other"`    // files beside the segments, with what they are
	Problems []string     `json:"problems"` // what is damaged, missing or does not fit
}

// LogSegment is one segment file.
type LogSegment struct {
	Group      string `json:"group"`
	Segment    string `json:"segment"`
	First      uint64 `json:"first_index"`
	Last       uint64 `json:"last_index"` // first_index-1 if there is no good entry
	BaseOffset int64  `json:"base_offset"`
	NextOffset int64  `json:"next_offset"`
	Bytes      int64  `json:"bytes"`
	Entries    int    `json:"entries"` // good ones
	Sealed     bool   `json:"sealed"`
	Hash       string `json:"hash,omitempty"`
	Trailing   int64  `json:"trailing_bytes"` // behind the last good entry
}

// LogJournal is one of the journal's three logs.
type LogJournal struct {
	Log          string `json:"log"`
	Records      int    `json:"records"`
	LastSequence uint64 `json:"last_sequence"`
	Trailing     int    `json:"trailing_bytes"`
}

// LogEntry is one entry of a group's log.
type LogEntry struct {
	Group      string `json:"group"`
	Segment    string `json:"segment"`
	Position   int64  `json:"position"`
	Index      uint64 `json:"index"`
	Term       uint64 `json:"term"`
	Kind       string `json:"kind"`
	Offset     int64  `json:"offset"`
	Records    uint32 `json:"records"`
	AppendTime int64  `json:"append_time_ms"`
	Bytes      int    `json:"bytes"`
}

// logCommand is broker log: the files of a data directory, offline.
func (a *app) logCommand() *cobra.Command {
	c := &cobra.Command{Use: "log", Short: "Look at the files of a data directory, offline", Args: noArgs,
		Example: `  broker log inspect /data                 # every segment of every group, and the journal
  broker log inspect --entries /data/groups/0f...   # every entry of one group
  broker log verify /data                  # check every byte; exit code 1 if anything is damaged`,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	a.formatFlag(c)
	entries := false
	inspect := &cobra.Command{Use: "inspect DIR", Short: "List segments, checkpoints and journal", Args: oneDir,
		Example: `  broker log inspect /data
  broker log inspect --format json /data | jq .segments
  broker log inspect --entries /data/groups/0f...`,
		Long: "Reads a broker's data directory, or one directory below its groups/, and never changes it; the broker may be running, or the directory damaged. What is damaged is named on stderr.",
		RunE: func(_ *cobra.Command, args []string) error { return a.inspectLog(args[0], entries) }}
	inspect.Flags().BoolVar(&entries, "entries", false, "list every good entry instead; with --format json one object per line")
	verify := &cobra.Command{Use: "verify DIR", Short: "Check every byte of the logs against its checksums", Args: oneDir,
		Example: `  broker log verify /data && echo good
  broker log verify --format json /data`,
		Long: "Reads every byte of every segment, whether each continues the one before, checkpoints and journal, and never changes anything. Exit code 1 and the list if something is damaged; a running broker repairs it from its peers by itself.",
		RunE: func(_ *cobra.Command, args []string) error { return a.verifyLog(args[0]) }}
	accept, yes := false, false
	cut := &cobra.Command{Use: "recover DIR", Short: "Show, and with --accept-loss give up, the end of a damaged log that no other broker can repair", Args: oneDir,
		Example: `  broker log recover /data/groups/0f...                 # what would be lost; changes nothing
  broker log recover /data/groups/0f... --accept-loss   # the next start of the broker gives it up`,
		Long: "For a group of one replica whose log is refused at start, and for damage in the newest segment of every copy. DIR is one directory below the groups/ of a\n" +
			"broker's data directory, and the broker must be stopped. Everything from the first bad byte on is given up, what is whole behind it too; it is set\n" +
			"aside in DIR (*.cut). Offsets from there on are given to new records. Try everything else first: the other brokers, a copy of the files.",
		RunE: func(_ *cobra.Command, args []string) error { return a.cutLog(args[0], accept, yes) }}
	cut.Flags().BoolVar(&accept, "accept-loss", false, "give up what is shown without it")
	cut.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.AddCommand(inspect, verify, cut)
	return c
}

// LogCut is what giving up the end of a group's damaged log costs.
type LogCut struct {
	Dir       string   `json:"dir"`
	Needed    bool     `json:"needed"`  // false: nothing has to be given up, what follows is not set
	Refused   bool     `json:"refused"` // a start refuses the log; false: the broker runs with it
	KeptLast  uint64   `json:"kept_last_index"`
	LogStart  int64    `json:"log_start"`
	LostFrom  int64    `json:"lost_from"`        // offset: what is from here on is given up
	KnownLast uint64   `json:"known_last_index"` // the highest entry that is known to have been there
	KnownNext int64    `json:"known_next"`       // the highest next offset that can be read, at least LostFrom
	Problems  []string `json:"problems"`
	// Replicated: other replicas may hold what is given up, so that this one neither votes nor serves until it has caught up with a leader.
	Replicated bool `json:"replicated"`
	Accepted   bool `json:"accepted"` // the next start gives it up
}

func (a *app) cutLog(dir string, accept, yes bool) error {
	if err := a.checkFormat(); err != nil {
		return err
	}
	cut, err := a.hooks.CutLog(dir, false)
	if err != nil {
		return err
	}
	for _, p := range cut.Problems {
		fmt.Fprintln(a.Err, p)
	}
	if !cut.Needed {
		return fmt.Errorf("%s: a start finds nothing that a cut would end: nothing has to be given up", dir)
	}
	if accept {
		if err := a.confirm(yes, fmt.Sprintf("giving up records from offset %d on in %s", cut.LostFrom, dir)); err != nil {
			return err
		}
		if cut, err = a.hooks.CutLog(dir, true); err != nil {
			return err
		}
	}
	if a.format == "json" {
		return a.writeJSON(cut)
	}
	fmt.Fprintf(a.Out, "keeps entries up to %d: records [%d, %d)\ngives up entries %d to %d: records from %d on, of which those before %d were seen\n",
		cut.KeptLast, cut.LogStart, cut.LostFrom, cut.KeptLast+1, cut.KnownLast, cut.LostFrom, max(cut.KnownNext, cut.LostFrom))
	if !cut.Refused {
		fmt.Fprintln(a.Err, "the broker starts with this log and may be able to do better: start it, and look what `broker cluster recover TOPIC/P` says first")
	}
	if cut.Replicated {
		fmt.Fprintln(a.Err, "other replicas may hold what is cut: this one neither votes nor serves until it has caught up with a leader; where there is none, `broker cluster recover TOPIC/P --accept-loss` lets it vote")
	}
	if cut.Accepted {
		fmt.Fprintln(a.Err, "the next start of the broker gives it up")
	} else {
		fmt.Fprintln(a.Err, "nothing was changed: --accept-loss gives up what is shown")
	}
	return nil
}

func oneDir(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("%s takes one directory, got %d: see %s --help", c.CommandPath(), len(args), c.CommandPath())
	}
	return nil
}

func (a *app) inspectLog(dir string, entries bool) error {
	if err := a.checkFormat(); err != nil {
		return err
	}
	var each func(LogEntry) error
	rows := [][]string{{"INDEX", "TERM", "KIND", "OFFSET", "RECORDS", "BYTES", "APPENDED", "SEGMENT", "POSITION", "GROUP"}}
	if entries {
		each = func(e LogEntry) error {
			if a.format == "json" {
				return a.writeJSON(e)
			}
			rows = append(rows, []string{fmt.Sprint(e.Index), fmt.Sprint(e.Term), e.Kind, fmt.Sprint(e.Offset), fmt.Sprint(e.Records), fmt.Sprint(e.Bytes),
				time.UnixMilli(e.AppendTime).UTC().Format(time.RFC3339Nano), e.Segment, fmt.Sprint(e.Position), e.Group})
			if len(rows) == 1000 { // bounded memory; columns may shift between portions
				err := a.table(rows)
				rows = rows[:0]
				return err
			}
			return nil
		}
	}
	r, err := a.hooks.Log(dir, each)
	if err != nil {
		return err
	}
	switch {
	case entries && a.format == "text":
		err = a.table(rows)
	case entries:
	case a.format == "json":
		err = a.writeJSON(r)
	default:
		err = a.table(segmentRows(&r))
	}
	for _, line := range append(r.Other, r.Problems...) {
		if a.format == "text" && !entries || a.format == "text" && len(r.Problems) > 0 {
			fmt.Fprintln(a.Err, line)
		}
	}
	return err
}

func segmentRows(r *LogReport) [][]string {
	rows := [][]string{{"GROUP", "SEGMENT", "ENTRIES", "LAST-INDEX", "OFFSETS", "BYTES", "STATE", "HASH"}}
	for _, s := range r.Segments {
		state := "open"
		if s.Sealed {
			state = "sealed"
		}
		rows = append(rows, []string{s.Group, s.Segment, fmt.Sprint(s.Entries), fmt.Sprint(s.Last), fmt.Sprintf("[%d,%d)", s.BaseOffset, s.NextOffset), fmt.Sprint(s.Bytes), state, s.Hash[:min(16, len(s.Hash))]})
	}
	for _, j := range r.Journal {
		rows = append(rows, []string{"journal", j.Log, fmt.Sprint(j.Records), fmt.Sprint(j.LastSequence), "", "", "", ""})
	}
	return rows
}

func (a *app) verifyLog(dir string) error {
	if err := a.checkFormat(); err != nil {
		return err
	}
	r, err := a.hooks.Log(dir, nil)
	if err != nil {
		return err
	}
	if a.format == "json" {
		if err := a.writeJSON(r); err != nil {
			return err
		}
	} else {
		var bytes int64
		for _, s := range r.Segments {
			bytes += s.Bytes
		}
		for _, p := range r.Problems {
			if _, err := fmt.Fprintln(a.Out, p); err != nil {
				return err
			}
		}
		fmt.Fprintf(a.Err, "%d segments, %d bytes, %d problems\n", len(r.Segments), bytes, len(r.Problems))
	}
	if len(r.Problems) > 0 {
		return codeError(exitItemFailed)
	}
	return nil
}
