package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"lograft/client"
)

// produceOptions are the flags of produce.
type produceOptions struct {
	key, keyDelim, delim string
	hasKey               bool
	headers              []string
	emptyIsNull          bool
	partition            int32
	hasPartition         bool
	codec, acks          string
	linger, delivery     time.Duration
	batchBytes           int
	rate                 float64
	create, quiet        bool
	acksJSON             bool
	report, input        string
	expected             int64
	conditional          bool
}

func (a *app) produceCommand() *cobra.Command {
	var o produceOptions
	c := &cobra.Command{Use: "produce TOPIC [FILE...]", Short: "Append records from files or standard input", ValidArgsFunction: a.completeTopics(1),
		Example: `  produce demo < file                       # one record a line
  echo hi | produce demo --create
  produce demo a.log b.log -K '\t'          # key and value divided by a tab
  produce demo -k user-7 -H source=web < file
  produce demo --acks-json < file           # one line of JSON for each record, in input order
  produce demo --expected-offset 42 < file  # only if the partition ends at 42; nothing of anybody else gets in between
  consume other -J -e | produce demo -f json`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("produce wants a topic: see produce --help")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.hasKey, o.hasPartition, o.conditional = c.Flags().Changed("key"), c.Flags().Changed("partition"), c.Flags().Changed("expected-offset")
			return a.produce(c.Context(), args[0], args[1:], &o)
		}}
	a.clientFlags(c)
	f := c.Flags()
	f.StringVarP(&o.key, "key", "k", "", "key of every record")
	f.StringVarP(&o.keyDelim, "key-delimiter", "K", "", `divides key and value of each record (escapes: \t \n \r \0 \\ \xNN)`)
	f.StringVarP(&o.delim, "delimiter", "D", `\n`, "ends each record")
	f.StringArrayVarP(&o.headers, "header", "H", nil, "header k=v of every record; may be repeated")
	f.BoolVarP(&o.emptyIsNull, "null", "Z", false, "send empty values as null")
	f.Int32VarP(&o.partition, "partition", "p", -1, "partition (default: by key, or any; with -f json the one that the object names, unless -p is given: -p -1 is by key, or any)")
	f.Lookup("partition").DefValue = "" // it is said
	f.StringVarP(&o.codec, "compression", "z", "snappy", "none, snappy, lz4, zstd or gzip")
	f.StringVar(&o.acks, "acks", "all", "all: acknowledged is on stable storage of a majority; there is no weaker mode")
	f.DurationVar(&o.linger, "linger", 5*time.Millisecond, "how long a batch waits for company while another is in flight")
	f.DurationVar(&o.delivery, "delivery-timeout", 120*time.Second, "how long a record is tried")
	f.IntVar(&o.batchBytes, "batch-bytes", 1<<20, "a batch is closed at this size, before compression, and at the topic's max.message.bytes")
	f.Float64Var(&o.rate, "rate", 0, "records per second at most; 0: as fast as possible")
	f.BoolVar(&o.create, "create", false, "create the topic if it does not exist")
	f.Int64Var(&o.expected, "expected-offset", 0, "append only if the partition's next offset is this; with more than one partition, -p says which")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no summary and no progress bar")
	f.BoolVar(&o.acksJSON, "acks-json", false, "write one JSON object per record to standard output, in input order")
	f.StringVarP(&o.report, "report", "o", "", "write this for each acknowledged record (format as of consume -f: %t %p %o %d %k %v)")
	f.StringVarP(&o.input, "format", "f", "lines", "lines, or json as consume -J writes it")
	return c
}

// check finds mistakes before anything is opened.
func (o *produceOptions) check() (client.Codec, *kgo.RecordFormatter, []client.Header, error) {
	fail := func(err error) (client.Codec, *kgo.RecordFormatter, []client.Header, error) { return 0, nil, nil, err }
	codec, err := client.ParseCodec(o.codec)
	if err != nil {
		return fail(usagef("-z %q: want none, snappy, lz4, zstd or gzip", o.codec))
	}
	if o.acks != "all" && o.acks != "-1" {
		return fail(usagef("--acks %q: only all is possible: every acknowledged record is on stable storage of a majority", o.acks))
	}
	if o.input != "lines" && o.input != "json" {
		return fail(usagef("-f %q: want lines or json", o.input))
	}
	if o.acksJSON && o.report != "" {
		return fail(usagef("--acks-json and -o exclude each other"))
	}
	if o.rate < 0 || o.linger < 0 || o.delivery < 0 || o.batchBytes < 0 {
		return fail(usagef("--rate, --linger, --delivery-timeout and --batch-bytes want a number from 0 on"))
	}
	if o.input == "json" && (o.hasKey || o.keyDelim != "" || o.delim != `\n` || o.emptyIsNull || len(o.headers) > 0) {
		return fail(usagef("-f json takes key, value and headers from its input: leave out -k, -K, -D, -Z and -H"))
	}
	if o.conditional && o.expected < 0 {
		return fail(usagef("--expected-offset %d: want an offset from 0 on", o.expected))
	}
	if o.partition < -1 {
		return fail(usagef("-p %d: want a partition number from 0 on", o.partition))
	}
	for _, d := range []*string{&o.delim, &o.keyDelim} {
		if *d, err = unescape(*d); err != nil {
			return fail(err)
		}
	}
	if o.delim == "" {
		return fail(usagef("-D wants at least one byte"))
	}
	var format *kgo.RecordFormatter
	if o.report != "" {
		if format, err = kgo.NewRecordFormatter(o.report); err != nil {
			return fail(usagef("-o %q: %v", o.report, err))
		}
	}
	var headers []client.Header
	for _, h := range o.headers {
		k, v, ok := strings.Cut(h, "=")
		if !ok {
			return fail(usagef("-H %q: want key=value", h))
		}
		headers = append(headers, client.Header{Key: k, Value: []byte(v)})
	}
	return codec, format, headers, nil
}

