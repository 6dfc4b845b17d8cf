package security

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/metadata"
)

func withToken(token string) context.Context {
	return metadata.NewIncomingContext(context.Background(), metadata.Pairs("authorization", "Bearer "+token))
}

// A signed token is taken only with our key, its algorithm, our cluster, a subject and a time to end, and only until then.
func TestSignedTokens(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(public))(t)})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	w := must(NewWho(nil, "prod", file, func(string) bool { return true }, func() time.Time { return now }))(t)
	claims := func(change func(*jwt.RegisteredClaims)) jwt.RegisteredClaims {
		c := jwt.RegisteredClaims{Subject: "alice", Audience: jwt.ClaimStrings{"prod"}, ExpiresAt: jwt.NewNumericDate(now.Add(time.Minute))}
		change(&c)
		return c
	}
	signed := func(m jwt.SigningMethod, key any, c jwt.RegisteredClaims) string {
		return must(jwt.NewWithClaims(m, c).SignedString(key))(t)
	}
	same := func(*jwt.RegisteredClaims) {}
	good := signed(jwt.SigningMethodEdDSA, private, claims(same))
	name, fresh, err := w.Who(withToken(good))
	if name != "alice" || err != nil || !fresh() {
		t.Fatalf("a good token: %q, %v", name, err)
	}
	for what, token := range map[string]string{
		"another key":         signed(jwt.SigningMethodEdDSA, stranger, claims(same)),
		"no signature":        signed(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(same)),
		"the key as a secret": signed(jwt.SigningMethodHS256, []byte(text), claims(same)),
		"another cluster":     signed(jwt.SigningMethodEdDSA, private, claims(func(c *jwt.RegisteredClaims) { c.Audience = jwt.ClaimStrings{"test"} })),
		"no audience":         signed(jwt.SigningMethodEdDSA, private, claims(func(c *jwt.RegisteredClaims) { c.Audience = nil })),
		"no end":              signed(jwt.SigningMethodEdDSA, private, claims(func(c *jwt.RegisteredClaims) { c.ExpiresAt = nil })),
		"over":                signed(jwt.SigningMethodEdDSA, private, claims(func(c *jwt.RegisteredClaims) { c.ExpiresAt = jwt.NewNumericDate(now) })),
		"not yet":             signed(jwt.SigningMethodEdDSA, private, claims(func(c *jwt.RegisteredClaims) { c.NotBefore = jwt.NewNumericDate(now.Add(time.Second)) })),
		"nobody":              signed(jwt.SigningMethodEdDSA, private, claims(func(c *jwt.RegisteredClaims) { c.Subject = "" })),
		"changed":             good[:len(good)-4] + "AAAA",
		"a session of nobody": sessionPrefix + "AAAA",
		"too long":            strings.Repeat("x", tokenBytesMax+1),
		"empty":               "",
	} {
		if name, _, err := w.Who(withToken(token)); err == nil || name != "" {
			t.Errorf("%s: taken as %q", what, name)
		}
	}
	two := metadata.NewIncomingContext(context.Background(), metadata.Pairs("authorization", "Bearer "+good, "authorization", "Bearer "+good))
	if _, _, err := w.Who(two); err == nil {
		t.Error("two authorizations were taken")
	}
	now = now.Add(time.Minute)
	if fresh() {
		t.Error("a token is fresh after its end")
	}
}

// A session ends with its time, and with its user.
func TestSessions(t *testing.T) {
	now, there := time.Unix(1_800_000_000, 0), true
	w := must(NewWho(nil, "prod", "", func(string) bool { return there }, func() time.Time { return now }))(t)
	token, valid, err := w.open("bob")
	if err != nil {
		t.Fatal(err)
	}
	name, fresh, err := w.Who(withToken(token))
	if name != "bob" || err != nil || !fresh() {
		t.Fatalf("%q, %v", name, err)
	}
	there = false
	if _, _, err := w.Who(withToken(token)); err == nil || fresh() {
		t.Error("a deleted user's session goes on")
	}
	there = true
	now = now.Add(valid)
	if _, _, err := w.Who(withToken(token)); err == nil || fresh() {
		t.Error("a session goes on after its time")
	}
	if _, _, err := w.Who(withToken("eyJh.eyJz.c2ln")); err == nil {
		t.Error("a signed token was taken by a broker without a key")
	}
}
