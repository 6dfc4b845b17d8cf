package broker

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Whoever asks for the metrics again and again gets them at a pace; who asks now and then does not wait.
func TestScrapesArePaced(t *testing.T) {
	const more = 5
	p := newPaced(prometheus.NewRegistry())
	began := time.Now()
	for range httpScrapesBurst + more {
		if _, err := p.Gather(); err != nil {
			t.Fatal(err)
		}
	}
	if took, least := time.Since(began), more*time.Second/httpScrapesRate; took < least*9/10 {
		t.Errorf("%d scrapes took %v, want %v at the least", httpScrapesBurst+more, took, least)
	}
}
