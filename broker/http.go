package broker

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/pprof"
	"runtime"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// httpHandler serves what operators and orchestrators ask (interface.md §5): /livez says that the loops run and the disk takes
// writes, never whether data is healthy; /readyz that this broker has joined and knows a leader for every group it hosts.
func (b *Broker) httpHandler() http.Handler {
	mux := http.NewServeMux()
	live := &liveness{}
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		if why := live.stuck(b.running.Load()); why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if why := b.notReady(); why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{"version": b.opts.Version, "go": runtime.Version()})
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(newRegistry(b), promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/block", whileAsked("block", func(on bool) { runtime.SetBlockProfileRate(choose(on, blockSampleNs)) }))
	mux.HandleFunc("/debug/pprof/mutex", whileAsked("mutex", func(on bool) { runtime.SetMutexProfileFraction(choose(on, mutexSampleEvery)) }))
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
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
