// Package cluster is the metadata group's state machine (architecture D10, D21): which brokers there are, which topics, where
// their partitions live and under which ids. State is a pure function of the commands that it applied: the same commands give the
// same bytes in Snapshot on every broker.
//
// A View is an immutable picture of the state for everyone else. Plan says what one broker must do to match a view.
//
// Limitations: the brokers are those of the cluster's birth; the partitions of a topic never become fewer.
package cluster
