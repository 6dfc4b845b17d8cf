package segment

import (
	"errors"
	"fmt"

	"lograft/segment/vfs"
)

// Start is the entry before the first one of a log: a birth, a snapshot, or the last entry that was trimmed.
type Start struct {
	Index, Term uint64
	Offset      int64    // next offset after it
	AppendTime  int64    // ms since 1970
	Hash        [32]byte // of the segment that it ended; zeros if none
	Limit       int64    // of the segment that follows; 0: Options.SegmentBytes
}

// Mark is a persist mark: entries up to {Index, Term} were synced, the last one ends at Position in the segment that begins at
// SegmentBase. The zero Mark says nothing.
type Mark struct {
	Index, Term uint64
	Position    int64
	SegmentBase uint64
}

// Options say what log to open and how. Zero values take the defaults named.
type Options struct {
	FS    vfs.FS
	Dir   string
	Group GroupID
	// Start is used if the directory holds no trimmed log: the birth or the installed snapshot.
	Start Start
	// SegmentBytes is the limit of the segments before the first config frame. It must be the same on every replica. Default 64 MiB.
	SegmentBytes int64
	// LimitOf returns the limit that a frame of KindConfig sets for later segments. It must depend on the frame alone.
	LimitOf func(Frame) (limit int64, ok bool)
	// TailCacheBytes bounds the payload bytes kept in memory behind the log's end. Default 4 MiB. Frames that are not yet on file are
	// kept beyond it.
	TailCacheBytes int
	// Tails bounds the tail caches of many logs together; nil: each log's bound is all there is.
	Tails *TailBudget
	// PayloadBytesMax bounds a payload. Default 16 MiB.
	PayloadBytesMax int
	// SealedFilesMax bounds the open files of sealed segments. Default 4.
	SealedFilesMax int
	// Files bounds the open files of many logs together; nil: each log's bound is all there is.
	Files *FileBudget
	// AsideBytesMax bounds the bytes kept of everything that recovery cut off. Default 64 MiB.
	AsideBytesMax int64

	// What the journal says: it decides whether a bad frame is a torn write or damage.
	Mark           Mark
	CommitFloor    uint64 // journalled commit index
	Snapshot       SnapshotMark
	JournalDamaged bool // no bad frame counts as torn
	// AcceptLoss: an operator gives up everything from the first bad byte on (LossAccepted). Nothing counts as promised: what else would be damage,
	// or a contradiction, is set aside (*.cut) and cut like a torn tail. Footers are believed, and headers rebuilt, as always.
	// AcceptedLast is the last entry that is kept by what was shown to them: Open tries on a copy in memory first and refuses what would keep less
	// (ErrKeepsLess).
	AcceptLoss   bool
	AcceptedLast uint64
}

// SnapshotMark says that a snapshot's files were complete and synced and are to be swapped in: InstallTask.Mark gives it to the
// journal, Open gets it back from there and finishes the swap if it has to. The zero mark says nothing.
type SnapshotMark struct {
	Index, Term uint64
	Hash        [32]byte // of the staged manifest
	LogStart    int64    // first offset that the installed files hold
}

const (
	segmentBytesDefault   = 64 << 20
	tailCacheBytesDefault = 4 << 20
	sealedFilesDefault    = 4
	asideBytesDefault     = 64 << 20
)

// withDefaults returns o with its zero values replaced, or every fault it has.
func (o Options) withDefaults() (Options, error) {
	var errs []error
	if o.FS == nil {
		errs = append(errs, errors.New("segment: Options.FS is nil: hand in vfs.OS()"))
	}
	if o.Dir == "" {
		errs = append(errs, errors.New("segment: Options.Dir is empty"))
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = segmentBytesDefault
	}
	if o.SegmentBytes < segmentHeaderBytes {
		errs = append(errs, fmt.Errorf("segment: Options.SegmentBytes is %d, least is %d", o.SegmentBytes, segmentHeaderBytes))
	}
	if o.TailCacheBytes == 0 {
		o.TailCacheBytes = tailCacheBytesDefault
	}
	if o.PayloadBytesMax == 0 {
		o.PayloadBytesMax = PayloadBytesMaxDefault
	}
	if o.PayloadBytesMax < 0 || o.PayloadBytesMax > 1<<30 {
		errs = append(errs, fmt.Errorf("segment: Options.PayloadBytesMax is %d, most is %d", o.PayloadBytesMax, 1<<30))
	}
	if o.SealedFilesMax == 0 {
		o.SealedFilesMax = sealedFilesDefault
	}
	if o.AsideBytesMax == 0 {
		o.AsideBytesMax = asideBytesDefault
	}
	if o.Start.Offset < 0 || o.Start.Offset > offsetMax {
		errs = append(errs, fmt.Errorf("segment: Options.Start.Offset is %d", o.Start.Offset))
	}
	if o.LimitOf == nil {
		o.LimitOf = func(Frame) (int64, bool) { return 0, false }
	}
	return o, errors.Join(errs...)
}
