package integration

import (
	"slices"
	"strings"
	"testing"
)

// history is a correct one: three records, two partitions.
func history() ([]Record, []Ack, []Consumed) {
	sent := []Record{{"a", "1"}, {"b", "2"}, {"a", "3"}}
	acks := []Ack{{Partition: 0, Offset: 0}, {Partition: 1, Offset: 0}, {Partition: 0, Offset: 1}}
	got := []Consumed{
		{Partition: 0, Offset: 0, Key: "a", Value: "1"}, {Partition: 1, Offset: 0, Key: "b", Value: "2"}, {Partition: 0, Offset: 1, Key: "a", Value: "3"},
	}
	return sent, acks, got
}

// A correct history passes; so does one whose last record's fate is unknown, whether it is there or not.
func TestCheckCopyAccepts(t *testing.T) {
	sent, acks, got := history()
	if err := CheckCopy(sent, acks, got); err != nil {
		t.Error(err)
	}
	acks[2] = Ack{Outcome: "unknown"}
	if err := CheckCopy(sent, acks, got); err != nil {
		t.Error("unknown and there: ", err)
	}
	if err := CheckCopy(sent, acks, got[:2]); err != nil {
		t.Error("unknown and not there: ", err)
	}
	got[2].Value = "other"
	if err := CheckCopy(sent, acks, got); err == nil {
		t.Error("an unknown record excuses another one")
	}
}

// Each way to break a history is found and named.
func TestCheckCopySees(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(sent []Record, acks []Ack, got []Consumed) ([]Ack, []Consumed)
		says string
	}{
		"lost at the end": {func(_ []Record, a []Ack, g []Consumed) ([]Ack, []Consumed) { return a, g[:2] }, "is missing"},
		"lost in front":   {func(_ []Record, a []Ack, g []Consumed) ([]Ack, []Consumed) { return a, g[1:] }, "is missing"},
		"gap":             {func(_ []Record, a []Ack, g []Consumed) ([]Ack, []Consumed) { g[2].Offset = 2; return a, g }, "offset 2 follows 0"},
		"read twice": {func(_ []Record, a []Ack, g []Consumed) ([]Ack, []Consumed) {
			return a, append(g, g[2])
		}, "returned twice"},
		"stored twice": {func(_ []Record, a []Ack, g []Consumed) ([]Ack, []Consumed) {
			return a, append(g, Consumed{Partition: 0, Offset: 2, Key: "a", Value: "3"})
		}, "which nobody was told"},
		"other value": {func(_ []Record, a []Ack, g []Consumed) ([]Ack, []Consumed) { g[1].Value = "x"; return a, g }, `holds "b" "x"`},
		"other key":   {func(_ []Record, a []Ack, g []Consumed) ([]Ack, []Consumed) { g[1].Key = "x"; return a, g }, `holds "x" "2"`},
		"out of order": {func(_ []Record, a []Ack, g []Consumed) ([]Ack, []Consumed) {
			a[0].Offset, a[2].Offset = 1, 0
			g[0].Value, g[2].Value = g[2].Value, g[0].Value
			return a, g
		}, "key a: record 2"},
		"failed but there": {func(_ []Record, a []Ack, g []Consumed) ([]Ack, []Consumed) {
			a[2] = Ack{Outcome: "failed"}
			return a, g
		}, "which nobody was told"},
		"one offset for two": {func(_ []Record, a []Ack, g []Consumed) ([]Ack, []Consumed) {
			a[2] = a[0]
			return a, g
		}, "like another one"},
		"no acknowledgement": {func(_ []Record, a []Ack, g []Consumed) ([]Ack, []Consumed) { return a[:2], g }, "3 records sent, 2 acknowledgements"},
	} {
		sent, acks, got := history()
		acks, got = c.harm(sent, acks, got)
		if err := CheckCopy(sent, acks, got); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.says)
		}
	}
}

// Lines keep their bytes, one key has always the same lines, and bytes that are not UTF-8 come back from JSON.
func TestKeyedLines(t *testing.T) {
	records := KeyedLines("one\r\n\none\r\nlast", 5)
	values := []string{"one\r", "", "one\r", "last"}
	if len(records) != len(values) || records[0] != records[2] {
		t.Fatalf("%q", records)
	}
	for i, r := range records {
		if r.Value != values[i] {
			t.Errorf("value %d is %q, want %q", i, r.Value, values[i])
		}
	}
	got, err := ParseConsumed(`{"partition":2,"offset":7,"key":"k","value":{"base64":"/w=="}}` + "\n" + `{"key":null,"value":"é"}` + "\n")
	want := []Consumed{{Partition: 2, Offset: 7, Key: "k", Value: "\xff"}, {Value: "é"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v %v", got, err)
	}
}
