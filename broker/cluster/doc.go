// Package cluster is the metadata group's state machine (architecture D10, D21): which brokers there are, which topics, where
// their partitions live and under which ids. State is a pure function of the commands that it applied: the same commands give the
// same bytes in Snapshot on every broker.
//
// A View is an immutable picture of the state for everyone else. Plan says what one broker must do to match a view.
//
// Who is in the cluster (seats.go) and where replicas shall be (moves.go, even.go) is decided here too: commands change what is wanted, the
// leaders of the groups make it so and report it, and State goes on from there. Whoever asked for it need not wait.
//
// Limitations: the partitions of a topic never become fewer.
package cluster
