package cluster

import "lograft/broker/wire"

// writer and reader add this package's fields to those of wire.
type writer struct{ wire.Writer }

type reader struct{ wire.Reader }

func newReader(b []byte) *reader { return &reader{wire.NewReader(b)} }
