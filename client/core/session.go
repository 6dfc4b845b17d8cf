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
