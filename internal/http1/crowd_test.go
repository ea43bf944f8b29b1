package http1

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// held is the memory in use by this process's heap and stacks.
func held() int64 {
	var m runtime.MemStats
	for range 2 { // what a pool keeps lives for two
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// crowd opens n connections and sends each the same bytes.
func crowd(t *testing.T, addr string, n int, text string) (list []net.Conn) {
	t.Helper()
	t.Cleanup(func() {
		for _, c := range list {
			c.Close()
		}
	})
	for i := range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Skipf("%d connections are more than this system lets us have: %v", i, err)
		}
		list = append(list, c)
		_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// A thousand clients that send or read next to nothing neither hold up the
// others nor cost more than their buffers. The memory is that of both ends, the
// proxy between them and the backend, all in this process.
func TestCrowdsOfSlowClients(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 100
	}
	large := make([]byte, 1<<20)
	tests := []struct {
		name, text string
		backs      bool  // the backend has a connection for each
		most       int64 // bytes for each client
	}{
		{"slow heads", "GET / HTTP/1.1\r\nHost: h\r\nX-Slow: ", false, 24 << 10},
		{"slow bodies", "POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nabc", true, 160 << 10},
		{"slow chunks", "POST /slow HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nabc", true, 160 << 10},
		{"slow readers", "GET /large HTTP/1.1\r\nHost: h\r\n\r\n", true, 160 << 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			limits := Limits{SendBuffer: 16 << 10, Grace: time.Minute, HeadTime: time.Minute}
			bs, back := start(t, limits, func(x *Exchange) {
				if x.Target == "/large" {
					_ = x.Reply(200, nil, int64(len(large)))
					_, _ = x.Write(large)
					return
				}
				echo(x)
			})
			c := newClient(t, Options{})
			s, addr := start(t, limits, proxy(c, back))
			before := held()
			list := crowd(t, addr, n, tt.text)
			within(t, 20*time.Second, "all are being served", func() bool {
				return s.Open() == n && (!tt.backs || bs.Open() == n)
			})
			for i := range 100 {
				status, body, err := get(c, addr, &Request{Method: "POST", Target: "/", Host: "h", Body: strings.NewReader("abc"), Length: 3})
				if status != 200 || body != "abc" || err != nil {
					t.Fatalf("request %d of others: %d %q %v", i, status, body, err)
				}
			}
			each := (held() - before) / int64(n)
			t.Logf("%d clients cost %d bytes each", n, each)
			if each > tt.most {
				t.Errorf("each of %d clients costs %d bytes", n, each)
			}
			runtime.KeepAlive(list)
		})
	}
}

// What idle connections cost, with the client's end in the same process.
func TestIdleConnectionsAreCheap(t *testing.T) {
	n := 1000
	if long() {
		n = 5000
	}
	s, addr := start(t, Limits{}, echo)
	before := held()
	list := crowd(t, addr, n, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	for _, c := range list { // each has served a request
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	within(t, 10*time.Second, "all are open", func() bool { return s.Open() == n })
	each := (held() - before) / int64(n)
	t.Logf("%d idle connections cost %d bytes each", n, each)
	if each > 20<<10 {
		t.Errorf("an idle connection costs %d bytes", each)
	}
	runtime.KeepAlive(list)
}

// Large uploads stream: sixteen at once need no more than their buffers.
func TestUploadsAtOnce(t *testing.T) {
	const size = 32 << 20
	addr, _, _ := chainTo(t, Limits{Grace: time.Minute}, func(x *Exchange) {
		n, err := io.Copy(io.Discard, x.Body)
		if err != nil {
			return
		}
		_ = x.Reply(200, Header{{"Got", fmt.Sprint(n)}}, 0)
	})
	before, peak := held(), int64(0)
	stop := make(chan bool)
	var watch, uploads sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, int64(m.HeapInuse+m.StackInuse))
			}
		}
	})
	for i := range 16 {
		uploads.Go(func() {
			c := dial(t, addr)
			_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
			fmt.Fprintf(c, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", size)
			b := make([]byte, 64<<10)
			for range size / len(b) {
				if _, err := c.Write(b); err != nil {
					t.Errorf("upload %d: %v", i, err)
					return
				}
			}
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || res.StatusCode != 200 || res.Header.Get("Got") != fmt.Sprint(size) {
				t.Errorf("upload %d: %v %v", i, res, err)
			}
		})
	}
	uploads.Wait()
	close(stop)
	watch.Wait()
	t.Logf("sixteen uploads of 32 MB took %d KB more", (peak-before)>>10)
	if peak-before > 64<<20 {
		t.Errorf("memory grew by %d KB", (peak-before)>>10)
	}
}
