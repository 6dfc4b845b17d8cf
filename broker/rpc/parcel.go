package rpc

import (
	"context"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"lograft/internal/buffers"
)

// parcel is the answers of one round on their way: what they hold of the budgets is given back when gRPC holds none of them any more, or
// their connection is closed. A nil parcel holds nothing.
type parcel struct {
	messages atomic.Int64 // that gRPC, or who will give them to gRPC, still has
	give     func()       // takes effect once
}

// parcelOf makes a parcel of n messages of a call.
func (e *Env) parcelOf(ctx context.Context, n int, give func()) *parcel {
	p := &parcel{}
	if e.Hold != nil {
		p.give = e.Hold(ctx, give)
	} else {
		p.give = sync.OnceFunc(give)
	}
	p.messages.Store(int64(n))
	if n == 0 {
		p.give()
	}
	return p
}

// freed says that gRPC has let go of one of the messages.
func (p *parcel) freed() {
	if p != nil && p.messages.Add(-1) == 0 {
		p.give()
	}
}

// drop gives back what a parcel holds that is not sent.
func (p *parcel) drop() {
	if p != nil {
		p.give()
	}
}

type unaryKey struct{}

// unaryAnswer passes what the answer of a unary call holds to who sends it.
type unaryAnswer struct {
	parcel *parcel
	lent   *buffers.Loan // the garbage collector's if the answer is not sent
}

func withAnswer(ctx context.Context) (context.Context, *unaryAnswer) {
	a := &unaryAnswer{}
	return context.WithValue(ctx, unaryKey{}, a), a
}

// send hands the answer to gRPC.
func (a *unaryAnswer) send(m any, sendMsg func(any) error) error {
	o := outgoing{message: m.(proto.Message), lent: a.lent, parcel: a.parcel}
	err := sendMsg(o.wire())
	if err != nil {
		a.parcel.drop()
	}
	return err
}

// answerOf is where the parcel of a unary call's answer goes; nil if whoever sends it does not count.
func answerOf(ctx context.Context) *unaryAnswer {
	a, _ := ctx.Value(unaryKey{}).(*unaryAnswer)
	return a
}
