//go:build !linux

package datadir

func checkMedium(string, bool) error { return nil }