// unescape reads \t \n \r \0 \\ \xNN.
func unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch {
		case i < len(s) && strings.IndexByte("tnr0\\", s[i]) >= 0:
			b.WriteByte("\t\n\r\x00\\"[strings.IndexByte("tnr0\\", s[i])])
		case i+2 < len(s) && s[i] == 'x':
			v, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", usagef("%q: bad escape", s)
			}
			b.WriteByte(byte(v))
			i += 2
		default:
			return "", usagef(`%q: unknown escape: known are \t \n \r \0 \\ \xNN`, s)
		}
	}
	return b.String(), nil
}

// flushTimeout is how long an interrupted produce waits for what it has sent.
const flushTimeout = 5 * time.Second

func (a *app) produce(ctx context.Context, topic string, names []string, o *produceOptions) error {
	codec, format, headers, err := o.check()
	if err != nil {
		return err
	}
	if len(names) == 0 && !o.quiet && terminal(a.In) && terminal(a.Err) {
		fmt.Fprintln(a.Err, "reading records from the terminal, one a line; Ctrl-D ends them")
	}
	in, total, closeAll, err := a.inputs(names)
	if err != nil {
		return err
	}
	defer closeAll()
	k, err := a.dial()
	if err != nil {
		return err
	}
	defer k.Close()
	p, err := k.NewProducer(client.ProducerOptions{Codec: codec, Linger: o.linger, BatchBytes: o.batchBytes, DeliveryTimeout: o.delivery, Create: o.create, Conditional: o.conditional, ExpectedOffset: o.expected})
	if err != nil {
		return err
	}
	rep := newReporter(a, o, format, newBar(a, o.quiet, total, "producing"))
	rep.waitsFor(func() string { return p.Stalled().What })
	source := chain(in, func(r io.Reader) source { return recordSource(r, topic, o, headers) })
	read := rep.feed(ctx, p, source, o.rate)
	interrupted := ctx.Err() != nil
	// Results are waited for as long as the delivery timeout of each record says; an interrupt leaves them 5 s.
	flush, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(flushTimeout, cancel) })
	defer stop()
	_ = p.Close(flush) // what has no result then is reported as unknown
	if err := rep.finish(); err != nil {
		return err
	}
	if o.create && read == nil && !interrupted && rep.sent == 0 { // no record created it on its way
		if err := createTopic(ctx, k, topic); err != nil {
			return err
		}
	}
	if interrupted || ctx.Err() != nil {
		rep.summary(true)
		return codeError(exitInterrupted)
	}
	if read != nil {
		rep.summary(false)
		return read
	}
	if !o.quiet {
		rep.summary(false)
	}
	return rep.err()
}

// createTopic makes a topic unless it is there.
func createTopic(ctx context.Context, k *client.Client, name string) error {
	_, err := k.CreateTopic(ctx, client.TopicSpec{Name: name})
	if client.ReasonOf(err) == client.ReasonTopicExists {
		return nil
	}
	return err
}

// inputs opens every file before a record of any is sent.
func (a *app) inputs(names []string) (in []io.Reader, total int64, closeAll func(), err error) {
	var files []*os.File
	closeAll = func() {
		for _, f := range files {
			f.Close()
		}
	}
	if len(names) == 0 {
		return []io.Reader{a.In}, -1, closeAll, nil
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			closeAll()
			return nil, 0, nil, fmt.Errorf("input %s: %w: nothing was sent", name, errors.Unwrap(err))
		}
		files = append(files, f)
		st, err := f.Stat()
		if err == nil && st.IsDir() {
			err = errors.New("is a directory")
		}
		if err != nil {
			closeAll()
			return nil, 0, nil, fmt.Errorf("input %s: %w: name files; nothing was sent", name, err)
		}
		total += st.Size()
		in = append(in, f)
	}
	return in, total, closeAll, nil
}

