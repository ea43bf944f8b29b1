package hostile

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// good is what the good backend answers.
var good = strings.Repeat("all is well. ", 5)

// goodBackend answers at once and takes any body.
func goodBackend(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return
		}
		w.Header().Set("Got", fmt.Sprint(n))
		_, _ = io.WriteString(w, good) // a client that left needs no answer
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// large is what the backends behind toxiproxy answer.
var large = strings.Repeat("0123456789abcde\n", 64<<10/16)

// toxic is a backend behind toxiproxy: with a length, in chunks, or up to the
// end of the connection, as the kind says.
func toxic(kind string, toxics ...string) func(*testing.T) string {
	return func(t *testing.T) string {
		origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // what can be read of it
			switch kind {
			case "length":
				w.Header().Set("Content-Length", fmt.Sprint(len(large)))
			case "close":
				c, buf, err := w.(http.Hijacker).Hijack()
				if err != nil {
					return
				}
				_, _ = buf.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + large)
				_ = buf.Flush()
				_ = c.Close()
				return
			}
			_, _ = io.WriteString(w, large)
		}))
		t.Cleanup(origin.Close)
		p := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()),
			"p", "127.0.0.1:0", strings.TrimPrefix(origin.URL, "http://"))
		ok(t, p.Start())
		t.Cleanup(p.Stop)
		for _, j := range toxics {
			_, err := p.Toxics.AddToxicJson(strings.NewReader(j))
			ok(t, err)
		}
		return "http://" + p.Listen
	}
}

// peer is the gateway's end as a hand-written backend sees it.
type peer struct {
	*net.TCPConn
	in *bufio.Reader
	n  int // of this connection, from 1
}

// request reads one request with its body; nil ends the connection.
func (p *peer) request() *http.Request {
	r, err := http.ReadRequest(p.in)
	if err != nil {
		return nil
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil
	}
	return r
}

// say writes; it reports false once nobody listens.
func (p *peer) say(s string) bool {
	_, err := io.WriteString(p, s)
	return err == nil
}

// wait blocks until the gateway closes.
func (p *peer) wait() { _, _ = io.Copy(io.Discard, p.in) }

// raw is a hand-written backend: serve has every connection, which is closed
// when it returns.
func raw(serve func(*peer)) func(*testing.T) string {
	return func(t *testing.T) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ok(t, err)
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for n := 1; ; n++ {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					serve(&peer{c.(*net.TCPConn), bufio.NewReader(c), n})
				}()
			}
		}()
		return "http://" + l.Addr().String()
	}
}

// says is a backend that answers every request with the text, and then closes
// or waits for the next.
func says(text string, closes bool) func(*testing.T) string {
	return raw(func(p *peer) {
		for p.request() != nil && p.say(text) && !closes {
		}
	})
}

// nobody is an address at which connections are refused.
func nobody(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	ok(t, l.Close())
	return "http://" + l.Addr().String()
}

// blackhole is a port whose queue is full: it takes no notice of those who want
// to connect.
func blackhole(t *testing.T) string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	ok(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	ok(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	ok(t, unix.Listen(fd, 0))
	at, err := unix.Getsockname(fd)
	ok(t, err)
	addr := fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port)
	for range 4 { // the first ones fit into the queue, the others wait in vain
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		ok(t, err)
		t.Cleanup(func() { _ = unix.Close(c) })
		if err := unix.Connect(c, at); err != nil && err != unix.EINPROGRESS {
			t.Fatal(err)
		}
	}
	return "http://" + addr
}
