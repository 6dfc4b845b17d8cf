package core

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	pb "lograft/api/lograft/v1"
)

func (c *Consumer) metadata(now int64, a *MetadataAnswer, eff *ConsumerEffects) {
	if a.Response != nil {
		c.meta.merge(a.Response)
	}
	for _, t := range c.topics {
		if !slices.Contains(a.Topics, t.Topic) || a.Watched && !t.known {
			continue
		}
		if !a.Watched {
			t.asked = false
		}
		if t.known {
			c.moved(now, t, a, eff)
		} else {
			c.found(now, t, a, eff)
		}
	}
	if !slices.ContainsFunc(c.topics, func(t *subscribed) bool { return !t.known }) {
		c.checkTokens(eff)
	}
}

// found takes the answer to the first look for a topic.
func (c *Consumer) found(now int64, t *subscribed, a *MetadataAnswer, eff *ConsumerEffects) {
	err := a.Err
	if err == nil {
		m := topicIn(a.Response, t.Topic)
		if m == nil {
			c.endTopic(t, eff, TopicNotFound(t.Topic))
			return
		}
		if err = t.meant(m); err == nil {
			c.open(t, m, eff)
			return
		}
	}
	if Refused(err.Reason) {
		c.endTopic(t, eff, err)
		return
	}
	t.last = err
	t.tries++
	t.askAt = now + Backoff(c.opts.Rand, t.tries)
}

func topicIn(r *pb.GetMetadataResponse, name string) *pb.Topic {
	for _, m := range r.GetTopics() {
		if m.GetName() == name {
			return m
		}
	}
	return nil
}

// meant says why m is not the incarnation of the topic that was named, or not all of it: the broker that answered may be behind.
func (t *subscribed) meant(m *pb.Topic) *Error {
	if t.TopicID == nil || bytes.Equal(t.TopicID, m.GetId()) && int(slices.Max(t.Partitions)) < len(m.GetPartitions()) {
		return nil
	}
	return &Error{Reason: reasonUnknownPartition, Message: fmt.Sprintf("partition %v of topic %q (id %x) is not known yet, or the topic was created again", t.Partitions, t.Topic, t.TopicID)}
}

// open begins to read the partitions of a topic that was found.
func (c *Consumer) open(t *subscribed, m *pb.Topic, eff *ConsumerEffects) {
	t.known, t.id, t.opened = true, m.GetId(), len(m.GetPartitions())
	want := t.Partitions
	if want == nil {
		for i := range m.GetPartitions() {
			want = append(want, int32(i))
		}
	}
	for _, n := range want {
		c.openPartition(t, m, n, eff)
	}
}

func (c *Consumer) openPartition(t *subscribed, m *pb.Topic, n int32, eff *ConsumerEffects) {
	if n < 0 || int(n) >= len(m.GetPartitions()) {
		c.endTopic(t, eff, &Error{Reason: ReasonInvalid, Message: fmt.Sprintf("topic %q has partitions 0 to %d: there is no partition %d", t.Topic, len(m.GetPartitions())-1, n)})
		return
	}
	r := &reading{topic: t, number: n, topicID: m.GetId(), nodes: replicaNodes(m.GetPartitions()[n]), offset: -1, startAt: -1, stopAt: -1, lineage: newLineage()}
	r.session = c.tokenOf(m.GetPartitions()[n].GetGroup())
	if c.opts.Replica != 0 {
		if !slices.Contains(r.nodes, c.opts.Replica) {
			c.endTopic(t, eff, &Error{Reason: ReasonInvalid, Message: fmt.Sprintf("node %d has no replica of %s/%d: its replicas are on nodes %s", c.opts.Replica, t.Topic, n, list(r.nodes))})
			return
		}
		r.nodes = []uint64{c.opts.Replica}
	} else {
		r.turn = c.opts.Rand.IntN(len(r.nodes))
	}
	if p := t.Start; p.From == Absolute && (t.Stop == nil || t.Stop.From == Absolute) {
		r.resolved, r.offset, r.stop = true, p.Offset, -1
		if t.Epoch > 0 {
			r.lineage.epoch = t.Epoch
		}
		if t.Stop != nil {
			r.stop = t.Stop.Offset
		}
	}
	c.parts = append(c.parts, r)
}

// refusedForGood is how long a partition was not readable when a refusal ends it: longer than it takes to log in anew.
const refusedForGood = int64(3e9)

// moved takes what became of a topic that is read: replicas on other nodes, more partitions, its end.
func (c *Consumer) moved(now int64, t *subscribed, a *MetadataAnswer, eff *ConsumerEffects) {
	refused := a.Err != nil && Refused(a.Err.Reason)
	if a.Err != nil && !refused {
		return // it is asked again when its replicas have failed once more
	}
	m := topicIn(a.Response, t.Topic)
	certain := !a.Watched && c.opts.Consistency != pb.Consistency_CONSISTENCY_COMMITTED
	for _, r := range c.parts {
		switch {
		case r.ended || r.topic != t && r.topic.of != t:
		case refused: // the user or his rights are gone, unless it is only a session that a broker forgot when it was started again
			if r.failing > 0 && now-r.failing >= refusedForGood {
				c.end(r, eff, a.Err)
			}
		case m != nil && bytes.Equal(r.topicID, m.GetId()):
			if int(r.number) < len(m.GetPartitions()) {
				c.follow(now, r, m.GetPartitions()[r.number])
			}
		case !certain:
		case m == nil:
			c.end(r, eff, TopicNotFound(t.Topic))
		default:
			c.end(r, eff, &Error{Reason: ReasonTopicNotFound, Message: fmt.Sprintf("topic %q was deleted and created again: its records are others now", t.Topic)})
		}
	}
	if m == nil || !bytes.Equal(t.id, m.GetId()) || t.Partitions != nil || t.Stop != nil {
		return
	}
	for ; t.opened < len(m.GetPartitions()); t.opened++ { // from their beginning: all that is in them came after this consumer began
		added := &subscribed{Subscription: Subscription{Topic: t.Topic, Start: Position{From: FromStart}}, known: true, of: t}
		c.openPartition(added, m, int32(t.opened), eff)
	}
}

// follow reads a partition from where its replicas are now.
func (c *Consumer) follow(now int64, r *reading, p *pb.Partition) {
	nodes := replicaNodes(p)
	if c.opts.Replica != 0 || len(nodes) == 0 || slices.Equal(slices.Sorted(slices.Values(nodes)), slices.Sorted(slices.Values(r.nodes))) {
		return
	}
	r.nodes, r.turn = nodes, c.opts.Rand.IntN(len(nodes))
	if r.waiting == 0 {
		r.tries, r.retryAt = 0, now
	}
}

func list(nodes []uint64) string {
	sorted := slices.Sorted(slices.Values(nodes))
	words := make([]string, len(sorted))
	for i, n := range sorted {
		words[i] = fmt.Sprint(n)
	}
	return strings.Join(words, ", ")
}
