package cli

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"lograft/client"
)

// seed is random, or of LOGRAFT_SEED; it is printed so that a failure can be replayed.
func seed(t *testing.T) *rand.Rand {
	t.Helper()
	s := uint64(time.Now().UnixNano())
	if v := os.Getenv("LOGRAFT_SEED"); v != "" {
		var err error
		if s, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d (LOGRAFT_SEED)", s)
	return rand.New(rand.NewPCG(s, 0))
}

// -o understands the positions and ranges that it promises.
func TestParseOffset(t *testing.T) {
	at := func(p client.Position) *client.Position { return &p }
	for _, c := range []struct {
		s    string
		from client.Position
		to   *client.Position
	}{
		{"start", client.AtStart(0), nil},
		{"", client.AtStart(0), nil},
		{"end", client.AtEnd(0), nil},
		{"0", client.AtOffset(0), nil},
		{"42", client.AtOffset(42), nil},
		{"+5", client.AtStart(5), nil},
		{"-5", client.AtEnd(-5), nil},
		{"-0", client.AtEnd(0), nil},
		{"10:20", client.AtOffset(10), at(client.AtOffset(20))},
		{"10:10", client.AtOffset(10), at(client.AtOffset(10))},
		{":end", client.AtStart(0), at(client.AtEnd(0))},
		{"10:", client.AtOffset(10), at(client.AtEnd(0))},
		{":", client.AtStart(0), at(client.AtEnd(0))},
		{"-5:-2", client.AtEnd(-5), at(client.AtEnd(-2))},
		{"+1:end", client.AtStart(1), at(client.AtEnd(0))},
		{"end:10", client.AtEnd(0), at(client.AtOffset(10))},
	} {
		from, to, err := parseOffset(c.s, time.Now())
		if err != nil || from != c.from || !reflect.DeepEqual(to, c.to) {
			t.Errorf("%q: %v, %v, %v", c.s, from, to, err)
		}
	}
	for _, s := range []string{"x", "1x", "--1", "+-1", "1:x", "x:1", "1:2:3", "2:1", "-1:-2", "99999999999999999999", " 1"} {
		var usage usageError
		if _, _, err := parseOffset(s, time.Now()); !errors.As(err, &usage) {
			t.Errorf("%q: %v, want a usage error", s, err)
		}
	}
}

// Topics and partitions named twice are read once; the order of topics stays.
func TestSubscriptionsOnce(t *testing.T) {
	o := consumeOptions{offset: "start", consistency: "linearizable", partitions: []int32{3, 0, 3}, toEnd: true}
	k, err := o.consumer([]string{"b", "a", "b"})
	if err != nil || len(k.Subscriptions) != 2 || k.Subscriptions[0].Topic != "b" || k.Subscriptions[1].Topic != "a" ||
		!reflect.DeepEqual(k.Subscriptions[0].Partitions, []int32{0, 3}) || *k.Subscriptions[0].Stop != client.AtEnd(0) {
		t.Fatalf("%+v, %v", k.Subscriptions, err)
	}
}

// --tail 0 begins at the end, as tail -n 0 does; without --tail, -o says where.
func TestTailOfNothing(t *testing.T) {
	for _, c := range []struct {
		tailing bool
		want    client.Position
	}{{true, client.AtEnd(0)}, {false, client.AtStart(0)}} {
		o := consumeOptions{offset: "start", consistency: "linearizable", tailing: c.tailing}
		k, err := o.consumer([]string{"t"})
		if err != nil || k.Subscriptions[0].Start != c.want {
			t.Errorf("tailing %t: begins at %+v, %v; want %+v", c.tailing, k.Subscriptions[0].Start, err, c.want)
		}
	}
}

// The escapes of delimiters are read, all others refused.
func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{"": "", "a": "a", `\t`: "\t", `\n\r\0\\`: "\n\r\x00\\", `\x41\xff`: "A\xff", `a\tb`: "a\tb", "\u00e9": "\u00e9", `\\n`: `\n`, `\x00`: "\x00"} {
		if got, err := unescape(in); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{`\`, `a\`, `\q`, `\x`, `\x1`, `\xzz`, `\x+1`} {
		var usage usageError
		if got, err := unescape(in); !errors.As(err, &usage) {
			t.Errorf("%q: %q, %v; want a usage error", in, got, err)
		}
	}
}

// all reads a source to its end.
func all(t *testing.T, next source) (list []*client.Record) {
	t.Helper()
	for {
		r, _, err := next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
}

func lines(in string, o produceOptions) source {
	return recordSource(strings.NewReader(in), "t", &o, nil)
}

// Delimiters of any length divide, the last record may lack one, and what only looks like one is data.
func TestDelimiters(t *testing.T) {
	for _, c := range []struct {
		delim, in string
		want      []string
	}{
		{"\n", "", nil},
		{"\n", "\n", []string{""}},
		{"\n", "a\nb\n", []string{"a", "b"}},
		{"\n", "a\nb", []string{"a", "b"}},
		{"\n", "a\n\nb\n", []string{"a", "", "b"}},
		{"\n", "a\r\n", []string{"a\r"}},
		{"\r\n", "a\nb\r\nc", []string{"a\nb", "c"}},
		{"XX", "oneXXtwoXthreeXXfourX", []string{"one", "twoXthree", "fourX"}},
		{"aab", "aaab", []string{"a"}},
		{"--", "---", []string{"", "-"}},
		{"\x00", "a\x00b\x00", []string{"a", "b"}},
		{"\u00e9", "a\u00e9b\xc3", []string{"a", "b\xc3"}},
	} {
		var got []string
		for _, r := range all(t, lines(c.in, produceOptions{delim: c.delim})) {
			got = append(got, string(r.Value))
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q by %q: %q, want %q", c.in, c.delim, got, c.want)
		}
	}
}

// Random input with random delimiters divides as strings.Split does it, however small the buffer and the reads.
func TestDelimitersLikeSplit(t *testing.T) {
	rng := seed(t)
	word := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "ab"[rng.IntN(2)]
		}
		return string(b)
	}
	for range 3000 {
		in, delim := word(rng.IntN(60)), word(1+rng.IntN(3))
		want := strings.Split(in, delim)
		if want[len(want)-1] == "" {
			want = want[:len(want)-1]
		}
		r := bufio.NewReaderSize(iotest.OneByteReader(strings.NewReader(in)), 16)
		var got []string
		taken := 0
		for {
			line, n, err := readRecord(r, []byte(delim))
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got, taken = append(got, string(line)), taken+n
		}
		if len(got) != len(want) || strings.Join(got, "|") != strings.Join(want, "|") || taken != len(in) {
			t.Fatalf("%q by %q: %q (%d bytes), want %q", in, delim, got, taken, want)
		}
	}
}

// A record ends with its file even if that has no last newline.
func TestFilesAreDivided(t *testing.T) {
	o := produceOptions{delim: "\n"}
	in := []io.Reader{strings.NewReader("a\nb"), strings.NewReader(""), strings.NewReader("c\n"), strings.NewReader("d")}
	var got []string
	for _, r := range all(t, chain(in, func(r io.Reader) source { return recordSource(r, "t", &o, nil) })) {
		got = append(got, string(r.Value))
	}
	if strings.Join(got, "|") != "a|b|c|d" {
		t.Fatalf("%q", got)
	}
}

// -k, -K and -Z: the first delimiter divides; without one the record has the key of -k, or none; null is told from empty.
func TestKeys(t *testing.T) {
	show := func(b []byte) string {
		if b == nil {
			return "null"
		}
		return strconv.Quote(string(b))
	}
	for _, c := range []struct {
		in   string
		o    produceOptions
		want string
	}{
		{"k:v", produceOptions{keyDelim: ":"}, `"k" "v"`},
		{"k:v:w", produceOptions{keyDelim: ":"}, `"k" "v:w"`},
		{"k::v", produceOptions{keyDelim: "::"}, `"k" "v"`},
		{"plain", produceOptions{keyDelim: ":"}, `null "plain"`},
		{"plain", produceOptions{keyDelim: ":", hasKey: true, key: "x"}, `"x" "plain"`},
		{":v", produceOptions{keyDelim: ":"}, `"" "v"`},
		{"k:", produceOptions{keyDelim: ":"}, `"k" ""`},
		{"k:", produceOptions{keyDelim: ":", emptyIsNull: true}, `"k" null`},
		{"v", produceOptions{hasKey: true}, `"" "v"`},
		{"v", produceOptions{}, `null "v"`},
		{"\n", produceOptions{}, `null ""`},
		{"\n", produceOptions{emptyIsNull: true}, `null null`},
	} {
		c.o.delim = "\n"
		got := all(t, lines(c.in, c.o))
		if len(got) != 1 || show(got[0].Key)+" "+show(got[0].Value) != c.want {
			t.Errorf("%q %+v: %+v, want %s", c.in, c.o, got, c.want)
		}
	}
}

// What consume -J writes, produce -f json reads back to the byte: nulls, empties, bytes that are not UTF-8, headers, timestamps.
func TestJSONRoundTrip(t *testing.T) {
	rng := seed(t)
	blob := func() []byte {
		switch rng.IntN(5) {
		case 0:
			return nil
		case 1:
			return []byte{}
		case 2:
			return []byte("<a & \"b\">\u2028\x00\n\u00e9\U0001f600")
		}
		b := make([]byte, 1+rng.IntN(20))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	var out bytes.Buffer
	w := &recordWriter{out: bufio.NewWriter(&out), json: true}
	var want []*client.Record
	for i := range 2000 {
		f := client.Fetched{Topic: "src", Partition: 3, Offset: int64(i), LeaderEpoch: 7, Timestamp: 1 + rng.Int64N(1<<50), Key: blob(), Value: blob()}
		for range rng.IntN(4) {
			f.Headers = append(f.Headers, client.Header{Key: string(blob()), Value: blob()})
		}
		if err := w.write(&f, &client.Batch{}); err != nil {
			t.Fatal(err)
		}
		want = append(want, &client.Record{Topic: "dst", Partition: 3, Key: f.Key, Value: f.Value, Headers: f.Headers, Timestamp: f.Timestamp})
	}
	if err := w.out.Flush(); err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(out.Bytes(), []byte("\n")); n != len(want) {
		t.Fatalf("%d lines for %d records", n, len(want))
	}
	got := all(t, jsonSource(&out, "dst", &produceOptions{partition: -1}))
	if len(got) != len(want) {
		t.Fatalf("%d of %d records came back", len(got), len(want))
	}
	for i := range got {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("record %d: %+v, want %+v", i, got[i], want[i])
		}
	}
}

// A record goes to the partition that its object names, unless -p says otherwise: -p -1 goes by the key.
func TestJSONPartition(t *testing.T) {
	for _, c := range []struct {
		object string
		o      produceOptions
		want   int32
	}{
		{`{"value":"v","partition":2}`, produceOptions{partition: -1}, 2},
		{`{"value":"v","partition":0}`, produceOptions{partition: -1}, 0},
		{`{"value":"v"}`, produceOptions{partition: -1}, -1},
		{`{"value":"v","partition":null}`, produceOptions{partition: -1}, -1},
		{`{"value":"v","partition":2}`, produceOptions{partition: 1, hasPartition: true}, 1},
		{`{"value":"v","partition":2}`, produceOptions{partition: -1, hasPartition: true}, -1},
		{`{"value":"v","partition":-2}`, produceOptions{partition: -1, hasPartition: true}, -1},
	} {
		if got := all(t, jsonSource(strings.NewReader(c.object), "t", &c.o)); len(got) != 1 || got[0].Partition != c.want {
			t.Errorf("%s %+v: %+v, want partition %d", c.object, c.o, got, c.want)
		}
	}
}

// One record in JSON, as scripts see it.
func TestJSONGolden(t *testing.T) {
	f := client.Fetched{Topic: "t", Partition: 1, Offset: 2, LeaderEpoch: 3, Timestamp: 4, Key: nil, Value: []byte{0xff}, Headers: []client.Header{{Key: "h", Value: []byte("<v>")}}}
	got, err := marshal(toJSONRecord(&f))
	const want = `{"topic":"t","partition":1,"offset":2,"timestamp":4,"key":null,"value":{"base64":"/w=="},"headers":[{"key":"h","value":"<v>"}],"leader_epoch":3}`
	if err != nil || string(got) != want {
		t.Fatalf("%s, %v; want %s", got, err, want)
	}
}

// JSON that is not a whole record is refused by the number of its object: nothing becomes a null by mistake.
func TestJSONRefused(t *testing.T) {
	for in, says := range map[string]string{
		`{bad`:                          "invalid character",
		`{"value":"half`:                "unexpected EOF",
		`{"value":5}`:                   "want a string",
		`{"valu":"x"}`:                  `unknown field "valu"`,
		`{"key":"k"}`:                   `no "value"`,
		`null`:                          `no "value"`,
		`"x"`:                           "string is no record",
		`[]`:                            "array is no record",
		`{"value":{"hex":"00"}}`:        "want a string",
		`{"value":{"base64":"!"}}`:      "illegal base64",
		`{"value":"a","key":3}`:         "want a string",
		`{"value":"a","timestamp":""}`:  "timestamp",
		`{"value":"a","partition":-1}`:  "want one from 0 on",
		`{"value":"a","partition":"0"}`: "partition",
	} {
		next := jsonSource(strings.NewReader(`{"value":"ok"}`+"\n"+in), "t", &produceOptions{})
		if r, _, err := next(); err != nil || string(r.Value) != "ok" {
			t.Fatalf("%+v, %v", r, err)
		}
		if r, _, err := next(); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "input object 2") {
			t.Errorf("%s: %+v, %v; want %q", in, r, err, says)
		}
	}
}

// endless never ends and has no delimiter.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// Input without a delimiter, or one endless object, ends with an error at the bound.
func TestInputIsBounded(t *testing.T) {
	if _, n, err := recordSource(endless{}, "t", &produceOptions{delim: "\n"}, nil)(); err == nil || n > inputRecordMax+inputBuffer {
		t.Errorf("lines: %d bytes, %v", n, err)
	}
	if _, _, err := recordSource(endless{}, "t", &produceOptions{input: "json"}, nil)(); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("json: %v", err)
	}
}
