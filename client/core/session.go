package core

import "bytes"

// A session token is the id of a partition's group and the index that a replica had applied, big-endian: of two tokens of one group the
// greater bytes are the later state.
const groupBytes = 16

// tokenOf is the token given for a group, nil if there is none.
func (c *Consumer) tokenOf(group []byte) (token []byte) {
	if !c.opts.Session {
		return nil
	}
	for _, t := range c.opts.Tokens {
		if len(t) > groupBytes && bytes.Equal(t[:groupBytes], group) && bytes.Compare(t, token) > 0 {
			token = t
		}
	}
	return token
}

// checkTokens ends everything if a token's promise can't be kept: it is looked at once, when every topic is known.
func (c *Consumer) checkTokens(eff *ConsumerEffects) {
	if c.checked {
		return
	}
	c.checked = true
	err := c.strayToken()
	if err == nil {
		return
	}
	eff.Ended = append(eff.Ended, PartitionEnd{Topic: c.topics[0].Topic, Partition: -1, Offset: -1, Err: err})
	for _, r := range c.parts {
		r.ended = true
	}
}

// strayToken says that a token is of no partition of the topics that are read: its promise could not be kept. Tokens of partitions that
// are not read of these topics say nothing.
func (c *Consumer) strayToken() *Error {
	if !c.opts.Session {
		return nil
	}
tokens:
	for _, token := range c.opts.Tokens {
		for _, t := range c.topics {
			for _, p := range c.meta.Topics[t.Topic].GetPartitions() {
				if len(token) > groupBytes && bytes.Equal(token[:groupBytes], p.GetGroup()) {
					continue tokens
				}
			}
		}
		return &Error{Reason: ReasonInvalid, Message: "a session token is of no partition of the topics that are read: it is of another topic, or the topic was created again"}
	}
	return nil
}

// sawSession keeps the newest state that this consumer was shown: the next replica must know it.
func (c *Consumer) sawSession(r *reading, token []byte) {
	if c.opts.Session && bytes.Compare(token, r.session) > 0 {
		r.session = token
	}
}

// wantsTime is the position by time to be asked for next, nil if there is none.
func (r *reading) wantsTime() *int64 {
	switch {
	case r.topic.Start.From == AtTime && r.startAt < 0:
		return &r.topic.Start.Offset
	case r.topic.Stop != nil && r.topic.Stop.From == AtTime && r.stopAt < 0:
		return &r.topic.Stop.Offset
	}
	return nil
}

// takeTime keeps the offset of the time that was asked for and reports whether another one is wanted.
func (r *reading) takeTime(offset int64) bool {
	switch {
	case r.topic.Start.From == AtTime && r.startAt < 0:
		r.startAt = offset
	case r.topic.Stop != nil && r.topic.Stop.From == AtTime && r.stopAt < 0:
		r.stopAt = offset
	}
	return r.wantsTime() != nil
}
