package hostile

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pin keeps every thread of a process, and those they start, on one core.
func pin(t *testing.T, pid int, cores ...int) {
	t.Helper()
	var set unix.CPUSet
	for _, c := range cores {
		set.Set(c)
	}
	list, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	ok(t, err)
	for _, e := range list {
		id, err := strconv.Atoi(e.Name())
		ok(t, err)
		if err := unix.SchedSetaffinity(id, &set); err != nil && err != unix.ESRCH { // a thread may have ended
			t.Fatal(err)
		}
	}
}

// burden takes most of a core, so that what else runs there is slow and
// whoever calls it need not be fast.
func burden(t *testing.T, core, n int) {
	t.Helper()
	for range n {
		cmd := exec.Command("/bin/sh", "-c", "while :; do :; done")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		ok(t, cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Kill() // it has no other end
			_ = cmd.Wait()
		})
		pin(t, cmd.Process.Pid, core)
	}
}

// load is what became of the calls of one stretch of time.
type load struct {
	good, late, shed, bare, odd, failed, missed atomic.Int64
}

// generator calls at a rate, whatever becomes of the calls, as the public does.
type generator struct {
	host, path string
	keep       bool // connections are kept for the next call
	patience   time.Duration
	callers    int // at most so many wait at a time; the others are missed
	now        atomic.Pointer[load]
	work       chan struct{}
	stop       chan struct{}
	wg         sync.WaitGroup
}

func (g *generator) start() {
	g.now.Store(new(load))
	g.work, g.stop = make(chan struct{}), make(chan struct{})
	for range g.callers {
		g.wg.Go(g.caller)
	}
}

func (g *generator) end() {
	close(g.stop)
	g.wg.Wait()
}

// run makes rate calls a second for a time and gives what became of them; rate
// 0 has callers call again and again, each after its last call.
func (g *generator) run(rate float64, callers int, lasts time.Duration) *load {
	l := new(load)
	g.now.Store(l)
	began := time.Now()
	if rate == 0 {
		var wg sync.WaitGroup
		done := make(chan struct{})
		for range callers {
			wg.Go(func() {
				c := client{g: g}
				defer c.leave()
				for {
					select {
					case <-done:
						return
					default:
						c.call()
					}
				}
			})
		}
		time.Sleep(lasts)
		close(done)
		g.now.Store(new(load))
		wg.Wait()
		return l
	}
	sent := 0
	for at := time.Since(began); at < lasts; at = time.Since(began) {
		for due := int(rate * at.Seconds()); sent < due; sent++ {
			select {
			case g.work <- struct{}{}:
			default:
				l.missed.Add(1)
			}
		}
		time.Sleep(time.Millisecond)
	}
	g.now.Store(new(load))
	return l
}

func (g *generator) caller() {
	c := client{g: g}
	defer c.leave()
	for {
		select {
		case <-g.stop:
			return
		case <-g.work:
			c.call()
		}
	}
}

// client is one caller with its connection.
type client struct {
	g  *generator
	nc net.Conn
	in *bufio.Reader
}

func (c *client) leave() {
	if c.nc != nil {
		if t, ok := c.nc.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // its port must not wait for its time
		}
		_ = c.nc.Close()
		c.nc = nil
	}
}

func (c *client) call() {
	l, began := c.g.now.Load(), time.Now()
	status, retry, last, err := c.exchange(began)
	took := time.Since(began)
	switch {
	case err != nil:
		l.failed.Add(1)
	case status == http.StatusOK && took <= c.g.patience:
		l.good.Add(1)
	case status == http.StatusOK:
		l.late.Add(1)
	case status == http.StatusServiceUnavailable && retry:
		l.shed.Add(1)
	case status == http.StatusServiceUnavailable:
		l.bare.Add(1)
	default:
		l.odd.Add(1)
	}
	if err != nil || last || !c.g.keep {
		c.leave()
	}
}

func (c *client) exchange(began time.Time) (status int, retry, last bool, err error) {
	until := began.Add(2 * c.g.patience)
	if c.nc == nil {
		if c.nc, err = (&net.Dialer{Deadline: until}).Dial("tcp", c.g.host); err != nil {
			return 0, false, false, err
		}
		c.in = bufio.NewReaderSize(c.nc, 2048)
	}
	if err := c.nc.SetDeadline(until); err != nil {
		return 0, false, false, err
	}
	if _, err := io.WriteString(c.nc, "GET "+c.g.path+" HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		return 0, false, false, err
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, false, false, err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return 0, false, false, err
	}
	return res.StatusCode, res.Header.Get("Retry-After") != "", res.Close, nil
}
