package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"lograft/broker/security"
)

// Bounds of the HTTP port. Its connections are few: whoever opens more is an attack or a mistake.
const (
	httpHeaderTimeout  = 5 * time.Second
	httpReadTimeout    = 10 * time.Second
	httpWriteTimeout   = 30 * time.Second // beyond the seconds that a profile takes
	httpIdleTimeout    = 30 * time.Second
	httpHeaderBytesMax = 16 << 10
	httpScrapesMax     = 4  // at once; more are told 503
	httpScrapesRate    = 20 // per second, beyond the first httpScrapesBurst; more wait
	httpScrapesBurst   = 20
	profileDefault     = 30 * time.Second // net/http/pprof's for a CPU profile
	profileSecondsMax  = 300
)

var httpLimits = security.Limits{Conns: 512, ConnsPerAddr: 64}

// httpServer serves what operators and orchestrators ask.
func (b *Broker) httpServer(n *node) *http.Server {
	return &http.Server{Handler: b.httpHandler(n.access), ReadHeaderTimeout: httpHeaderTimeout, ReadTimeout: httpReadTimeout, IdleTimeout: httpIdleTimeout, MaxHeaderBytes: httpHeaderBytesMax,
		ConnContext: withVerdict, ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelDebug)} // strangers must not fill a log
}

type verdictKey struct{}

// withVerdict gives a connection the verdict of its certificate, which is verified seldom, not for every request.
func withVerdict(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, verdictKey{}, &security.Verdict{})
}

// httpRoutes are all paths of the HTTP port (interface.md §5): /livez says that the loops run and the disk takes writes, never whether
// data is healthy; /readyz that this broker has joined and knows a leader for every group it hosts. broker/rpc/rules.go says who may.
func (b *Broker) httpRoutes() map[string]http.Handler {
	live := &liveness{}
	state := func(why func() string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if why := why(); why != "" {
				http.Error(w, why, http.StatusServiceUnavailable)
				return
			}
			fmt.Fprintln(w, "ok")
		})
	}
	return map[string]http.Handler{
		"/livez":  state(func() string { return live.stuck(b.running.Load()) }),
		"/readyz": state(b.notReady),
		"/version": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]string{"version": b.opts.Version, "go": runtime.Version()})
		}),
		"/metrics":             promhttp.HandlerFor(newPaced(newRegistry(b)), promhttp.HandlerOpts{MaxRequestsInFlight: httpScrapesMax}),
		"/debug/pprof/":        http.HandlerFunc(pprof.Index),
		"/debug/pprof/cmdline": http.HandlerFunc(pprof.Cmdline),
		"/debug/pprof/profile": http.HandlerFunc(pprof.Profile),
		"/debug/pprof/block":   whileAsked("block", func(on bool) { runtime.SetBlockProfileRate(choose(on, blockSampleNs)) }),
		"/debug/pprof/mutex":   whileAsked("mutex", func(on bool) { runtime.SetMutexProfileFraction(choose(on, mutexSampleEvery)) }),
		"/debug/pprof/symbol":  http.HandlerFunc(pprof.Symbol),
		"/debug/pprof/trace":   http.HandlerFunc(pprof.Trace),
	}
}

// paced gathers metrics so often and no oftener: each time costs milliseconds of a core, and who asks again and again would have them all.
// Those that wait are as many as promhttp lets pass.
type paced struct {
	prometheus.Gatherer
	pace *rate.Limiter
}

func newPaced(g prometheus.Gatherer) *paced {
	return &paced{g, rate.NewLimiter(httpScrapesRate, httpScrapesBurst)}
}

// Gather implements prometheus.Gatherer.
func (p *paced) Gather() ([]*dto.MetricFamily, error) {
	if err := p.pace.Wait(context.Background()); err != nil {
		return nil, err
	}
	return p.Gatherer.Gather()
}

// httpHandler asks at every path who calls, and takes nothing but GET: no request has a body that anybody reads.
func (b *Broker) httpHandler(a *access) http.Handler {
	mux := http.NewServeMux()
	for path, h := range b.httpRoutes() {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			if err := b.mayGet(a, r, path); err != nil {
				http.Error(w, status.Convert(err).Message(), http.StatusForbidden)
				return
			}
			seconds, err := profileSeconds(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(httpWriteTimeout + seconds))
			h.ServeHTTP(w, r)
		})
	}
	return mux
}

// mayGet judges a request. Before the broker has joined nobody's rights are known here: only super users see more than health.
func (b *Broker) mayGet(a *access, r *http.Request, path string) error {
	if a.http == nil || b.opts.Access.HTTPTLS.CA == "" {
		return nil
	}
	principal := ""
	verdict, _ := r.Context().Value(verdictKey{}).(*security.Verdict)
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && a.http.StillGoodOn(verdict, *r.TLS, time.Now()) == nil {
		principal = r.TLS.PeerCertificates[0].Subject.CommonName
	}
	if n := b.running.Load(); n != nil {
		return n.guard.HTTP(principal, r.RemoteAddr, path)
	}
	if path == "/livez" || path == "/readyz" || principal != "" && (!b.opts.Access.Required || slices.Contains(b.opts.Access.SuperUsers, principal)) {
		return nil
	}
	return status.Error(codes.PermissionDenied, "not joined yet: until then only a certificate of http-tls.ca that names one of auth.super-users sees more than /livez and /readyz")
}

// profileSeconds is how long the answer to a question about a profile takes.
func profileSeconds(r *http.Request) (time.Duration, error) {
	text := r.URL.Query().Get("seconds")
	if text == "" {
		return profileDefault, nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n > 0 && n <= profileSecondsMax) {
		return 0, fmt.Errorf("seconds=%.20s: want up to %d", text, profileSecondsMax)
	}
	return max(time.Duration(n*float64(time.Second)), profileDefault), nil // pprof reads a fraction as its default
}

// notReady says why this broker should get no traffic yet, "" if it should.
func (b *Broker) notReady() string {
	n := b.running.Load()
	if n == nil {
		return "not joined: waiting for the brokers of --initial-cluster"
	}
	return n.notReady()
}

func (n *node) notReady() string {
	if n.draining.Load() {
		return "draining"
	}
	if _, ok := n.parts.View().BrokerByID(n.opts.NodeID); !ok {
		return "not registered in the metadata yet: no metadata leader was reached"
	}
	if all, _, leaderless := n.dir.led(); leaderless > 0 {
		return fmt.Sprintf("%d of %d groups here know no leader", leaderless, all)
	}
	return ""
}

// Rates of profiles that cost something: one event per so many ns of waiting, one of so many contended locks.
const (
	blockSampleNs    = 10_000
	mutexSampleEvery = 20
)

func choose(on bool, rate int) int {
	if on {
		return rate
	}
	return 0
}

// whileAsked serves a profile that is switched on only for the seconds that the question names.
func whileAsked(name string, enable func(on bool)) http.HandlerFunc {
	h := pprof.Handler(name)
	return func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("seconds") != "" {
			enable(true)
			defer enable(false)
		}
		h.ServeHTTP(w, r)
	}
}
