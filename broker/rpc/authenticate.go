package rpc

import (
	"errors"
	"io"
	"time"

	pb "lograft/api/lograft/v1"
	"lograft/broker/partition"
)

// Prover begins the proof of a password by a mechanism.
type Prover func(mechanism string) (Proof, error)

// Proof is one conversation: what the client says goes in, what it is told comes out, with a token at the end.
type Proof interface {
	Step(message string) (answer, token string, valid time.Duration, err error)
}

// Bounds of proving passwords.
const (
	proofStepsMax    = 2
	proofMessageMax  = 4 << 10
	wrongProofSlowBy = 500 * time.Millisecond // guessing takes time
)

// Authenticate implements lograft.v1. The guard bounds how many proofs are under way and how long each may take.
func (s *Server) Authenticate(g pb.AccessService_AuthenticateServer) error {
	refuse := func(why string) error {
		return toStatus(s.env.Dir, &partition.Error{Reason: partition.ReasonUnauthenticated, Message: why})
	}
	if s.env.Prove == nil {
		return refuse("this broker knows no passwords")
	}
	var proof Proof
	for range proofStepsMax {
		m, err := g.Recv()
		if errors.Is(err, io.EOF) {
			return refuse("the proof was broken off")
		}
		if err != nil {
			return err
		}
		if len(m.GetMessage()) > proofMessageMax {
			return refuse("a message of the proof is too long")
		}
		if proof == nil {
			if proof, err = s.env.Prove(m.GetMechanism()); err != nil {
				return refuse(err.Error())
			}
		}
		answer, token, valid, err := proof.Step(m.GetMessage())
		if err != nil {
			time.Sleep(wrongProofSlowBy)
			return refuse(err.Error())
		}
		if err := g.Send(&pb.AuthenticateResponse{Message: answer, Token: token, ValidMs: valid.Milliseconds()}); err != nil || token != "" {
			return err
		}
	}
	return refuse("the proof has too many messages")
}
