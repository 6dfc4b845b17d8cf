//go:build unix

package bench

import (
	"syscall"
	"time"
)

// cpuTime is what this process has used of processors, user and system: unlike the clock it does not count those who share the machine.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
