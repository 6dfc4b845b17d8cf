package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	httpTimeout  = 5 * time.Second
	httpBytesMax = 64 << 20
)

// getHTTP reads a page of a broker's HTTP port: with TLS where the client has a configuration for it and the port takes it.
func getHTTP(ctx context.Context, addr, path string, secure *tls.Config, wait time.Duration) ([]byte, error) {
	if addr == "" {
		return nil, errors.New("the broker has no HTTP port: set --http-listen")
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if secure != nil {
		if b, err := getURL(ctx, "https://"+addr+path, secure); err == nil {
			return b, nil
		}
	}
	return getURL(ctx, "http://"+addr+path, nil)
}

func getURL(ctx context.Context, url string, secure *tls.Config) ([]byte, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: secure}}).Do(q)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, httpBytesMax))
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", r.Status, bytes.TrimSpace(b[:min(len(b), 200)]))
	}
	return b, err
}

// scrapeNumbers are a broker's metrics by name, summed over labels; nil if they can't be had.
func scrapeNumbers(ctx context.Context, addr string, secure *tls.Config) map[string]float64 {
	text, err := getHTTP(ctx, addr, "/metrics", secure, httpTimeout)
	if err != nil {
		return nil
	}
	return parseNumbers(text)
}

func parseNumbers(text []byte) map[string]float64 {
	m := map[string]float64{}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		line := s.Text()
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		name, _, _ := strings.Cut(line[:at], "{")
		if v, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
			m[name] += v
		}
	}
	return m
}
