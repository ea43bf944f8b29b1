package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loadResult is what the load process prints as one line of JSON.
type loadResult struct {
	Sent, Bad int           // requests answered; of them with another status or length than expected
	Elapsed   time.Duration // from the first to the last answer
	P50, P99  time.Duration // from the time a request was due to the end of its answer
	Max       time.Duration
	Error     string // first thing that went wrong
}

// generator is a load generator of one thread: an epoll loop over keep-alive
// connections that sends prepared requests at a fixed rate. A request that no
// connection is free for waits, and its waiting counts as latency.
type generator struct {
	ep       int
	conns    []*loadConn
	free     []*loadConn
	requests [][]byte
	next     int // in requests
	once     bool
	body     int // expected length of answers
	due      []time.Time
	took     []time.Duration
	res      loadResult
}

// runLoad is the load process. It connects, sends one request on each
// connection and warms up, says "ready", waits for a line, and measures.
func runLoad(args []string) error {
	fs := flag.NewFlagSet("load", flag.ContinueOnError)
	addr := fs.String("addr", "", "host:port")
	file := fs.String("requests", "", "file of requests")
	warmFile := fs.String("warm-requests", "", "file of requests for warming up; empty: the same")
	warm := fs.Duration("warm", 300*time.Millisecond, "time of warming up")
	conns := fs.Int("conns", 64, "connections")
	rate := fs.Float64("rate", 0, "requests per second; 0: as fast as answers come")
	dur := fs.Duration("for", 3*time.Second, "time to measure")
	once := fs.Bool("once", false, "each request once, then stop")
	body := fs.Int("body", 1024, "expected length of the answers' bodies")
	secure := fs.Bool("tls", false, "TLS 1.3")
	if err := fs.Parse(args); err != nil {
		return err
	}
	debug.SetGCPercent(400)
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1000, 0, 0, 0)
	requests, err := readRequests(*file)
	if err != nil {
		return err
	}
	warmRequests := requests
	if *warmFile != "" {
		if warmRequests, err = readRequests(*warmFile); err != nil {
			return err
		}
	}
	g := &generator{requests: warmRequests, body: *body}
	if err := g.connect(*addr, *conns, *secure); err != nil {
		return err
	}
	defer g.close()
	if len(warmRequests) > 1 { // each of them once: what can be remembered is
		g.once = true
		g.run(0, 2*time.Minute)
		g.once = false
	} else {
		g.run(min(*rate, 2000), *warm) // a rate of 0 stays 0
	}
	if g.res.Bad > 0 || g.res.Error != "" {
		return fmt.Errorf("warming up: %d bad answers of %d: %s", g.res.Bad, g.res.Sent, g.res.Error)
	}
	if *rate > 0 {
		g.run(*rate, *warm)
	}
	if g.res.Error != "" {
		return fmt.Errorf("warming up: %s", g.res.Error)
	}
	g.requests, g.next, g.once, g.res = requests, 0, *once, loadResult{}
	room := int(*rate*dur.Seconds()) + 1<<16
	g.took = make([]time.Duration, 0, max(room, 1<<20))
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return fmt.Errorf("wait for the start: %w", err)
	}
	g.run(*rate, *dur)
	slices.Sort(g.took)
	if n := len(g.took); n > 0 {
		g.res.P50, g.res.P99, g.res.Max = g.took[n/2], g.took[n*99/100], g.took[n-1]
	}
	out, err := json.Marshal(g.res)
	if err != nil {
		return err
	}
	fmt.Println(string(out))
	// The measuring process reads the clocks before the connections go.
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	return nil
}

func (g *generator) connect(addr string, n int, secure bool) error {
	var err error
	if g.ep, err = unix.EpollCreate1(0); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	for i := range n {
		c, err := dial(addr, secure)
		if err != nil {
			return fmt.Errorf("connect to %s: %w", addr, err)
		}
		if err := unix.EpollCtl(g.ep, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: edges, Fd: int32(i)}); err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
		g.conns, g.free = append(g.conns, c), append(g.free, c)
	}
	return nil
}

