//go:build !linux

package integration

import "syscall"

// childAttributes gives a program a process group of its own, so that Ctrl-C reaches only us.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

func onTmpfs(string) bool { return false }
