package cli

import (
	"strconv"
	"strings"
	"time"

	"lograft/client"
)

// parseOffset reads -o: a position, or FROM:TO. A time may contain colons itself.
func parseOffset(s string, now time.Time) (from client.Position, to *client.Position, err error) {
	if from, err = parsePosition(s, "start", now); err == nil {
		return from, nil, nil
	}
	for i := range len(s) {
		if s[i] != ':' {
			continue
		}
		a, errA := parsePosition(s[:i], "start", now)
		b, errB := parsePosition(s[i+1:], "end", now)
		if errA != nil || errB != nil {
			continue
		}
		if a.From == b.From && a.Offset > b.Offset {
			return a, nil, usagef("-o %s ends before it begins", s)
		}
		return a, &b, nil
	}
	if strings.HasPrefix(s, "@") {
		return from, nil, usagef("-o %w", err)
	}
	return from, nil, usagef("-o %w, or FROM:TO", err)
}

// parsePosition reads one position, absent for an empty one. Its errors do not name the flag.
func parsePosition(s, absent string, now time.Time) (client.Position, error) {
	if s == "" {
		s = absent
	}
	switch s {
	case "start", "beginning", "earliest":
		return client.AtStart(0), nil
	case "end", "latest":
		return client.AtEnd(0), nil
	}
	if at, ok := strings.CutPrefix(s, "@"); ok {
		ms, ok := parseTime(at, now)
		if !ok {
			return client.Position{}, usagef("%q: want a time: @now, @-1h30m, @2026-01-02, @2026-01-02T15:04:05Z, or seconds or milliseconds since 1970", s)
		}
		return client.AtTime(ms), nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil:
		return client.Position{}, usagef("%q: want start, end, an offset N, +N, -N or @TIME", s)
	case s[0] == '+':
		return client.AtStart(n), nil
	case s[0] == '-':
		return client.AtEnd(n), nil
	}
	return client.AtOffset(n), nil
}

// secondsMax is where a number of seconds since 1970 ends (in the year 2286) and one of milliseconds begins (in April 1970).
const secondsMax = int64(1e10)

// parseTime reads a time as ms since 1970.
func parseTime(s string, now time.Time) (ms int64, ok bool) {
	if s == "now" {
		return now.UnixMilli(), true
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
		if n < secondsMax {
			n *= 1000
		}
		return n, true
	}
	if d, err := time.ParseDuration(s); err == nil && d <= 0 {
		return now.Add(d).UnixMilli(), true
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t.UnixMilli(), true
		}
	}
	return 0, false
}
