package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Settings are a topic's effective settings: what was given, and the defaults of the rest.
type Settings struct {
	RetentionMs    int64 // records older than this go, by append time; -1: never
	RetentionBytes int64 // of one partition: the oldest segments beyond it go; -1: no limit
	SegmentBytes   int64 // a segment ends at this size
	MessageBytes   int64 // largest record batch
	LogAppendTime  bool  // records get the broker's append time as their timestamp
	// Version is the metadata index of the command that set them: a partition never goes back to older ones.
	Version uint64
}

// Keys of topic settings, as in Kafka.
const (
	ConfigRetentionMs    = "retention.ms"
	ConfigRetentionBytes = "retention.bytes"
	ConfigSegmentBytes   = "segment.bytes"
	ConfigMessageBytes   = "max.message.bytes"
	ConfigTimestampType  = "message.timestamp.type"
)

// Unlimited is the value of a retention setting that keeps everything.
const Unlimited = int64(-1)

// Defaults and bounds of topic settings.
const (
	SegmentBytesDefault = 64 << 20
	MessageBytesDefault = 1<<20 + 12
	RetentionMsDefault  = 7 * 24 * 3600 * 1000
	segmentBytesMin     = 4 << 10
	segmentBytesMax     = 1 << 30
	messageBytesMin     = 100
	messageBytesMax     = 8 << 20
	retentionMsMin      = 1000
	retentionBytesMin   = segmentBytesMin
	retentionMax        = int64(1) << 53

	createTime    = "CreateTime"
	logAppendTime = "LogAppendTime"
)

// setting is one row of the table of what a topic can be told.
type setting struct {
	key   string
	value string // default
	about string // for people, with the bounds
	check func(value string, s *Settings) bool
}

// number makes the check of a number in [lo, hi]; unlimited says that -1 is possible too.
func number(lo, hi int64, unlimited bool, field func(*Settings) *int64) func(string, *Settings) bool {
	return func(value string, s *Settings) bool {
		v, err := strconv.ParseInt(value, 10, 64)
		if err != nil || (v < lo || v > hi) && !(unlimited && v == Unlimited) {
			return false
		}
		*field(s) = v
		return true
	}
}

// settings is the table, by key.
var settings = []setting{
	{ConfigMessageBytes, strconv.Itoa(MessageBytesDefault), fmt.Sprintf("bytes of the largest record batch, %d to %d", messageBytesMin, messageBytesMax),
		number(messageBytesMin, messageBytesMax, false, func(s *Settings) *int64 { return &s.MessageBytes })},
	{ConfigTimestampType, createTime, "CreateTime (the producer's timestamps) or LogAppendTime (the broker's)", func(value string, s *Settings) bool {
		s.LogAppendTime = value == logAppendTime
		return s.LogAppendTime || value == createTime
	}},
	{ConfigRetentionBytes, "-1", fmt.Sprintf("bytes kept of each partition, %d to 2^53, in whole segments; -1: no limit", retentionBytesMin),
		number(retentionBytesMin, retentionMax, true, func(s *Settings) *int64 { return &s.RetentionBytes })},
	{ConfigRetentionMs, strconv.Itoa(RetentionMsDefault), fmt.Sprintf("milliseconds that a record is kept after its append, %d to 2^53, in whole segments; -1: for ever", retentionMsMin),
		number(retentionMsMin, retentionMax, true, func(s *Settings) *int64 { return &s.RetentionMs })},
	{ConfigSegmentBytes, strconv.Itoa(SegmentBytesDefault), fmt.Sprintf("a segment ends at this size, %d to %d bytes", segmentBytesMin, segmentBytesMax),
		number(segmentBytesMin, segmentBytesMax, false, func(s *Settings) *int64 { return &s.SegmentBytes })},
}

func findSetting(key string) (*setting, bool) {
	i, ok := slices.BinarySearchFunc(settings, key, func(s setting, key string) int { return strings.Compare(s.key, key) })
	if !ok {
		return nil, false
	}
	return &settings[i], true
}

func settingKeys() string {
	keys := make([]string, len(settings))
	for i := range settings {
		keys[i] = settings[i].key
	}
	return strings.Join(keys, ", ")
}

// CheckSettings says everything that is wrong with these settings, which are sorted by key.
func CheckSettings(list []ConfigEntry) error {
	var faults []error
	var s Settings
	for i, e := range list {
		known, ok := findSetting(e.Key)
		switch {
		case i > 0 && list[i-1].Key == e.Key:
			faults = append(faults, fmt.Errorf("setting %s is given twice", e.Key))
		case e.Key == "cleanup.policy":
			faults = append(faults, errors.New("setting cleanup.policy: logs are only deleted by age and size, never compacted: leave it out"))
		case !ok:
			faults = append(faults, fmt.Errorf("unknown setting %s: known are %s", e.Key, settingKeys()))
		case !known.check(e.Value, &s):
			faults = append(faults, fmt.Errorf("setting %s=%s: want %s", e.Key, e.Value, known.about))
		}
	}
	return joined(faults)
}

// joined is one error that names all, on one line; nil if there are none.
func joined(faults []error) error {
	if len(faults) == 0 {
		return nil
	}
	words := make([]string, len(faults))
	for i, f := range faults {
		words[i] = f.Error()
	}
	return errors.New(strings.Join(words, "; "))
}

// settingsOf are the effective settings of a list that was checked.
func settingsOf(list []ConfigEntry, version uint64) Settings {
	s := Settings{Version: version}
	for i := range settings {
		settings[i].check(settings[i].value, &s)
	}
	for _, e := range list {
		if known, ok := findSetting(e.Key); ok {
			known.check(e.Value, &s)
		}
	}
	return s
}

// Setting is one effective setting of a topic.
type Setting struct {
	Key, Value, Default, About string
	Given                      bool // by someone; else Value is the default
}

// AllSettings are the topic's effective settings by key.
func (t *Topic) AllSettings() []Setting {
	out := make([]Setting, len(settings))
	for i := range settings {
		s := &settings[i]
		out[i] = Setting{Key: s.key, Value: s.value, Default: s.value, About: s.about}
		for _, c := range t.Config {
			if c.Key == s.key {
				out[i].Value, out[i].Given = c.Value, true
			}
		}
	}
	return out
}

// alterConfig is a sorted list with set put in and unset taken out.
func alterConfig(list, set []ConfigEntry, unset []string) []ConfigEntry {
	out := slices.DeleteFunc(slices.Clone(list), func(e ConfigEntry) bool {
		return slices.Contains(unset, e.Key) || slices.ContainsFunc(set, func(s ConfigEntry) bool { return s.Key == e.Key })
	})
	out = append(out, set...)
	sortConfig(out)
	return out
}

func sortConfig(list []ConfigEntry) {
	slices.SortStableFunc(list, func(a, b ConfigEntry) int { return strings.Compare(a.Key, b.Key) })
}

func (w *writer) settings(s *Settings) {
	w.U64(uint64(s.RetentionMs))
	w.U64(uint64(s.RetentionBytes))
	w.U64(uint64(s.SegmentBytes))
	w.U64(uint64(s.MessageBytes))
	w.U8(flag(s.LogAppendTime))
	w.U64(s.Version)
}

const settingsBytes = 4*8 + 1 + 8

func (r *reader) settings() Settings {
	return Settings{RetentionMs: int64(r.U64()), RetentionBytes: int64(r.U64()), SegmentBytes: int64(r.U64()), MessageBytes: int64(r.U64()),
		LogAppendTime: r.Bool(), Version: r.U64()}
}
