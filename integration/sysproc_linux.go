package integration

import "syscall"

// childAttributes gives a program a process group of its own, so that Ctrl-C reaches only us, and ties its life to ours: if we are
// killed with no chance to clean up, so is it.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// onTmpfs reports whether dir lies in memory: a broker refuses such a data directory unless it is told so.
func onTmpfs(dir string) bool {
	const tmpfsMagic = 0x01021994 // statfs(2)
	var st syscall.Statfs_t
	return syscall.Statfs(dir, &st) == nil && int64(st.Type) == tmpfsMagic
}
