package vfs

import (
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// iovecMax is Linux's IOV_MAX: the buffers one pwritev takes.
const iovecMax = 1024

func (f osFile) WritevAt(bufs [][]byte, off int64) (n int, err error) {
	if len(bufs) == 1 {
		return f.WriteAt(bufs[0], off)
	}
	fd := int(f.Fd())
	for len(bufs) > 0 {
		k := min(len(bufs), iovecMax)
		m, err := unix.Pwritev(fd, bufs[:k], off+int64(n))
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return n, &os.PathError{Op: "pwritev", Path: f.Name(), Err: err}
		}
		want := 0
		for _, b := range bufs[:k] {
			want += len(b)
		}
		n += m
		if m == want {
			bufs = bufs[k:]
			continue
		}
		if m == 0 {
			return n, &os.PathError{Op: "pwritev", Path: f.Name(), Err: io.ErrShortWrite}
		}
		bufs = skip(bufs, m)
	}
	return n, nil
}

// skip returns what is left of bufs after n bytes, without changing the caller's slice.
func skip(bufs [][]byte, n int) [][]byte {
	i := 0
	for n >= len(bufs[i]) {
		n -= len(bufs[i])
		i++
	}
	rest := append([][]byte(nil), bufs[i:]...)
	rest[0] = rest[0][n:]
	return rest
}

func (f osFile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
		return nil
	}
}

func (osFS) Space(dir string) (free, size int64, err error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(dir, &st)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return 0, 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
		}
		return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize), nil
	}
}

func (f osFile) DropCache(from int64) error {
	from -= from % int64(os.Getpagesize()) // a page that begins before it would stay
	return unix.Fadvise(int(f.Fd()), from, 0, unix.FADV_DONTNEED)
}
