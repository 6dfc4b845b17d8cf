package transport

import (
	"context"
	"encoding/json"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// join answers a broker that asks to be registered.
func (m *Mesh) join(s grpc.ServerStream, asker Hello) error {
	ctx, cancel := context.WithTimeout(s.Context(), joinTimeout)
	defer cancel()
	answer, err := m.opts.Handler.Join(ctx, asker)
	if err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	return s.SendMsg(parts{b})
}

// Join asks the broker at addr, which should be `node` (0: any), to register the sender's directory.
func Join(ctx context.Context, addr string, node uint64, creds Credentials, mine Hello) (Joined, error) {
	conn, err := dial(addr, dialCredentials(creds, node))
	if err != nil {
		return Joined{}, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	mine.Join = true
	_, b, err := open(ctx, conn, mine)
	if err != nil {
		return Joined{}, fmt.Errorf("%s", status.Convert(err).Message())
	}
	var answer Joined
	if len(b) > joinedBytesMax {
		return answer, fmt.Errorf("answer of %d bytes, at most %d", len(b), joinedBytesMax)
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return answer, fmt.Errorf("answer: %w", err)
	}
	return answer, nil
}

// joinedBytesMax bounds the answer to a join.
const joinedBytesMax = 1 << 20
