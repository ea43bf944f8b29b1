package http1

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// chain is a client-facing proxy before a backend of our own.
func chain(t testing.TB, h func(*Exchange)) (addr string, c *Client, back string) {
	return chainTo(t, Limits{Grace: 500 * time.Millisecond}, h)
}

// chainTo is chain with the limits of the backend.
func chainTo(t testing.TB, l Limits, h func(*Exchange)) (addr string, c *Client, back string) {
	_, back = start(t, l, h)
	c = newClient(t, Options{})
	_, addr = start(t, Limits{HalfClose: 50 * time.Millisecond}, proxy(c, back))
	return addr, c, back
}

// pattern is an endless stream whose every byte is known.
type pattern struct{ at, end int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.at == p.end {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), p.end-p.at))
	for i := range n {
		b[i] = byte((p.at + int64(i)) % 251)
	}
	p.at += int64(n)
	return n, nil
}

func (p *pattern) check(r io.Reader) error {
	b := make([]byte, 64<<10)
	want := make([]byte, len(b))
	for {
		n, err := r.Read(b)
		if n > 0 {
			if m, _ := io.ReadFull(p, want[:n]); m != n || !bytes.Equal(b[:n], want[:n]) {
				return fmt.Errorf("bytes before %d differ", p.at)
			}
		}
		if err == io.EOF {
			if p.at != p.end {
				return fmt.Errorf("ended at %d of %d", p.at, p.end)
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Bytes go both ways at once through two servers and a client; memory does not
// grow with them.
func TestBothWaysAtConstantMemory(t *testing.T) {
	size := int64(64 << 20)
	if long() {
		size = 1 << 30
	}
	for _, chunked := range []bool{false, true} {
		t.Run(fmt.Sprint("chunked ", chunked), func(t *testing.T) {
			addr, _, _ := chainTo(t, Limits{Grace: time.Minute}, func(x *Exchange) {
				_ = x.Reply(200, nil, x.Length)
				_, _ = x.ReadFrom(x.Body)
			})
			var before, during runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			stop := make(chan bool)
			var peak uint64
			var wg sync.WaitGroup
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(20 * time.Millisecond):
						runtime.ReadMemStats(&during)
						peak = max(peak, during.HeapAlloc)
					}
				}
			})
			req, _ := http.NewRequest("POST", "http://"+addr, io.NopCloser(&pattern{end: size}))
			if !chunked {
				req.ContentLength = size
			}
			tr := &http.Transport{}
			defer tr.CloseIdleConnections()
			res, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if err := (&pattern{end: size}).check(res.Body); err != nil {
				t.Error(err)
			}
			close(stop)
			wg.Wait()
			if grown := int64(peak) - int64(before.HeapAlloc); grown > 8<<20 {
				t.Errorf("memory grew by %d KB", grown>>10)
			}
		})
	}
}

func TestSlowReaderBehindFastBackend(t *testing.T) {
	var sent int64
	done := make(chan bool)
	addr, _, _ := chain(t, func(x *Exchange) {
		_ = x.Reply(200, nil, 64<<20)
		b := make([]byte, 64<<10)
		for range 1024 {
			n, err := x.Write(b)
			if err != nil {
				break
			}
			sent += int64(n)
		}
		close(done)
	})
	c := dial(t, addr)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	time.Sleep(200 * time.Millisecond)
	select {
	case <-done:
		t.Fatal("the backend could send everything to a client that reads nothing")
	default:
	}
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, res.Body); n != 64<<20 || err != nil {
		t.Error(n, err)
	}
	<-done
}

func TestClientGoneCancelsUpstream(t *testing.T) {
	began, ended := make(chan bool, 1), make(chan bool, 1)
	addr, _, _ := chain(t, func(x *Exchange) {
		began <- true
		<-x.Context().Done()
		ended <- true
	})
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc"} {
		c := dial(t, addr)
		io.WriteString(c, request)
		<-began
		c.Close()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Fatal("the backend was never told")
		}
	}
}

func TestEarlyAnswerThroughProxy(t *testing.T) {
	addr, c, back := chain(t, func(x *Exchange) {
		_, _ = x.Body.Read(make([]byte, 1))
		_ = x.Reply(413, nil, 5)
		_, _ = x.WriteString("large")
	})
	conn := dial(t, addr)
	io.WriteString(conn, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("a", 50000))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil) // without sending the rest
	if err != nil || res.StatusCode != 413 {
		t.Fatal(res, err)
	}
	if b, err := io.ReadAll(res.Body); string(b) != "large" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	within(t, 2*time.Second, "no connection is left", func() bool { open, _, _ := c.Endpoint(back, nil).Counts(); return open == 0 })
}

func TestTrailersThroughProxy(t *testing.T) {
	addr, _, _ := chain(t, func(x *Exchange) {
		b, _ := io.ReadAll(x.Body)
		_ = x.Reply(200, nil, -1)
		_, _ = x.Write(b)
		x.Trailer(Header{{"Sum", x.Body.Trailer().Get("Sum") + "!"}})
	})
	c := dial(t, addr)
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\nSum: 7\r\n\r\n")
	list := answers(t, c)
	if len(list) != 1 || list[0].body != "abc" || list[0].resp.Trailer.Get("Sum") != "7!" {
		t.Errorf("%+v", list)
	}
}

