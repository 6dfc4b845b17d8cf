package sim

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "lograft/api/lograft/v1"
	"lograft/broker/rpc"
	"lograft/client/core"
)

// topics is an admin that creates and deletes topics. Each command is repeated with its request id until its outcome is known.
type topics struct {
	r       *Run
	stopped bool
	made    int
	exists  map[string]bool // as the last certain answer says
	busy    string          // the command under way
	names   []string
}

func newTopics() *topics { return &topics{exists: map[string]bool{}} }

// Start implements Load.
func (l *topics) Start(r *Run) {
	l.r = r
	r.After(r.between(100e6, 3e9), l.more)
}

func (l *topics) more() {
	if l.stopped {
		return
	}
	var there []string
	for _, name := range l.names {
		if l.exists[name] {
			there = append(there, name)
		}
	}
	if len(there) > 0 && (l.made >= 4 || l.r.percent(50)) {
		l.delete(there[l.r.rng.IntN(len(there))])
		return
	}
	if l.made < 4 {
		l.create()
		return
	}
}

func (l *topics) create() {
	l.made++
	name := fmt.Sprint("extra-", l.made)
	l.names = append(l.names, name)
	id := l.r.requestID()
	req := &pb.CreateTopicRequest{Name: name, Partitions: 1, ReplicationFactor: 3, RequestId: id[:]}
	l.command("create "+name, req, func(e *rpc.Env) rpc.Session { return rpc.NewCreateTopic(e) }, func() { l.exists[name] = true })
}

func (l *topics) delete(name string) {
	id := l.r.requestID()
	req := &pb.DeleteTopicRequest{Name: name, RequestId: id[:]}
	l.command("delete "+name, req, func(e *rpc.Env) rpc.Session { return rpc.NewDeleteTopic(e) }, func() { l.exists[name] = false })
}

// command asks again until it knows.
func (l *topics) command(what string, req proto.Message, begin func(*rpc.Env) rpc.Session, done func()) {
	l.busy = what
	l.r.call(l.r.anyAddress(), req, begin, func(_ proto.Message, err *core.Error) {
		switch {
		case err == nil:
			l.r.Log("admin: %s is done", what)
			done()
			l.busy = ""
			l.r.After(l.r.between(200e6, 4e9), l.more)
		case core.Retriable(err.Reason):
			l.r.After(l.r.between(100e6, 1e9), func() { l.command(what, req, begin, done) })
		default:
			l.r.Break("admin: %s: %s %s", what, err.Reason, err.Message)
		}
	})
}

// Stop implements Load.
func (l *topics) Stop() { l.stopped = true }

// Waiting implements Load.
func (l *topics) Waiting() string {
	if l.busy == "" {
		return ""
	}
	return "the admin waits for: " + l.busy
}

// Check implements Load: every broker knows exactly the topics that the answers left, and keeps no files of the others.
func (l *topics) Check(r *Run) error {
	for _, n := range r.nodes {
		for _, name := range l.names {
			if _, there := n.parts.View().TopicByName(name); there != l.exists[name] {
				return fmt.Errorf("node %d: topic %s is there: %t, the answers say %t", n.id, name, there, l.exists[name])
			}
		}
		groups, err := n.fs.List(dataDir + "/groups")
		if err != nil {
			return err
		}
		for _, g := range groups {
			if !n.hosts(g) {
				return fmt.Errorf("node %d still has files of group %s, which the metadata does not know", n.id, g)
			}
		}
	}
	return nil
}

// hosts reports whether the metadata places a group of this name on a broker.
func (n *Node) hosts(group string) bool {
	if group == fmt.Sprintf("%x", n.parts.MetaGroup) {
		return true
	}
	v := n.parts.View()
	for _, t := range v.Topics() {
		for i := range t.Partitions {
			if p := &t.Partitions[i]; fmt.Sprintf("%x", p.Group) == group {
				for _, r := range p.Replicas {
					if r.NodeID == n.id {
						return true
					}
				}
			}
		}
	}
	return false
}
