// Package record is RecordBatch v2 (Kafka's magic 2), the only record format of Lograft: on the wire, in Raft, on disk.
//
//	 0  base offset       i64     \
//	 8  batch length      i32      | bytes after this field; at least 49
//	12  leader epoch      i32      | outside the CRC: the leader stamps offset and epoch in place
//	16  magic             i8      /  2
//	17  crc-32c           u32        of every byte from 21 on
//	21  attributes        i16        bits 0-2 codec, 3 timestamp type, 4 transactional, 5 control
//	23  last offset delta i32
//	27  base timestamp    i64 ms     of the first record
//	35  max timestamp     i64 ms
//	43  producer id       i64        -1: not idempotent, the next two mean nothing
//	51  producer epoch    i16
//	53  base sequence     i32        of the first record; wraps after 2^31-1 to 0
//	57  records count     i32
//	61  records                      compressed as one blob
//
// All of these are big-endian. A record, its varints zigzag:
//
//	length varint | attributes i8 | timestamp delta varlong | offset delta varint | key | value | headers count varint | (key, value)...
//
// Keys and values are a varint length, -1 for null, and their bytes; a header's key is never null. The codecs: gzip; snappy as one raw
// block, read also in blocks as snappy-java frames it; lz4 frames; zstd. Several gzip, lz4 or zstd frames in a row are read as one. Source: Kafka's DefaultRecordBatch and DefaultRecord.
//
// # Who checks what
//
// The broker calls [Validate] where a batch comes in: header and CRC, no decompression, no allocation. What is inside the records is
// checked by [Batch.Iterate], on the reader's side, within [Limits]. [Parse] makes the accessors safe and promises nothing else.
//
// # Memory
//
// A Batch is the caller's bytes. To inflate, Iterate allocates at most five times the limit in all, about half of that live at once, and
// nothing by what a blob claims to hold; headers and their names may each take the limit again. Decoders are pooled; what they keep
// between calls is bounded by their windows.
//
// # Limitations
//
//   - Validate does not look at records, even uncompressed ones, nor at the attribute bits 6 to 15, nor at whether max timestamp is
//     true: a producer that lies there is seen by readers.
//   - zstd windows above 8 MiB are refused (zstd's levels up to 19 stay below; --ultra and --long do not), and so are single-segment
//     frames of more than 8 MiB.
//   - A Builder does not judge the producer it is given: sequence -1 with an id of 0 or more is refused by Validate only.
package record
