package rpc

import (
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
)

// Every method of every service has a row in the table of rights, and every row is a method. A new method fails here until rules.go
// says what it wants of its caller.
func TestEveryMethodHasARule(t *testing.T) {
	srv := grpc.NewServer()
	NewServer(&Env{}, nil).Register(srv)
	healthpb.RegisterHealthServer(srv, health.NewServer())
	reflection.Register(srv)
	there := map[string]bool{}
	for service, info := range srv.GetServiceInfo() {
		for _, m := range info.Methods {
			name := "/" + service + "/" + m.Name
			there[name] = true
			r, ok := rules[name]
			if !ok {
				t.Errorf("%s is in no row of rules.go: say what rights it wants", name)
			}
			if r.public && (r.needs != nil || r.items || r.filter != nil) {
				t.Errorf("%s is public and wants rights", name)
			}
		}
	}
	for name := range rules {
		if !there[name] && !strings.HasPrefix(name, httpPath) { // package broker walks the paths
			t.Errorf("rules.go has a row for %s, which no service has", name)
		}
	}
}
