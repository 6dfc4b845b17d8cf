package bench

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
)

// Data makes record values. No value is ever repeated: each begins with a number of its own, or is random.
type Data struct {
	Name  string // what a report says it is
	lines [][]byte
	next  atomic.Uint64
}

// logGlob is where the real log files lie, seen from the repository.
const logGlob = "../shared/data/*.log"

// OpenData reads what --data names: "logs" (real log files where they are, else lines made to shrink like them), "random"
// (incompressible), or the lines of a file or of the *.log files of a directory.
func OpenData(name string) (*Data, error) {
	switch name {
	case "random":
		return &Data{Name: "random"}, nil
	case "logs":
		if files, _ := filepath.Glob(logGlob); len(files) > 0 {
			return readLines(fmt.Sprintf("logs: %d files of %s", len(files), filepath.Dir(logGlob)), files)
		}
		return &Data{Name: "logs: generated", lines: generateLines(generatedLines)}, nil
	}
	files := []string{name}
	if st, err := os.Stat(name); err == nil && st.IsDir() {
		files, _ = filepath.Glob(filepath.Join(name, "*.log"))
	}
	return readLines(name, files)
}

func readLines(name string, files []string) (*Data, error) {
	d := &Data{Name: name}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("--data %s: %w: want logs, random, a file, or a directory of *.log", name, errors.Unwrap(err))
		}
		for line := range bytes.Lines(b) {
			if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
				d.lines = append(d.lines, line)
			}
		}
	}
	if len(d.lines) == 0 {
		return nil, fmt.Errorf("--data %s: no lines in it", name)
	}
	return d, nil
}

// slabBytes are allocated at once, for many values.
const slabBytes = 256 << 10

// Source gives values one after another. It is not safe for concurrent use; each producer has its own.
type Source struct {
	data  *Data
	bytes int
	rng   *rand.ChaCha8
	line  int
	at    int // in the line
	slab  []byte
}

// Source makes a source of values of so many bytes, number of total ones that run beside each other.
func (d *Data) Source(bytes, number, total int) *Source {
	s := &Source{data: d, bytes: bytes, rng: rand.NewChaCha8(chachaSeed(uint64(number)))}
	if len(d.lines) > 0 {
		s.line = number * len(d.lines) / total
	}
	return s
}

func chachaSeed(n uint64) (seed [32]byte) {
	for i := range 8 {
		seed[i] = byte(n >> (8 * i))
	}
	return seed
}

// Next gives a value that nobody else holds.
func (s *Source) Next() []byte {
	if len(s.slab) < s.bytes {
		s.slab = make([]byte, max(slabBytes, s.bytes))
	}
	v := s.slab[:s.bytes:s.bytes]
	s.slab = s.slab[s.bytes:]
	if len(s.data.lines) == 0 {
		_, _ = s.rng.Read(v) // never fails
		return v
	}
	s.fill(v)
	return v
}

// fill writes lines into v, each part of a line behind a running number.
func (s *Source) fill(v []byte) {
	for n := 0; n < len(v); {
		var number [24]byte
		head := append(strconv.AppendUint(number[:0], s.data.next.Add(1), 10), ' ')
		n += copy(v[n:], head)
		line := s.data.lines[s.line][s.at:]
		c := copy(v[n:], line)
		n += c
		if c < len(line) {
			s.at += c
			return
		}
		s.line, s.at = (s.line+1)%len(s.data.lines), 0
		if n < len(v) {
			v[n] = '\n'
			n++
		}
	}
}

const generatedLines = 20_000

// generateLines makes lines that shrink like those of real services: few shapes, many numbers, paths and addresses that come back.
func generateLines(count int) [][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	pick := func(words []string) string { return words[rng.IntN(len(words))] }
	levels := []string{"INFO", "INFO", "INFO", "WARN", "DEBUG", "ERROR"}
	parts := []string{"dfs.DataNode$PacketResponder", "nova.compute.manager", "executor.Executor", "server.NIOServerCnxn", "storage.BlockManager", "http.access"}
	var hosts, blocks []string
	for range 40 {
		hosts = append(hosts, fmt.Sprintf("10.%d.%d.%d:%d", rng.IntN(4), rng.IntN(250), rng.IntN(250), 1024+rng.IntN(60000)))
	}
	for range 400 {
		blocks = append(blocks, fmt.Sprintf("blk_%d", rng.Int64()))
	}
	lines := make([][]byte, count)
	for i := range lines {
		ms := 1_500_000 + i*37 + rng.IntN(30)
		stamp := fmt.Sprintf("2026-11-%02d %02d:%02d:%02d,%03d", 1+ms/86_400_000%28, ms/3_600_000%24, ms/60_000%60, ms/1000%60, ms%1000)
		var text string
		switch rng.IntN(5) {
		case 0:
			text = fmt.Sprintf("PacketResponder %d for block %s terminating", rng.IntN(3), pick(blocks))
		case 1:
			text = fmt.Sprintf("Received block %s of size %d from /%s", pick(blocks), rng.IntN(67_108_864), pick(hosts))
		case 2:
			text = fmt.Sprintf("\"GET /v2/servers/detail?id=%08x HTTP/1.1\" status: 200 len: %d time: 0.%07d", rng.Uint32(), 1000+rng.IntN(1000), rng.IntN(10_000_000))
		case 3:
			text = fmt.Sprintf("Accepted socket connection from /%s session 0x%x negotiated timeout 10000", pick(hosts), rng.Uint64())
		default:
			text = fmt.Sprintf("Finished task %d.0 in stage %d.0 (TID %d). %d bytes result sent to driver", rng.IntN(400), i/400, i, 2000+rng.IntN(400))
		}
		lines[i] = fmt.Appendf(nil, "%s %s [%d] %s: %s", stamp, pick(levels), 100+rng.IntN(60), pick(parts), text)
	}
	return lines
}
