// Package e2e drives the real binary over real HTTP: it builds it, starts and
// kills processes, and walks the main journeys the way a client of the original
// would. End-to-end tests and benchmarks share it; the product never imports it.
package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

var build struct {
	once sync.Once
	path string
	err  error
}

// Binary builds the product once per process, without cgo, and returns its
// path. CARDEA_BINARY names one that exists already.
func Binary() (string, error) {
	build.once.Do(func() {
		if p := os.Getenv("CARDEA_BINARY"); p != "" {
			build.path = p
			return
		}
		dir, err := os.MkdirTemp("", "cardea-bin-")
		if err != nil {
			build.err = err
			return
		}
		build.path = filepath.Join(dir, "cardea")
		cmd := exec.Command("go", "build", "-o", build.path, "./cmd/cardea")
		cmd.Dir = Root()
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			build.err = fmt.Errorf("build cardea: %w\n%s", err, out)
		}
	})
	return build.path, build.err
}

// Cleanup removes what Binary built; call it at the end of TestMain.
func Cleanup() {
	if build.path != "" && os.Getenv("CARDEA_BINARY") == "" {
		_ = os.RemoveAll(filepath.Dir(build.path)) // a leftover in the temporary folder harms nobody
	}
}

// Root is the repository's root folder.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Ports a node opens, before the offset.
const (
	portHTTPS   = 9443
	portHTTP    = 9763
	portGwHTTPS = 8243
	portGwHTTP  = 8280
	portSync    = 9444
	portBus     = 4222
)

var offsets struct {
	sync.Mutex
	next int
	held []*os.File
}

// Ports of test nodes stay below those that the kernel gives to outgoing
// connections (32768 and up): while a node is stopped none can take its place.
const (
	firstOffset = 10000
	lastOffset  = 22900
	// offsetStep divides no difference between two ports of a node, so that no
	// port of one offset is another port of a second one.
	offsetStep = 31
)

// FreeOffset finds a port offset at which every port of a node is free.
func FreeOffset() (int, error) {
	offsets.Lock()
	defer offsets.Unlock()
	if offsets.next == 0 {
		offsets.next = firstOffset + (os.Getpid()%400)*offsetStep
	}
	for range 500 {
		o := offsets.next
		if offsets.next += offsetStep; offsets.next > lastOffset {
			offsets.next = firstOffset
		}
		free := true
		for _, p := range []int{portHTTPS, portHTTP, portGwHTTPS, portGwHTTP, portSync, portBus, 8099, 9099, 8021, 9021} {
			l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(p+o))
			if err != nil {
				free = false
				break
			}
			_ = l.Close()
		}
		if free && claim(o) {
			return o, nil
		}
	}
	return 0, errors.New("find free ports: none")
}

// claim holds an offset until this process ends, so that tests of other packages
// that run meanwhile look for another one.
func claim(offset int) bool {
	dir := filepath.Join(os.TempDir(), "cardea-test-offsets")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return true // without the lock it is as unlikely to collide as ports are many
	}
	f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(offset)), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return true
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return false
	}
	offsets.held = append(offsets.held, f)
	return true
}

// Node describes a process to start.
type Node struct {
	Home   string
	Offset int
	Args   []string // after serve --home --offset
	Env    []string
	Log    io.Writer // also receives the log; may be nil
}

// Process is a running node.
type Process struct {
	Node
	cmd  *exec.Cmd
	out  *lockedBuffer
	done chan struct{}
	err  error
}

type lockedBuffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	also io.Writer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.also != nil {
		_, _ = l.also.Write(p) // a broken mirror must not stop the node
	}
	if l.b.Len() > 16<<20 {
		l.b.Reset()
	}
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Launch starts a node without waiting for it.
func Launch(n Node) (*Process, error) {
	bin, err := Binary()
	if err != nil {
		return nil, err
	}
	if n.Offset == 0 {
		if n.Offset, err = FreeOffset(); err != nil {
			return nil, err
		}
	}
	args := append([]string{"serve", "--home", n.Home, "--offset", strconv.Itoa(n.Offset)}, n.Args...)
	p := &Process{Node: n, cmd: exec.Command(bin, args...), out: &lockedBuffer{also: n.Log}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.Env = append(os.Environ(), n.Env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Start launches a node and waits until it is ready.
func Start(ctx context.Context, n Node) (*Process, error) {
	p, err := Launch(n)
	if err != nil {
		return nil, err
	}
	if err := p.Ready(ctx); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// Ready waits for /readyz to answer 200.
func (p *Process) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Management()+"/readyz", nil)
		if err != nil {
			return err
		}
		if res, err := Insecure.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.done:
			return fmt.Errorf("node ended before it was ready: %v\n%s", p.err, p.Output())
		case <-ctx.Done():
			return fmt.Errorf("node not ready: %w\n%s", ctx.Err(), p.Output())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Output is what the node logged.
func (p *Process) Output() string { return p.out.String() }

// Pid is the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Kill ends the process with SIGKILL and waits for it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.done
}

// Stop ends the process with SIGTERM and returns its exit error.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-time.After(15 * time.Second):
		p.Kill()
		return errors.New("node did not stop within 15 s")
	}
}

// Pause and Resume stop and continue the process with SIGSTOP and SIGCONT.
func (p *Process) Pause() error  { return p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *Process) Resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// Management is the base URL of the management listener.
func (p *Process) Management() string {
	return "https://localhost:" + strconv.Itoa(portHTTPS+p.Offset)
}

// Gateway is the base URL of the plain gateway listener.
func (p *Process) Gateway() string { return "http://localhost:" + strconv.Itoa(portGwHTTP+p.Offset) }

// GatewayTLS is the base URL of the TLS gateway listener.
func (p *Process) GatewayTLS() string {
	return "https://localhost:" + strconv.Itoa(portGwHTTPS+p.Offset)
}

// Insecure is a client that accepts the node's own certificate.
var Insecure = &http.Client{
	Timeout: 120 * time.Second,
	Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true}, // the node under test signs its own
		MaxIdleConnsPerHost: 128,
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}
