package security

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// sessionPrefix begins the tokens that this broker hands out; what has it not is a signed token.
const sessionPrefix = "lgs_"

// Bounds of proofs.
const (
	tokenBytesMax     = 8 << 10
	sessionsMax       = 100_000
	sessionValid      = time.Hour
	principalBytesMax = 255
)

// Who tells who makes calls, by certificate or by token. It is safe for concurrent use.
type Who struct {
	source  *Source // of the client listener; nil: no certificates
	cluster string
	key     crypto.PublicKey // nil: no signed tokens
	methods []string
	hasUser func(string) bool
	now     func() time.Time

	mu       sync.Mutex
	sessions map[[32]byte]session // by hash: a dump of memory shows no token
}

type session struct {
	user string
	ends time.Time
}

// NewWho makes the teller. keyFile is a PEM file with a public key, "" for none; hasUser tells whether a user exists: the tokens of
// one that is deleted are over.
func NewWho(source *Source, cluster, keyFile string, hasUser func(string) bool, now func() time.Time) (*Who, error) {
	w := &Who{source: source, cluster: cluster, hasUser: hasUser, now: now, sessions: map[[32]byte]session{}}
	if keyFile == "" {
		return w, nil
	}
	err := eachBlock(keyFile, "PUBLIC KEY", func(der []byte) (err error) {
		w.key, err = x509.ParsePKIXPublicKey(der)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("auth.token-key: %w", err)
	}
	switch k := w.key.(type) {
	case ed25519.PublicKey:
		w.methods = []string{"EdDSA"}
	case *ecdsa.PublicKey:
		w.methods = []string{fmt.Sprintf("ES%d", map[int]int{256: 256, 384: 384, 521: 512}[k.Curve.Params().BitSize])}
	case *rsa.PublicKey:
		w.methods = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	default:
		return nil, fmt.Errorf("auth.token-key: %s holds a %T: want Ed25519, ECDSA or RSA", keyFile, k)
	}
	return w, nil
}

// Who is the principal of a call: of the token it carries, else of its certificate, else "". A wrong token is an error even beside a
// good certificate. fresh tells later whether the proof still holds.
func (w *Who) Who(ctx context.Context) (principal string, fresh func() bool, err error) {
	principal, fresh, err = w.whoIs(ctx)
	if err == nil && principal != "" {
		proved(ctx)
	}
	return principal, fresh, err
}

// Strike notes that a call on the connection of ctx sent what no client sends.
func (w *Who) Strike(ctx context.Context) {
	if caller, ok := peer.FromContext(ctx); ok {
		if c, ok := caller.AuthInfo.(connInfo); ok && c.conn.strikes.Add(1) >= strikesMax {
			c.conn.proven.Store(false)
		}
	}
}

// Taken returns what is to be called whenever a call has taken a message: what it held is counted no more.
func (w *Who) Taken(ctx context.Context) (taken func()) {
	c, id := connOf(ctx), streamNumber(ctx)
	if c == nil || id == 0 {
		return func() {}
	}
	return func() { c.streams.taken(id, c.floods.ms(time.Now())) }
}

// streamNumber is the number of a call's stream in its connection, 0 if there is none. gRPC knows it and does not tell: it is read where
// gRPC keeps it, and TestTaken is red if that is elsewhere.
func streamNumber(ctx context.Context) uint32 {
	s := reflect.ValueOf(grpc.ServerTransportStreamFromContext(ctx))
	if s.Kind() != reflect.Pointer || s.Elem().Kind() != reflect.Struct {
		return 0
	}
	if id := s.Elem().FieldByName("id"); id.Kind() == reflect.Uint32 {
		return uint32(id.Uint())
	}
	return 0
}

func (w *Who) whoIs(ctx context.Context) (principal string, fresh func() bool, err error) {
	always := func() bool { return true }
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	switch len(values) {
	case 0:
	case 1:
		return w.token(values[0])
	default:
		return "", nil, errors.New("more than one authorization was sent")
	}
	if w.source == nil {
		return "", always, nil
	}
	state, err := tlsState(ctx)
	if err != nil {
		return "", always, nil // no certificate: anonymous
	}
	name := state.PeerCertificates[0].Subject.CommonName
	if name == "" || len(name) > principalBytesMax {
		return "", nil, errors.New("the certificate's common name is empty or too long: it is the principal")
	}
	var last *Verdict
	if c := connOf(ctx); c != nil {
		last = &c.good
	}
	if err := w.source.StillGoodOn(last, state, w.now()); err != nil {
		return "", nil, err
	}
	return name, func() bool { return w.source.StillGoodOn(last, state, w.now()) == nil }, nil
}

func (w *Who) token(header string) (string, func() bool, error) {
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "bearer") || len(token) > tokenBytesMax {
		return "", nil, errors.New("authorization is not of the form: Bearer TOKEN")
	}
	if strings.HasPrefix(token, sessionPrefix) {
		return w.session(token)
	}
	if w.key == nil {
		return "", nil, errors.New("this broker takes no signed tokens (auth.token-key)")
	}
	claims := jwt.RegisteredClaims{}
	_, err := jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return w.key, nil },
		jwt.WithValidMethods(w.methods), jwt.WithAudience(w.cluster), jwt.WithExpirationRequired(), jwt.WithTimeFunc(w.now))
	if err != nil {
		return "", nil, fmt.Errorf("the token is not taken: %w", err)
	}
	if claims.Subject == "" || len(claims.Subject) > principalBytesMax {
		return "", nil, errors.New("the token's subject is empty or too long: it is the principal")
	}
	ends := claims.ExpiresAt.Time
	return claims.Subject, func() bool { return w.now().Before(ends) }, nil
}

func (w *Who) session(token string) (string, func() bool, error) {
	key := sha256.Sum256([]byte(token))
	good := func() (session, bool) {
		w.mu.Lock()
		s, ok := w.sessions[key]
		w.mu.Unlock()
		return s, ok && w.now().Before(s.ends) && w.hasUser(s.user)
	}
	s, ok := good()
	if !ok {
		return "", nil, errors.New("the session is over or of another broker: authenticate again")
	}
	return s.user, func() bool { _, ok := good(); return ok }, nil
}

// open hands out a token for a user that has proved itself.
func (w *Who) open(user string) (token string, valid time.Duration, err error) {
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", 0, err
	}
	token = sessionPrefix + base64.RawURLEncoding.EncodeToString(raw[:])
	now := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sessions) >= sessionsMax {
		for k, s := range w.sessions {
			if !now.Before(s.ends) {
				delete(w.sessions, k)
			}
		}
	}
	if len(w.sessions) >= sessionsMax {
		return "", 0, fmt.Errorf("%d sessions are open: try another broker", sessionsMax)
	}
	w.sessions[sha256.Sum256([]byte(token))] = session{user, now.Add(sessionValid)}
	return token, sessionValid, nil
}
