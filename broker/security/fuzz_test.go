package security

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/xdg-go/scram"
	"google.golang.org/grpc/metadata"
)

// Whatever a client says in a proof, nobody without the password gets a token, and nothing panics.
func FuzzScram(f *testing.F) {
	who, err := NewWho(nil, "prod", "", func(string) bool { return true }, time.Now)
	if err != nil {
		f.Fatal(err)
	}
	client, err := scram.SHA256.NewClient("alice", "swordfish", "")
	if err != nil {
		f.Fatal(err)
	}
	made, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "0123456789abcdef", Iters: 4096})
	if err != nil {
		f.Fatal(err)
	}
	verifier := Verifier{Salt: []byte("0123456789abcdef"), Iterations: 4096, StoredKey: made.StoredKey, ServerKey: made.ServerKey}
	s, err := NewScram(who, func(user, _ string) (Verifier, bool) { return verifier, user == "alice" })
	if err != nil {
		f.Fatal(err)
	}
	f.Add("SCRAM-SHA-256", "n,,n=alice,r=abcdef", "c=biws,r=abcdef,p=AAAA")
	f.Add("SCRAM-SHA-512", "y,a=root,n=ali=2Cce,r=x", "c=eSws,r=x,p=")
	f.Add("SCRAM-SHA-256", "p=tls-unique,,n=alice,r=abc", "c=cD10bHMtdW5pcXVlLCw=,r=abc,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=")
	f.Add("SCRAM-SHA-1", "", "")
	f.Fuzz(func(t *testing.T, mechanism, first, final string) {
		c, err := s.Begin(mechanism)
		if err != nil {
			return
		}
		for _, m := range []string{first, final, final} {
			_, token, _, err := c.Step(m)
			if token != "" {
				t.Fatalf("a token for %q, %q", first, final)
			}
			if err != nil {
				return
			}
		}
	})
}

// Whatever stands in an authorization header, only the token that our key signed says who its bearer is, and nothing panics.
func FuzzToken(f *testing.F) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		f.Fatal(err)
	}
	file := filepath.Join(f.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		f.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	w, err := NewWho(nil, "prod", file, func(string) bool { return true }, func() time.Time { return now })
	if err != nil {
		f.Fatal(err)
	}
	good, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.RegisteredClaims{Subject: "alice", Audience: jwt.ClaimStrings{"prod"}, ExpiresAt: jwt.NewNumericDate(now.Add(time.Hour))}).SignedString(private)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("Bearer " + good)
	f.Add("bearer lgs_AAAA")
	f.Add("Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.")
	f.Add("Bearer " + strings.Repeat(".", 100))
	f.Add("Basic cm9vdDpyb290")
	signed := good[:strings.LastIndexByte(good, '.')]
	f.Fuzz(func(t *testing.T, header string) {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", header))
		name, fresh, err := w.Who(ctx)
		if err != nil {
			if name != "" || fresh != nil {
				t.Fatalf("%q with %v", name, err)
			}
			return
		}
		if name != "alice" || !strings.Contains(header, signed) {
			t.Fatalf("%q says who its bearer is: %q", header, name)
		}
	})
}

// Whatever SAN a certificate has, it is a broker's only in the one form that a broker's has.
func FuzzBrokerOf(f *testing.F) {
	f.Add("lograft://cluster/c/node/3")
	f.Add("lograft://cluster/a%2Fb/node/18446744073709551616")
	f.Add("lograft://cluster/c/node/3?x=1#y")
	f.Add("lograft:opaque")
	f.Fuzz(func(t *testing.T, san string) {
		u, err := url.Parse(san)
		if err != nil {
			return
		}
		cluster, node, err := BrokerOf(&x509.Certificate{URIs: []*url.URL{u}})
		if err != nil {
			if cluster != "" && node != 0 {
				t.Fatalf("%q is node %d of %q with %v", san, node, cluster, err)
			}
			return
		}
		if !strings.HasPrefix(strings.ToLower(san), "lograft://") || !strings.Contains(san, "cluster/") {
			t.Fatalf("%q is node %d of %q", san, node, cluster)
		}
	})
}

// Whatever a client sends in place of frames, and whatever the broker answers, nothing panics, no less than nothing is held, no more than
// came, and nothing when the connection is closed.
func FuzzFrames(f *testing.F) {
	f.Add([]byte(preface), []byte{})
	call := append(frameOn(1, frameHeaders, 4, make([]byte, 20)), frameOn(1, frameData, flagPadded, append([]byte{9}, message(100)...))...)
	f.Add(append([]byte(preface), call...), frameOn(1, frameReset, 0, make([]byte, 4)))
	f.Add(append([]byte(preface), frameOn(1, frameData, flagPadded|flagDataLast, []byte{255})...), []byte("HTTP/1.1"))
	f.Fuzz(func(t *testing.T, sent, answered []byte) {
		floods, c, _, _ := handshaken(t, true)
		now := time.Unix(1_800_000_000, 0)
		for _, p := range [][]byte{sent[:len(sent)/2], sent[len(sent)/2:]} {
			c.scan(p, now)
			c.written.scan(answered, c.noteWritten)
			_ = c.settle(now)
			if held := floods.Unfinished(); held < 0 || held > int64(len(sent)) {
				t.Fatalf("%d bytes are held of %d that were sent", held, len(sent))
			}
		}
		_ = c.Close()
		if held := floods.Unfinished(); held != 0 {
			t.Fatalf("%d bytes are held by a connection that is closed", held)
		}
	})
}
