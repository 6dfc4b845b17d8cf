// Package segment is the log of one Raft group on disk: at once what Raft keeps and what consumers read.
//
// A log is a directory of segment files. Each is a header, frames and, once sealed, a footer; frame.go and format.go draw the bytes.
// Nothing in them is local to a replica: where a segment ends is a function of the frames before it, so two replicas that were fed
// the same frames hold the same files.
//
// # Contract
//
// One goroutine owns a Log. Append hands bytes to the file and makes them readable; they are durable when a SyncTask that was begun
// later is done and ended. The Do methods of the tasks run on any goroutine. A persist mark (DurableMark) goes to the journal after
// its data sync returned; it is what later tells a torn tail from rot. A conflicting append lowers Durable at once and cuts the file
// in the next SyncTask, after the marks that the task names are journalled and synced.
//
// An error of a file operation stops the log: it is never retried and nothing after it is acknowledged. Open decides from disk.
//
// Damage is a FaultyRange: held, not readable, never cut here. Term and Entries answer ErrFaulty within it. LastKnown is false while it
// hides the end of the log.
//
// # Finding and repairing damage
//
// Open judges what it reads. BeginVerify, VerifyTask.Step and EndVerify go through one segment at a time, as slowly as the caller
// likes, and add what they find to Faulty; a read that fails with ErrFaulty is a reason to verify its segment. Sealed gives the hashes
// by which replicas compare their segments. Every range is repaired by what it says:
//
//	Lost            whole files: Stage a peer's manifest, Want the segment that begins with From, Open, Write, InstallSegment
//	To == 0         nobody knows its end: a leader overwrites it (Append)
//	anything else   Repair with a peer's frames from From on, in portions of any size
//
// and look at Faulty again: a repair can show that a range was larger, or begins another file, than it seemed. Headers, footers and
// the footers of segments before sealed ones are written anew without a peer: they follow from the frames.
//
// # Snapshots
//
// BeginManifest gives a snapshot: the newest checkpoint of a sealed index and the sealed segments up to there, whose files a Pin keeps.
// Range reads a part of a pinned file on any goroutine. The receiver's log makes a Staging of the manifest (Stage, then Open on any
// goroutine), asks it for the Next bytes and hands them to Write; what it has survives restarts and changes of the sender. When Raft
// hands the snapshot out, BeginInstall, Prepare, the journal's snapshot mark, Do and EndInstall put it in the place of the log, in that
// order (install.go). Open is given the journal's mark and finishes a swap that a crash interrupted.
//
// # Limitations
//
//   - Rot that hits exactly what the last two sync rounds wrote before a crash looks like a torn write and is cut.
//   - A data payload's own CRC is trusted when it is appended: who appends has validated the batch.
//   - The index of a segment lives in memory until the segment is sealed and in its footer from then on; there is no separate file.
//     Open reads the frame headers of every unsealed segment.
//   - Several damaged ranges in one segment are told apart only where a frame header between them checks.
//   - The segment after a damaged unsealed one cannot be begun before the damage is repaired: its header holds the hash.
//   - Repair and InstallSegment do their I/O at once, on the owner's goroutine: a portion, and the headers of the segment when its last
//     damage is gone.
package segment
