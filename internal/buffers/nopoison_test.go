//go:build !poison

package buffers

const poisonForTest = 0
