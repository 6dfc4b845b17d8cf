package journal

// prefixOf reads what stands before a record: the record's length n and the prefix's own, k. k <= 0: there is none.
type prefixOf func(b []byte) (n uint64, k int)

// recordBytesMax bounds a record: a birth with the largest settings.
const recordBytesMax = 1 << 20

// recordAt returns the good record that b begins with, and the bytes it takes with its prefix.
func recordAt(b []byte, prefix prefixOf) (record []byte, size int, ok bool) {
	n, k := prefix(b)
	if k <= 0 || n < headBytes || n > recordBytesMax || n > uint64(len(b)-k) {
		return nil, 0, false
	}
	record = b[k : k+int(n)]
	if kind := kind(record[20]); kind == 0 || kind > kindMax {
		return nil, 0, false
	}
	_, ok = decodeRecord(record)
	return record, k + int(n), ok
}

// walkRecords visits every good record of a file's bytes in order, and nil for every gap of bytes that are none and have a good record
// behind them. end is where the last good record ends; clean says that there was no gap and nothing behind it.
func walkRecords(b []byte, prefix prefixOf, visit func(record []byte)) (end int, clean bool) {
	clean = true
	for at := 0; at < len(b); at++ {
		record, size, ok := recordAt(b[at:], prefix)
		if !ok {
			continue
		}
		if at > end {
			visit(nil)
			clean = false
		}
		visit(record)
		end = at + size
		at = end - 1
	}
	return end, clean && end == len(b)
}
