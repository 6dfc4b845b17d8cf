package integration

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
)

// Record is one record as a producer sends it.
type Record struct{ Key, Value string }

// keyDelimiter stands between key and value in what `produce -K` reads.
const keyDelimiter = "\t"

// KeyedLines makes one record of each line of text, with one of keys keys chosen by the line itself.
func KeyedLines(text string, keys uint32) []Record {
	var records []Record
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		h := fnv.New32a()
		h.Write([]byte(line))
		records = append(records, Record{Key: fmt.Sprintf("key-%02d", h.Sum32()%keys), Value: line})
	}
	return records
}

// Lines is the input of `produce -K` for records: one a line.
func Lines(records []Record) string {
	var b strings.Builder
	for _, r := range records {
		b.WriteString(r.Key + keyDelimiter + r.Value + "\n")
	}
	return b.String()
}

// Consumed is one line of `consume -J`.
type Consumed struct {
	Topic     string    `json:"topic"`
	Partition int       `json:"partition"`
	Offset    int64     `json:"offset"`
	Key       jsonBytes `json:"key"`
	Value     jsonBytes `json:"value"`
}

// jsonBytes are bytes as `consume -J` writes them: a string, or {"base64": ...} if they are not UTF-8.
type jsonBytes string

func (b *jsonBytes) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] != '{' {
		return json.Unmarshal(text, (*string)(b))
	}
	var encoded struct{ Base64 []byte }
	err := json.Unmarshal(text, &encoded)
	*b = jsonBytes(encoded.Base64)
	return err
}

// ParseConsumed reads the whole output of `consume -J`.
func ParseConsumed(text string) ([]Consumed, error) {
	var all []Consumed
	for line := range strings.Lines(text) {
		var c Consumed
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			return nil, fmt.Errorf("record %d: %w in %q", len(all)+1, err, line)
		}
		all = append(all, c)
	}
	return all, nil
}

type position struct {
	partition int
	offset    int64
}

func comparePositions(a, b position) int {
	return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.offset, b.offset))
}

// CheckCopy compares what one replica returned with what was sent and acknowledged (sent[i] by acks[i]): every acknowledged record
// is there, at its offset and with its bytes (C1, C3); nothing else is there (C2), so nothing is there twice; the offsets of each
// partition have no gaps (C4); all records of a key are in one partition and in the order in which they were sent (C4).
// A record whose fate is unknown may be there once or not at all; one that failed must not be there.
func CheckCopy(sent []Record, acks []Ack, got []Consumed) error {
	if len(sent) != len(acks) {
		return fmt.Errorf("%d records sent, %d acknowledgements", len(sent), len(acks))
	}
	var errs faults
	at := make(map[position]Consumed, len(got))
	next := make(map[int]int64)
	for _, c := range got {
		p := position{c.Partition, c.Offset}
		if _, twice := at[p]; twice {
			errs.add("partition %d offset %d was returned twice", p.partition, p.offset)
		}
		at[p] = c
		if c.Offset != next[c.Partition] {
			errs.add("partition %d: offset %d follows %d", c.Partition, c.Offset, next[c.Partition]-1)
		}
		next[c.Partition] = c.Offset + 1
	}
	last := make(map[string]position)
	acked := make(map[position]bool)
	unknown := make(map[Record]int)
	for i, a := range acks {
		if a.Outcome == "unknown" {
			unknown[sent[i]]++
		}
		if a.Failed() {
			continue
		}
		p := position{a.Partition, a.Offset}
		key := sent[i].Key
		if acked[p] {
			errs.add("record %d was acknowledged at partition %d offset %d like another one", i, p.partition, p.offset)
		}
		acked[p] = true
		c, ok := at[p]
		switch {
		case !ok:
			errs.add("record %d, acknowledged at partition %d offset %d, is missing", i, p.partition, p.offset)
		case string(c.Key) != key || string(c.Value) != sent[i].Value:
			errs.add("partition %d offset %d holds %.60q %.60q, acknowledged was %.60q %.60q", p.partition, p.offset, c.Key, c.Value, key, sent[i].Value)
		}
		if before, ok := last[key]; ok && (before.partition != p.partition || before.offset >= p.offset) {
			errs.add("key %s: record %d stands at %v, an earlier one of the key at %v", key, i, p, before)
		}
		last[key] = p
	}
	for _, p := range slices.SortedFunc(maps.Keys(at), comparePositions) {
		r := Record{string(at[p].Key), string(at[p].Value)}
		switch {
		case acked[p]:
		case unknown[r] > 0:
			unknown[r]--
		default:
			errs.add("partition %d offset %d holds %.60q, which nobody was told", p.partition, p.offset, r.Value)
		}
	}
	return errs.err()
}

// faults collects findings; only the first ones are spelt out.
type faults struct {
	errs []error
	more int
}

const faultsMax = 10

func (f *faults) add(format string, args ...any) {
	if len(f.errs) == faultsMax {
		f.more++
		return
	}
	f.errs = append(f.errs, fmt.Errorf(format, args...))
}

func (f *faults) err() error {
	if f.more > 0 {
		return errors.Join(append(f.errs, fmt.Errorf("and %d more", f.more))...)
	}
	return errors.Join(f.errs...)
}
