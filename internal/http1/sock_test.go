package http1

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// A server that ends its side right behind an answer, and goes on reading, must
// not hold up the next request on that connection, however close it follows.
func TestEndBehindAnAnswerIsSeen(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				br := bufio.NewReader(c)
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, br)
			})
		}
	})
	c := newClient(t, Options{Tick: 10 * time.Millisecond})
	e := c.Endpoint(l.Addr().String(), nil)
	for i := range 300 {
		began := time.Now()
		res, err := e.Do(background, &Request{Method: "GET", Target: "/", Host: "x", Timeout: 20 * time.Second})
		if err != nil {
			t.Fatalf("request %d after %v: %v", i, time.Since(began), err)
		}
		if b, err := io.ReadAll(res); string(b) != "ok" || err != nil {
			t.Fatalf("request %d: %q, %v", i, b, err)
		}
		_ = res.Close()
		if took := time.Since(began); took > 10*time.Second {
			t.Fatalf("request %d took %v", i, took)
		}
	}
	c.Close()
	_ = l.Close()
	wg.Wait()
}

// What came before a request is asked, and whose arrival nobody was told of, is
// looked for after a moment.
func TestNudge(t *testing.T) {
	t.Parallel()
	var d deadline
	looks := 0
	look := func(yes bool) func() bool { return func() bool { looks++; return yes } }
	d.arm(100)
	d.look(99, look(true))
	if looks != 0 || !d.off() {
		t.Fatal("looked too early")
	}
	d.arm(100)
	d.look(100, look(false))
	d.look(200, look(true))
	if looks != 1 || !d.off() {
		t.Fatalf("looked %d times", looks)
	}
	d.arm(100)
	d.look(100, look(true))
	if d.off() {
		t.Fatal("what was found was not told")
	}
}

// A request that the kernel does not take in one go is sent all the same.
func TestLongQuestion(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const size = 4 << 20
	got := make(chan int, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		time.Sleep(50 * time.Millisecond)
		n, _ := io.CopyN(io.Discard, c, size)
		_, _ = c.Write([]byte("answer"))
		got <- int(n)
	}()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.(*net.TCPConn).SetWriteBuffer(16 << 10)
	s, ok := quick(nc).(*sock)
	if !ok {
		t.Skip("not on this system")
	}
	in := make([]byte, 100)
	n, late, err := s.ask(bytes.Repeat([]byte("q"), size), in)
	if string(in[:n]) != "answer" || late || err != nil {
		t.Errorf("%q, %v, %v", in[:n], late, err)
	}
	if n := <-got; n != size {
		t.Errorf("%d bytes arrived", n)
	}
}
