package hostile

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// crowd is many connections that do one thing, slowly.
type crowd struct {
	conns []*net.TCPConn
	stop  chan struct{}
	wg    sync.WaitGroup
}

// kinds of crowds: what they say first, and what every second after that.
var kinds = map[string]struct {
	first func(path string) string
	drip  string
	reads bool // a byte every second
}{
	"slow heads": {
		first: func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: h\r\nX-Slow: " },
		drip:  "a",
	},
	"slow bodies": {
		first: func(path string) string {
			return "POST " + path + " HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n"
		},
		drip: "a",
	},
	"slow readers": {
		first: func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n" },
		reads: true,
	},
	"idle": {
		first: func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n" },
	},
}

// open connects n clients of a kind; idle ones have had an answer.
func gather(t *testing.T, host, path, kind string, n int) *crowd {
	t.Helper()
	k := kinds[kind]
	c := &crowd{stop: make(chan struct{})}
	t.Cleanup(c.close)
	dialer := net.Dialer{Timeout: 20 * time.Second}
	if k.reads {
		dialer.Control = smallWindow
	}
	list := make([]*net.TCPConn, n)
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				nc, err := dialer.Dial("tcp", host)
				if err == nil {
					list[i] = nc.(*net.TCPConn)
					_, err = io.WriteString(nc, k.first(path))
				}
				if err == nil && kind == "idle" {
					err = answered(nc)
				}
				if err != nil {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	for _, nc := range list {
		if nc != nil {
			c.conns = append(c.conns, nc)
		}
	}
	if f := failed.Load(); f > 0 {
		t.Fatalf("%s: %d of %d connections failed", kind, f, n)
	}
	c.wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		b := make([]byte, 1)
		for {
			select {
			case <-c.stop:
				return
			case <-tick.C:
			}
			for _, nc := range c.conns {
				switch { // those that were cut are found by gone
				case k.drip != "":
					_, _ = io.WriteString(nc, k.drip)
				case k.reads:
					_ = nc.SetReadDeadline(time.Now().Add(time.Millisecond))
					_, _ = nc.Read(b)
				}
			}
		}
	})
	return c
}

// answered reads one good answer.
func answered(nc net.Conn) error {
	if err := nc.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || string(b) != good) {
		err = fmt.Errorf("status %s: %.200s", res.Status, b)
	}
	return err
}

// gone counts the connections that the node has ended.
func (c *crowd) gone() (n int) {
	for _, nc := range c.conns {
		raw, err := nc.SyscallConn()
		if err != nil {
			n++
			continue
		}
		err = raw.Control(func(fd uintptr) {
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
			if _, err := unix.Poll(p, 0); err == nil && p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0 {
				n++
			}
		})
		if err != nil {
			n++
		}
	}
	return n
}

func (c *crowd) close() {
	select {
	case <-c.stop:
		return
	default:
	}
	close(c.stop)
	c.wg.Wait()
	for _, nc := range c.conns {
		_ = nc.SetLinger(0) // thousands of ports must not wait for their time
		_ = nc.Close()
	}
}
