package security

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/xdg-go/scram"
)

// Verifier proves a password by SCRAM and does not hold it.
type Verifier struct {
	Salt                 []byte
	Iterations           int
	StoredKey, ServerKey []byte
}

// The mechanisms.
const (
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
)

// fakeIterations are those that are named for users that do not exist: what our client makes users with.
const fakeIterations = 15_000

// Scram proves passwords. It is safe for concurrent use.
type Scram struct {
	who     *Who
	lookup  func(user, mechanism string) (Verifier, bool)
	secret  [32]byte // makes the same false salt for the same unknown user, so that asking does not tell who exists
	servers map[string]*scram.Server
}

// NewScram makes the prover; lookup finds a user's verifier.
func NewScram(who *Who, lookup func(user, mechanism string) (Verifier, bool)) (*Scram, error) {
	s := &Scram{who: who, lookup: lookup, servers: map[string]*scram.Server{}}
	if _, err := rand.Read(s.secret[:]); err != nil {
		return nil, err
	}
	for name, hash := range map[string]scram.HashGeneratorFcn{ScramSHA256: scram.SHA256, ScramSHA512: scram.SHA512} {
		server, err := hash.NewServer(func(user string) (scram.StoredCredentials, error) { return s.credentials(user, name), nil })
		if err != nil {
			return nil, err
		}
		s.servers[name] = server
	}
	return s, nil
}

func (s *Scram) credentials(user, mechanism string) scram.StoredCredentials {
	if v, ok := s.lookup(user, mechanism); ok {
		return scram.StoredCredentials{KeyFactors: scram.KeyFactors{Salt: string(v.Salt), Iters: v.Iterations}, StoredKey: v.StoredKey, ServerKey: v.ServerKey}
	}
	mac := hmac.New(sha256.New, s.secret[:])
	fmt.Fprintf(mac, "%s %s", mechanism, user)
	sum := mac.Sum(nil)
	return scram.StoredCredentials{KeyFactors: scram.KeyFactors{Salt: string(sum[:16]), Iters: fakeIterations}, StoredKey: sum, ServerKey: sum}
}

// ErrScram is every failure of a proof: which part was wrong is not told.
var ErrScram = errors.New("user or password is wrong")

// Begin starts a conversation.
func (s *Scram) Begin(mechanism string) (*Conversation, error) {
	server := s.servers[mechanism]
	if server == nil {
		return nil, fmt.Errorf("mechanism %q: want %s or %s", mechanism, ScramSHA256, ScramSHA512)
	}
	return &Conversation{scram: s, mechanism: mechanism, conv: server.NewConversation()}, nil
}

// Conversation is one proof: client-first and client-final go in.
type Conversation struct {
	scram     *Scram
	mechanism string
	conv      *scram.ServerConversation
}

// Step takes the client's next message and gives the answer to it. token is set with the last one.
func (c *Conversation) Step(message string) (answer, token string, valid time.Duration, err error) {
	answer, err = c.conv.Step(message)
	switch {
	case err != nil:
		return "", "", 0, ErrScram
	case !c.conv.Done():
		return answer, "", 0, nil
	case !c.conv.Valid():
		return "", "", 0, ErrScram
	}
	user := c.conv.Username()
	if _, ok := c.scram.lookup(user, c.mechanism); !ok {
		return "", "", 0, ErrScram
	}
	if authz := c.conv.AuthzID(); authz != "" && authz != user {
		return "", "", 0, ErrScram // nobody acts for another
	}
	token, valid, err = c.scram.who.open(user)
	return answer, token, valid, err
}
