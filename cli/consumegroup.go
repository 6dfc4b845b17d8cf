package cli

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"lograft/client"
)

// leaveTimeout is how long a member that ends may take to commit what it wrote and to leave.
const leaveTimeout = 6 * time.Second

// groupOptions reads the flags of consume -g.
func (o *consumeOptions) groupOptions(c *cobra.Command, topics []string) (client.GroupOptions, error) {
	g := client.GroupOptions{Group: o.group, Topics: topics, ManualMark: true, StopAtEnd: o.toEnd, InstanceID: o.instance, SessionTimeout: o.session, PollTimeout: o.poll, Timeout: o.timeout}
	if o.group == "" {
		return g, usagef("-g wants the name of a group")
	}
	for _, name := range []string{"partitions", "replica", "tail"} {
		if c.Flags().Changed(name) {
			return g, usagef("--%s and -g exclude each other: the group says who reads which partition from where", name)
		}
	}
	switch o.commit {
	case "auto":
	case "none":
		g.NoCommit = true
	default:
		return g, usagef("--commit %q: want auto or none", o.commit)
	}
	switch o.offset {
	case "start", "beginning", "earliest":
		g.Reset = client.ResetStart
	case "end", "latest":
		g.Reset = client.ResetEnd
	case "none":
		g.Reset = client.ResetNone
	default:
		return g, usagef("-o %s with -g: want start, end or none, for partitions without a committed offset; to move a group: broker group seek %s --to %s", o.offset, o.group, o.offset)
	}
	if o.session < time.Second || o.session > 30*time.Minute {
		return g, usagef("--session-timeout %v: want 1s to 30m", o.session)
	}
	if o.poll < time.Second || o.poll > 24*time.Hour {
		return g, usagef("--poll-timeout %v: want 1s to 24h", o.poll)
	}
	if o.count < 0 || o.idle < 0 || o.timeout < 0 {
		return g, usagef("-n, --idle-timeout and --timeout want 0 or more")
	}
	switch o.consistency {
	case "linearizable":
	case "committed":
		g.Consistency = client.Committed
	default:
		return g, usagef("--consistency %q: want linearizable or committed", o.consistency)
	}
	return g, nil
}

// consumeGroup reads as a member of a group. What was written to standard output is committed, at the latest when it ends.
func (a *app) consumeGroup(c *cobra.Command, topics []string, o *consumeOptions) error {
	opts, err := o.groupOptions(c, topics)
	if err != nil {
		return err
	}
	w, k, err := a.writerAndClient(o)
	if err != nil {
		return err
	}
	defer k.Close()
	g, err := k.NewGroupConsumer(opts)
	if err != nil {
		return asUsage(err)
	}
	w.done, w.flushedAt = g.Mark, time.Now()
	w.follows = !o.toEnd
	a.hint(o, w, "reading as a member of group "+o.group)
	err = a.write(c.Context(), g, o, w)
	leave, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), leaveTimeout)
	defer cancel()
	if err == nil || errors.Is(err, context.Canceled) {
		if committed := g.Commit(leave); committed != nil && !errors.Is(committed, syscall.EPIPE) {
			err = errors.Join(err, fmt.Errorf("what was written last could not be committed and will be read again: %w", committed))
		}
	}
	g.Close(leave)
	return asUsage(err)
}
