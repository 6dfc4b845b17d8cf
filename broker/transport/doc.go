// Package transport carries the Raft messages of all groups between brokers over one mesh of gRPC streams (architecture D9).
//
//	codec.go  frames: many messages of many groups in one piece, payloads by reference; pure
//	queue.go  what waits for one stream: bounded, drops with a report; a step machine
//	hello.go  who is at the other end, and whether to talk to it (architecture D11)
//	mesh.go   the gRPC streams, one per peer and class; the only part with goroutines
package transport
