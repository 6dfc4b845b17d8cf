package rpc

import (
	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// gate refuses what brokers of older builds would not carry out, while one of them may be in the cluster. ReasonNotReady: none is, and the
// cluster is about to allow it.
func gate(dir Directory, f cluster.Feature) *partition.Error {
	ok, soon, message := dir.View().Allows(f)
	switch {
	case ok:
		return nil
	case soon:
		return &partition.Error{Reason: partition.ReasonNotReady, Message: message, RetryAfterMs: leaderPollNs / 1e6}
	}
	return &partition.Error{Reason: partition.Reason(cluster.ReasonNotUpgraded), Message: message, RetryAfterMs: 1000}
}