// source gives the next record and how many bytes of input it took; io.EOF ends it.
type source func() (*client.Record, int, error)

// chain reads one input after the other: a record ends with its input at the latest.
func chain(in []io.Reader, open func(io.Reader) source) source {
	var now source
	return func() (*client.Record, int, error) {
		for {
			if now == nil {
				if len(in) == 0 {
					return nil, 0, io.EOF
				}
				now, in = open(in[0]), in[1:]
			}
			rec, n, err := now()
			if !errors.Is(err, io.EOF) {
				return rec, n, err
			}
			now = nil
		}
	}
}

const (
	inputBuffer = 1 << 20
	// inputRecordMax bounds what is read as one record; the broker's limit is lower and says so.
	inputRecordMax = 64 << 20
)

func recordSource(in io.Reader, topic string, o *produceOptions, headers []client.Header) source {
	if o.input == "json" {
		return jsonSource(in, topic, o)
	}
	r := bufio.NewReaderSize(in, inputBuffer)
	delim := []byte(o.delim)
	return func() (*client.Record, int, error) {
		line, n, err := readRecord(r, delim)
		if err != nil {
			return nil, n, err
		}
		rec := &client.Record{Topic: topic, Partition: o.partition, Headers: headers, Value: line}
		if o.hasKey {
			rec.Key = []byte(o.key)
		}
		if o.keyDelim != "" {
			if k, v, ok := bytes.Cut(line, []byte(o.keyDelim)); ok {
				rec.Key, rec.Value = k[:len(k):len(k)], v
			}
		}
		if len(rec.Value) == 0 {
			if rec.Value = []byte{}; o.emptyIsNull {
				rec.Value = nil
			}
		}
		return rec, n, nil
	}
}

// readRecord reads up to delim, which is left out. The last record may lack it.
func readRecord(r *bufio.Reader, delim []byte) (line []byte, n int, err error) {
	last := delim[len(delim)-1]
	for {
		part, err := r.ReadSlice(last)
		line = append(line, part...)
		n += len(part)
		switch {
		case err == nil && bytes.HasSuffix(line, delim):
			return line[:len(line)-len(delim)], n, nil
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil, 0, io.EOF
		case errors.Is(err, io.EOF):
			return line, n, nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return nil, n, fmt.Errorf("read input: %w", err)
		case len(line) > inputRecordMax:
			return nil, n, fmt.Errorf("a record of more than %d bytes: is the delimiter right (-D)?", inputRecordMax)
		}
	}
}

// boundedReader fails once limit bytes were read, so that one endless object can't take all memory.
type boundedReader struct {
	r           io.Reader
	read, limit int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.read >= b.limit {
		return 0, fmt.Errorf("an object of more than %d bytes", inputRecordMax)
	}
	n, err := b.r.Read(p)
	b.read += int64(n)
	return n, err
}

func jsonSource(r io.Reader, topic string, o *produceOptions) source {
	in := &boundedReader{r: r}
	d := json.NewDecoder(in)
	d.DisallowUnknownFields()
	number := 0
	var before int64
	return func() (*client.Record, int, error) {
		j := jsonInput{}
		in.limit = d.InputOffset() + inputRecordMax
		err := d.Decode(&j)
		took := int(d.InputOffset() - before)
		before = d.InputOffset()
		if errors.Is(err, io.EOF) {
			return nil, 0, io.EOF
		}
		number++
		var badType *json.UnmarshalTypeError
		switch {
		case errors.As(err, &badType):
			return nil, took, fmt.Errorf("input object %d: %s is no %s there: want objects as consume -J writes them", number, badType.Value, orWord(strings.TrimPrefix(badType.Field, "jsonRecord."), "record"))
		case err != nil:
			return nil, took, fmt.Errorf("input object %d: %w: want objects as consume -J writes them", number, err)
		case j.Value == nil:
			return nil, took, fmt.Errorf(`input object %d has no "value": say "value":null for a null one`, number)
		}
		rec := &client.Record{Topic: topic, Partition: o.partition, Key: j.Key, Timestamp: j.Timestamp}
		if j.Partition != nil && !o.hasPartition {
			if rec.Partition = *j.Partition; rec.Partition < 0 {
				return nil, took, fmt.Errorf("input object %d: partition %d: want one from 0 on, or none", number, rec.Partition)
			}
		}
		if err := json.Unmarshal(j.Value, (*jsonBytes)(&rec.Value)); err != nil {
			return nil, took, fmt.Errorf("input object %d: value: %w", number, err)
		}
		for _, h := range j.Headers {
			rec.Headers = append(rec.Headers, client.Header{Key: string(h.Key), Value: h.Value})
		}
		return rec, took, nil
	}
}