func TestUpgrade(t *testing.T) {
	addr, c, back := chain(t, func(x *Exchange) {
		if x.Target == "/no" {
			_ = x.Reply(403, nil, 2)
			_, _ = x.WriteString("no")
			return
		}
		tun, err := x.Upgrade(x.Upgrading(), Header{{"A", "b"}})
		if err != nil {
			t.Error(err)
			return
		}
		defer tun.Close()
		// Answers only when the other side has ended: the half-close must come
		// through, and must not end the way back.
		b, _ := io.ReadAll(tun)
		fmt.Fprintf(tun, "got %d", len(b))
	})
	const ask = " HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n"
	t.Run("accepted, half-close passes", func(t *testing.T) {
		conn := dial(t, addr)
		io.WriteString(conn, "GET /yes"+ask+"early") // bytes behind the head are for the tunnel
		br := bufio.NewReader(conn)
		res, err := http.ReadResponse(br, nil)
		if err != nil || res.StatusCode != 101 || res.Header.Get("Upgrade") != "raw" {
			t.Fatal(res, err)
		}
		io.WriteString(conn, strings.Repeat("x", 100000))
		_ = conn.(*net.TCPConn).CloseWrite()
		if b, err := io.ReadAll(br); string(b) != "got 100005" || err != nil {
			t.Errorf("%q %v", b, err)
		}
	})
	t.Run("refused, connection goes on", func(t *testing.T) {
		conn := dial(t, addr)
		io.WriteString(conn, "GET /no"+ask+"GET /no HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		list := answers(t, conn)
		if len(list) != 2 || list[0].status != 403 || list[0].body != "no" || list[1].status != 403 {
			t.Errorf("%+v", list)
		}
	})
	within(t, 2*time.Second, "tunnels are not counted any more", func() bool {
		open, idle, _ := c.Endpoint(back, nil).Counts()
		return open == idle
	})
}

// cutConn delivers at most n bytes per read and write, n going round.
type cutConn struct {
	net.Conn
	n int
}

func (c *cutConn) Read(p []byte) (int, error) {
	c.n = c.n%13 + 1
	return c.Conn.Read(p[:min(len(p), c.n)])
}

func (c *cutConn) NetConn() net.Conn { return c.Conn }

type cutListener struct{ net.Listener }

func (l cutListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &cutConn{Conn: c}, nil
}

func certificate(t testing.TB, host string, authority bool) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: authority, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// TLS records arrive in pieces of 1 to 13 bytes on both sides; the server wants
// the client's certificate and serves a name that only SNI gives.
func TestTLSRecordsCutAnywhere(t *testing.T) {
	cert, roots := certificate(t, "backend.test", true)
	mine, clients := certificate(t, "gateway.test", true)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			s := &Server{Limits: Limits{Tick: 10 * time.Millisecond}, Handler: func(x *Exchange) {
				st := x.TLS()
				if st == nil || st.ServerName != "backend.test" || len(st.PeerCertificates) != 1 {
					t.Error("TLS state is not what was negotiated")
				}
				echo(x)
			}}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go s.Serve(tls.NewListener(cutListener{l}, &tls.Config{
				Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, MaxVersion: version,
			}))
			defer s.Close()
			c := newClient(t, Options{Dial: func(_ context.Context, network, address string) (net.Conn, error) {
				nc, err := net.Dial(network, address)
				return &cutConn{Conn: nc}, err
			}})
			e := c.Endpoint(l.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "backend.test", Certificates: []tls.Certificate{mine}})
			for i := range 30 {
				body := strings.Repeat("b", i*i*20)
				for _, length := range []int64{int64(len(body)), -1} {
					res, err := e.Do(background, &Request{Method: "POST", Target: "/", Host: "h", Body: strings.NewReader(body), Length: length, Timeout: 10 * time.Second})
					if err != nil {
						t.Fatal(err)
					}
					b, err := io.ReadAll(res)
					if string(b) != body || err != nil {
						t.Fatalf("%d bytes of %d, %v", len(b), len(body), err)
					}
					res.Close()
				}
			}
			if open, idle, _ := e.Counts(); open != 1 || idle != 1 {
				t.Errorf("%d connections, %d idle: they were not kept", open, idle)
			}
			if _, err := c.Endpoint(l.Addr().String(), &tls.Config{RootCAs: roots}).Do(background, &Request{Method: "GET", Target: "/", Host: "h"}); err == nil {
				t.Error("a certificate for another name was accepted")
			}
		})
	}
}

func TestInterimAnswersPass(t *testing.T) {
	addr, _, _ := chain(t, func(x *Exchange) {
		_ = x.Inform(103, Header{{"Link", "x"}})
		_ = x.Reply(200, nil, 0)
	})
	c := dial(t, addr)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	b, _ := io.ReadAll(c)
	if !strings.HasPrefix(string(b), "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n") {
		t.Errorf("%q", b)
	}
}
