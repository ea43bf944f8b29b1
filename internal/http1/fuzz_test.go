package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// FuzzHead: whatever arrives, a head is taken whole or not at all, the same
// however it is cut, and what is taken is well-formed.
func FuzzHead(f *testing.F) {
	for _, s := range []string{warmHead, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "POST http://a/b HTTP/1.0\r\nContent-Length: 1\r\n\r\na", "GET / HTTP/1.1\r\n a: b\r\n\r\n", "\r\nOPTIONS * HTTP/1.1\r\nHost: [::1]:1\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var x, y Exchange
		n, err := x.parse(in, 100)
		if n > len(in) || n < 0 || err != nil && n != 0 {
			t.Fatalf("took %d of %d, %v", n, len(in), err)
		}
		if n == 0 {
			return
		}
		for i := 0; i < n; i += 1 + n/40 {
			if m, err := y.parse(in[:i], 100); m != 0 || err != nil {
				t.Fatalf("the first %d bytes of a good head of %d: %d, %v", i, n, m, err)
			}
		}
		if !isToken(x.Method) || strings.ContainsAny(x.Target, " #\r\n") || x.framing.chunked && x.framing.length >= 0 {
			t.Fatalf("%q %q %+v", x.Method, x.Target, x.framing)
		}
		for _, h := range x.Header {
			if !isToken(h.Name) || strings.ContainsAny(h.Value, "\r\n\x00") || h.Value != strings.Trim(h.Value, " \t") || fold(h.Name, "Host") {
				t.Fatalf("field %q: %q", h.Name, h.Value)
			}
		}
		// Whoever reads it next must read the same.
		r, herr := http.ReadRequest(bufioReader(in))
		if herr != nil {
			return // net/http refuses a little that we pass: a target it cannot parse
		}
		if r.Method != x.Method || r.RequestURI != x.Target || r.ContentLength != x.framing.length && !x.framing.chunked && x.framing.length > 0 {
			t.Fatalf("net/http reads %q %q %d", r.Method, r.RequestURI, r.ContentLength)
		}
	})
}

// FuzzChunk: the decoder agrees with the model, however the bytes are cut.
func FuzzChunk(f *testing.F) {
	for _, s := range []string{"3\r\nabc\r\n0\r\n\r\n", "3;a=b\r\nabc\r\n0\r\nA: b\r\n\r\nrest", "0\r\n\r\n", "A\r\n0123456789\r\n00\r\n\r\n", "3\nabc", "fffffffffffffff\r\na", "1 \r\na\r\n0\r\n\r\n"} {
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		want, _, _, verdict := modelChunks(in)
		sw := &sweeper{}
		line := &wire{in: in, step: int(step)}
		s := source{conn: line, in: line, sweep: sw, buf: getBuffer(small), allow: newAllowance(1, 0)}
		b := Body{}
		b.start(&s, &framing{length: -1, chunked: true}, false)
		got, err := io.ReadAll(&b)
		if !bytes.Equal(got, want) {
			t.Fatalf("content %q, want %q", got, want)
		}
		_, malformed := isMalformed(err)
		if (verdict == good) != (err == nil) || (verdict == broken) != malformed {
			t.Fatalf("%v, want verdict %d", err, verdict)
		}
	})
}

// FuzzConn: a connection's bytes get the answers of the model, however they are
// cut.
func FuzzConn(f *testing.F) {
	const ok = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
	for _, s := range []string{
		ok + ok,
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc" + ok,
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + ok,
		"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na" + ok,
		ok + "GET / HTTP/1.1\r\nHost : h\r\n\r\n" + ok,
		"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + ok,
		"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + ok,
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n", "GET /\r\n", "GET / HTTP/3.0\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
	} {
		f.Add([]byte(s), uint8(0))
		f.Add([]byte(s), uint8(1))
	}
	s := &Server{Handler: mirror}
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		if len(in) > 3000 { // below every bound on size
			return
		}
		if d := differ(t, over(s, string(in), int(step)), modelConn(in)); d != "" {
			t.Fatalf("%q: %s", in, d)
		}
	})
}

func bufioReader(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }
