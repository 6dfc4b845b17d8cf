package core

// Identity is a producer id that a partition's leader remembers.
type Identity struct {
	Topic     string
	TopicID   []byte
	Partition int32
	ID        int64
	Epoch     int16
	Address   string // of the leader as far as known
}

// Identities are the ids under which everything is answered: when the program is done with the producer, the brokers may forget them.
func (p *Producer) Identities() (list []Identity) {
	p.each(func(q *partition) {
		if q.id >= 0 && q.nextSeq != 0 && q.broken == nil && len(q.batches) == 0 && q.target != "" {
			list = append(list, Identity{q.topic.name, q.topic.id, q.number, q.id, q.epoch, q.target})
		}
	})
	return list
}
