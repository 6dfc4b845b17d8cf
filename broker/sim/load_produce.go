package sim

import (
	"fmt"

	"lograft/broker/sim/check"
	"lograft/client/core"
)

// produce is a program with an idempotent producer: the real client's core on streams that break.
type produce struct {
	name    string
	r       *Run
	p       *Producer
	stopped bool
	given   int
	appends map[*Sent]*check.Append
}

func newProduce(i int) *produce {
	return &produce{name: fmt.Sprint("producer-", i), appends: map[*Sent]*check.Append{}}
}

// Start implements Load.
func (l *produce) Start(r *Run) {
	l.r = r
	l.p = r.NewProducer()
	l.p.ended = l.end
	l.more()
}

func (l *produce) more() {
	if l.stopped {
		return
	}
	r := l.r
	if l.p.Waiting() < 60 {
		part := r.part().Number
		var batch []*Sent
		for range 1 + r.rng.IntN(12) {
			l.given++
			s := &Sent{Key: l.name, Value: fmt.Sprintf("%s/%d", l.name, l.given)}
			l.appends[s] = r.begin(l.name, l.given, part, s.Value, noCondition)
			batch = append(batch, s)
		}
		l.p.ProduceTo(r.Topic.Name, part, batch...)
	}
	r.After(r.between(5e6, 600e6), l.more)
}

func (l *produce) end(s *Sent) {
	a := l.appends[s]
	delete(l.appends, s)
	switch err := s.Result.Err; {
	case err == nil:
		a.Ack(l.r.now, s.Result.Offset)
		l.r.acked(s.Result.Partition)
	case err.Outcome == core.OutcomeFailed:
		a.Fail(l.r.now, -1)
	}
}

// Quit ends the program.
func (l *produce) Quit() { l.p.Quit() }

// Stop implements Load.
func (l *produce) Stop() { l.stopped = true }

// Waiting implements Load.
func (l *produce) Waiting() string {
	if n := l.p.Waiting(); n > 0 {
		return fmt.Sprintf("%s waits for %d results", l.name, n)
	}
	return ""
}

// Check implements Load: nothing in a run lasts as long as the delivery timeout, so every record was acknowledged.
func (l *produce) Check(*Run) error {
	for _, s := range l.p.Sent {
		if s.Result.Err != nil {
			return fmt.Errorf("%s: record %s ended with %v", l.name, s.Value, s.Result.Err)
		}
	}
	return nil
}
