// Package group is consumer groups (architecture D17): State is the replicated state machine of one partition of the internal topic
// `__groups`, Coordinator is what its leader adds to it: who was heard when, and who waits for an assignment.
//
// Every decision about a group is a command in the log and a pure function of the commands before it: who is a member, which
// partitions each member holds, which offsets are committed. So a new leader knows all of it, and no two of them can decide
// differently. Only liveness is the leader's alone: it says "expire this member" in a command that is judged again where it is
// applied.
//
// # Assignment
//
// A group has a target: each partition of the subscribed topics belongs to one member, as evenly as the subscriptions allow, moved
// as little as possible. Separately, each member holds partitions. A partition that a member holds and that its target no longer has
// is withdrawn: the member is told, goes on committing, and acknowledges when it has stopped. Only then, or when the member leaves
// or expires, it is granted to the member that the target names.
//
//	Invariant: a partition is held by at most one member.
//
// Every change of who holds or is told what raises the group's generation; a grant remembers the generation it was made in (Since). A
// member commits under the generation that it was told last: a commit for a partition that it does not hold, or under a generation
// before the grant, is refused with STALE_GENERATION and has no effect (Kafka's KIP-848 and KIP-1251). A commit of a member never
// lowers an offset: a retry that comes late changes nothing. One of a higher leader epoch does, because the log has lost what is committed;
// `group seek` does, in an empty group.
//
// A command of a kind that this build does not know (Fault) stops the replica: a broker that is too old must not go on beside newer ones
// with another state.
package group
