package transport

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Protocol is the version of frames and handshake; brokers of another one are refused.
const Protocol = 2

// Hello says who is at one end of a stream (architecture D11). Both ends send one before anything else.
type Hello struct {
	Protocol    int    `json:"protocol"`
	ClusterName string `json:"cluster_name"`
	ClusterID   [16]byte
	Born        bool // the cluster has been born as far as this broker knows; ClusterID is set
	NodeID      uint64
	DirID       [16]byte
	Boot        uint64
	Nonce       uint64
	// Starts are the last starts of the sender's data directory, the newest last; brokers of older builds send none.
	Starts []Start `json:",omitempty"`
	// Commands is the newest version of metadata commands that the sender's build carries out; brokers of older builds say nothing.
	Commands uint32 `json:",omitempty"`
	Class    Class
	Probe    bool // only this exchange is wanted
	// Join: the sender's directory is new to the cluster, and it asks to be registered (Handler.Join). Nothing else passes on the stream.
	Join bool   `json:",omitempty"`
	Addr string `json:",omitempty"` // with Join: of the sender's peer port
	// Seats are the brokers of the cluster as the sender knows them; a broker that was away learns from them whom to listen to.
	Seats []Seat `json:",omitempty"`
}

// Start is one start on a data directory, with the boot numbers from Boot on.
type Start struct{ Boot, Nonce uint64 }

// Seat is a broker's place in the cluster as of the metadata index Since.
type Seat struct {
	Node    uint64
	DirID   [16]byte
	Since   uint64
	Replica uint64 `json:",omitempty"` // of the metadata group
	Addr    string `json:",omitempty"`
	Gone    bool   `json:",omitempty"`
}

// removed reports whether the sender knows that a node was removed from the cluster.
func (h *Hello) removed(node uint64) bool {
	return slices.ContainsFunc(h.Seats, func(s Seat) bool { return s.Node == node && s.Gone })
}

// Joined answers Hello.Join.
type Joined struct {
	Birth   []byte // of the cluster, encoded by the brokers
	Replica uint64 // id of the asker's replica of the metadata group
	Seats   []Seat
	// Leader is where to ask instead, if it is set; nothing was registered then.
	Leader string `json:",omitempty"`
}

const helloBytesMax = 128 << 10

func (h Hello) encode() []byte {
	b, err := json.Marshal(h)
	if err != nil {
		panic(err) // numbers, bytes and a string: can't fail
	}
	return b
}

func decodeHello(b []byte) (Hello, error) {
	var h Hello
	if len(b) > helloBytesMax {
		return h, fmt.Errorf("greeting of %d bytes, at most %d", len(b), helloBytesMax)
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return h, fmt.Errorf("greeting: %w", err)
	}
	if h.Class >= classes {
		return h, fmt.Errorf("greeting: unknown class %d", h.Class)
	}
	if h.NodeID == 0 {
		return h, errors.New("greeting: node 0: node ids begin at 1")
	}
	return h, nil
}

// Compatible refuses a broker of another protocol or cluster name.
func (h Hello) Compatible(peer Hello) error {
	switch {
	case peer.Protocol != h.Protocol:
		return fmt.Errorf("node %d speaks protocol %d, this broker %d: run the same version on both", peer.NodeID, peer.Protocol, h.Protocol)
	case peer.ClusterName != h.ClusterName:
		return fmt.Errorf("node %d belongs to cluster %q, this broker to %q: check --initial-cluster and --cluster-id", peer.NodeID, peer.ClusterName, h.ClusterName)
	}
	return nil
}
