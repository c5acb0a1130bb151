package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mikelolasagasti/xz"
)

// threadsMemory bounds what decoding blocks in parallel takes, in bytes, which
// otherwise grows with the processors: two of the blocks of "xz -6" fit.
const threadsMemory = 80 << 20

// errProgram says that the program has failed, which is no fault of the
// archive.
var errProgram = errors.New("the program that decompresses has ended early")

// unxz decodes xz: by the program of that name, which is several times as fast
// as Go and decodes blocks in parallel, where it is installed.
func unxz(ctx context.Context, src io.Reader) (io.ReadCloser, error) {
	if program, ok := xzProgram(); ok {
		if p, err := startXz(ctx, program, src); err == nil {
			return p, nil
		}
	}
	d, err := xz.NewReader(src, maxWindow)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(d), nil
}

// xzProgram finds the program, and not what busybox has of it, which knows no
// limits.
func xzProgram() (path string, ok bool) {
	path, err := exec.LookPath("xz")
	if err != nil {
		return "", false
	}
	itself, err := filepath.EvalSymlinks(path)
	return path, err == nil && filepath.Base(itself) != "busybox"
}

// An xzProcess is the program at work. Whoever has read it to its end, or
// closed it, has waited for the process.
type xzProcess struct {
	cmd    *exec.Cmd
	out    io.ReadCloser
	stderr bytes.Buffer
	err    error // how it ended
	ended  bool
	cancel context.CancelFunc
}

func startXz(ctx context.Context, program string, src io.Reader) (*xzProcess, error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &xzProcess{cancel: cancel}
	// The limit of threads is what is left of the first when the second is set,
	// which programs from before 5.4, that have no such threads, take too.
	p.cmd = exec.CommandContext(ctx, program, "--decompress", "--stdout", "--threads=0",
		fmt.Sprint("--memlimit=", threadsMemory), fmt.Sprint("--memlimit-decompress=", 2*maxWindow))
	p.cmd.Args[0] = "xz"             // the name by which it complains
	p.cmd.Env = []string{"LC_ALL=C"} // no XZ_OPT
	// A Ctrl-C is for us: the context ends the program.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Stdin, p.cmd.Stderr = src, &p.stderr
	var err error
	if p.out, err = p.cmd.StdoutPipe(); err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start xz: %w", err)
	}
	return p, nil
}

func (p *xzProcess) Read(b []byte) (int, error) {
	if p.ended {
		return 0, p.err
	}
	n, err := p.out.Read(b)
	if err == nil {
		return n, nil
	}
	p.end(err)
	return n, p.err
}

// end waits for the process, and finds out how reading it has ended. Its exit
// status is nobody else's.
func (p *xzProcess) end(err error) {
	p.ended = true
	waitErr := p.cmd.Wait()
	p.cancel()
	switch exit := (*exec.ExitError)(nil); {
	case errors.As(waitErr, &exit) && !exit.Exited():
		p.err = fmt.Errorf("%w: xz: %v", errProgram, waitErr)
	case errors.As(waitErr, &exit):
		said := strings.TrimPrefix(strings.TrimSpace(p.stderr.String()), "xz: (stdin): ")
		p.err = fmt.Errorf("xz: %s (%v)", said, waitErr)
	case waitErr != nil:
		p.err = waitErr // of the source
	default:
		p.err = err
	}
}

// Close ends the process, if it has not.
func (p *xzProcess) Close() error {
	if !p.ended {
		p.cancel()
		p.end(io.ErrClosedPipe)
	}
	return nil
}