// run sends for a time, then waits for the answers that are due.
func (g *generator) run(rate float64, dur time.Duration) {
	var events [128]unix.EpollEvent
	start := time.Now()
	end := start.Add(dur)
	every := time.Duration(0)
	if rate > 0 {
		every = time.Duration(float64(time.Second) / rate)
	}
	nextDue, stopped := start, false
	g.due = g.due[:0]
	for g.res.Error == "" {
		now := time.Now()
		if !stopped && (now.After(end) || (g.once && g.next >= len(g.requests))) {
			stopped = true
			g.due = g.due[:0]
		}
		if stopped && len(g.free) == len(g.conns) {
			break
		}
		if stopped && now.After(end.Add(10*time.Second)) {
			g.fail(errors.New("no answer within 10 s"))
			break
		}
		wait := 100 * time.Millisecond
		if !stopped {
			switch {
			case rate == 0:
				for len(g.free) > 0 && g.more() {
					g.send(now)
				}
			default:
				for !nextDue.After(now) && g.more() {
					if len(g.free) > 0 && len(g.due) == 0 {
						g.send(nextDue)
					} else {
						g.due = append(g.due, nextDue)
					}
					nextDue = nextDue.Add(every)
				}
				wait = max(0, time.Until(nextDue))
			}
		}
		n, err := epollWait(g.ep, events[:], wait)
		if err != nil {
			g.fail(err)
			break
		}
		for _, ev := range events[:n] {
			c := g.conns[ev.Fd]
			done, err := c.progress()
			if err != nil {
				g.fail(err)
				break
			}
			if done {
				g.finish(c)
			}
		}
		for len(g.due) > 0 && len(g.free) > 0 && !stopped && g.more() {
			at := g.due[0]
			g.due = g.due[1:]
			g.send(at)
		}
	}
	g.res.Elapsed = time.Since(start)
}

func (g *generator) more() bool { return !g.once || g.next < len(g.requests) }

func (g *generator) send(due time.Time) {
	c := g.free[len(g.free)-1]
	g.free = g.free[:len(g.free)-1]
	c.due, c.busy, c.in, c.out = due, true, c.in[:0], g.requests[g.next%len(g.requests)]
	g.next++
	if err := c.flush(); err != nil {
		g.fail(err)
	}
}

func (g *generator) finish(c *loadConn) {
	g.took = append(g.took, time.Since(c.due))
	g.res.Sent++
	if c.status != 200 || c.length != g.body {
		g.res.Bad++
		if g.res.Bad == 1 {
			fmt.Fprintf(os.Stderr, "load: status %d with %d bytes, want 200 with %d: %.300q\n", c.status, c.length, g.body, c.in)
		}
	}
	c.busy = false
	g.free = append(g.free, c)
}

func (g *generator) fail(err error) {
	if g.res.Error == "" {
		g.res.Error = err.Error()
	}
}

// edges are told once for each change.
const edges = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | 1<<31 // EPOLLET

// epollWait is epoll_pwait2, whose time-out has nanoseconds; below 0 is for ever.
// The thread has nothing else to run, so the scheduler need not know.
func epollWait(ep int, events []unix.EpollEvent, d time.Duration) (int, error) {
	var timeout unsafe.Pointer
	if d >= 0 {
		ts := unix.NsecToTimespec(int64(d))
		timeout = unsafe.Pointer(&ts)
	}
	n, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(ep), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(timeout), 0, 0)
	if e == syscall.EINTR {
		return 0, nil
	}
	if e != 0 {
		return 0, fmt.Errorf("epoll: %w", e)
	}
	return int(n), nil
}

// dial connects and, for TLS, shakes hands, before the socket stops blocking.
func dial(addr string, secure bool) (*loadConn, error) {
	tcp, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: tcp.Port, Addr: [4]byte(tcp.IP.To4())}); err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return nil, err
	}
	c := &loadConn{fd: fd, in: make([]byte, 0, 256<<10)}
	c.rw = rawSocket(fd)
	if secure {
		t := tls.Client(&socketConn{fd: fd}, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, ServerName: "localhost"}) // the certificate is the benchmark's own
		if err := t.Handshake(); err != nil {
			return nil, fmt.Errorf("handshake: %w", err)
		}
		c.rw, c.secure = t, true
	}
	return c, unix.SetNonblock(fd, true)
}

func (g *generator) close() {
	for _, c := range g.conns {
		_ = unix.Close(c.fd) // nothing is in flight that counts
	}
	_ = unix.Close(g.ep)
}
