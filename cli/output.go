package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"lograft/client"
)

// table writes rows in columns; the first row is the header.
func (a *app) table(rows [][]string) error {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	for _, r := range rows {
		for i, cell := range r {
			if cell == "" {
				r[i] = "-"
			}
		}
		_, _ = w.Write([]byte(strings.Join(r, "\t") + "\n")) // to memory
	}
	_ = w.Flush()
	_, err := a.Out.Write(b.Bytes())
	return err
}

// writeJSON writes one value on one line.
func (a *app) writeJSON(v any) error {
	b, err := marshal(v)
	if err != nil {
		return err
	}
	_, err = a.Out.Write(append(b, '\n'))
	return err
}

// marshal is JSON without HTML escapes.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// jsonBytes are bytes in JSON: a string, {"base64": ...} if they are not UTF-8, null if there are none.
type jsonBytes []byte

var errBytes = errors.New(`want a string, null or {"base64":"..."}`)

type base64Bytes struct {
	Base64 *[]byte `json:"base64"`
}

// MarshalJSON implements json.Marshaler.
func (b jsonBytes) MarshalJSON() ([]byte, error) {
	switch {
	case b == nil:
		return []byte("null"), nil
	case utf8.Valid(b):
		return marshal(string(b))
	}
	raw := []byte(b)
	return marshal(base64Bytes{&raw})
}

// UnmarshalJSON implements json.Unmarshaler.
func (b *jsonBytes) UnmarshalJSON(text []byte) error {
	text = bytes.TrimSpace(text)
	switch {
	case bytes.Equal(text, []byte("null")):
		*b = nil
		return nil
	case len(text) > 0 && text[0] == '{':
		var x base64Bytes
		if err := json.Unmarshal(text, &x); err != nil {
			return fmt.Errorf("%w: %w", errBytes, err)
		}
		if x.Base64 == nil {
			return errBytes
		}
		*b = *x.Base64
		return nil
	}
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return errBytes
	}
	*b = []byte(s)
	return nil
}

// jsonHeader is a header in JSON.
type jsonHeader struct {
	Key   jsonBytes `json:"key"`
	Value jsonBytes `json:"value"`
}

// jsonRecord is a record as consume -J writes it and produce -f json reads it back.
type jsonRecord struct {
	Topic       string       `json:"topic,omitempty"`
	Partition   *int32       `json:"partition,omitempty"`
	Offset      *int64       `json:"offset,omitempty"`
	Timestamp   int64        `json:"timestamp"`
	Key         jsonBytes    `json:"key"`
	Value       jsonBytes    `json:"value"`
	Headers     []jsonHeader `json:"headers"`
	LeaderEpoch *int32       `json:"leader_epoch,omitempty"`
}

// jsonInput is a jsonRecord of which the value must be there: a misspelt one is not a null.
type jsonInput struct {
	jsonRecord
	Value json.RawMessage `json:"value"`
}

func toJSONRecord(r *client.Fetched) jsonRecord {
	out := jsonRecord{Topic: r.Topic, Partition: &r.Partition, Offset: &r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value, Headers: []jsonHeader{}, LeaderEpoch: &r.LeaderEpoch}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, jsonHeader{[]byte(h.Key), h.Value})
	}
	return out
}
