package cli

import (
	"testing"
	"time"

	"lograft/client"
)

// -o with times, and ranges of them, also of times that contain colons.
func TestParseOffsetTimes(t *testing.T) {
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	ms := func(d time.Duration) client.Position { return client.AtTime(now.Add(d).UnixMilli()) }
	day := client.AtTime(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC).UnixMilli())
	clock := client.AtTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixMilli())
	for _, c := range []struct {
		in   string
		from client.Position
		to   *client.Position
	}{
		{"start", client.AtStart(0), nil}, {"end", client.AtEnd(0), nil}, {"7", client.AtOffset(7), nil}, {"+7", client.AtStart(7), nil}, {"-7", client.AtEnd(-7), nil},
		{"3:9", client.AtOffset(3), at(client.AtOffset(9))}, {":end", client.AtStart(0), at(client.AtEnd(0))}, {":9", client.AtStart(0), at(client.AtOffset(9))},
		{"3:", client.AtOffset(3), at(client.AtEnd(0))}, {"-5:-2", client.AtEnd(-5), at(client.AtEnd(-2))},
		{"@now", ms(0), nil}, {"@-1h", ms(-time.Hour), nil}, {"@-1h:@now", ms(-time.Hour), at(ms(0))}, {"@-1h30m:", ms(-90 * time.Minute), at(client.AtEnd(0))},
		{"@1700000000", client.AtTime(1_700_000_000_000), nil}, {"@1700000000123", client.AtTime(1_700_000_000_123), nil}, {"@2026-01-02", day, nil},
		{"@2026-01-02T03:04:05Z", clock, nil}, {"@2026-01-02:@2026-01-02T03:04:05", day, at(clock)}, {"@2026-01-02T03:04:05Z:@now", clock, at(ms(0))},
	} {
		from, to, err := parseOffset(c.in, now)
		if err != nil || from != c.from || (to == nil) != (c.to == nil) || to != nil && *to != *c.to {
			t.Errorf("-o %s: %+v to %+v, %v; want %+v to %+v", c.in, from, to, err, c.from, c.to)
		}
	}
	for _, bad := range []string{"x", "1:2:3", "9:3", "@", "@soon", "@1h", "@now:@-1h", "3:x"} {
		if from, to, err := parseOffset(bad, now); err == nil {
			t.Errorf("-o %s is taken as %+v to %+v", bad, from, to)
		}
	}
}

func at(p client.Position) *client.Position { return &p }
