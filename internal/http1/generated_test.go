package http1

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// pieces are what generated connections are made of: valid ones first.
var pieces = struct{ lines, fields, bodies []string }{
	lines: []string{
		"GET / HTTP/1.1", "POST /a?b=c HTTP/1.1", "HEAD / HTTP/1.1", "GET / HTTP/1.0", "OPTIONS * HTTP/1.1", "GET http://h/ HTTP/1.1",
		"PUT /%2e%2e/;x HTTP/1.1", "CONNECT h:1 HTTP/1.1", "GET * HTTP/1.1", "GET /#f HTTP/1.1", "GET / HTTP/1.2", "GET / HTTP/2.0", "GET /",
		"GET  / HTTP/1.1", "G@T / HTTP/1.1", "GET / http/1.1", "GET /\x7f HTTP/1.1", "GET http:// HTTP/1.1", "GET / HTTP/1.1 ", " GET / HTTP/1.1",
	},
	fields: []string{
		"Host: h", "Host: h", "Host: h", "Content-Length: 3", "Content-Length: 3", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked",
		"Connection: close", "Connection: keep-alive", "Connection: upgrade, Keep-Alive", "Expect: 100-continue", "A: b", "A:", "A: \t b \t",
		"Content-Length: 0", "Content-Length: 5", "Content-Length: 03", "Content-Length: 3,3", "Content-Length: -3", "Content-Length: 0x3",
		"Transfer-Encoding: gzip", "Transfer-Encoding: chunked, identity", "Transfer-Encoding:chunked ", "Transfer-Encoding : chunked",
		"Transfer_Encoding: chunked", "transfer-encoding: Chunked", "Host: h:x", "Host: a b", "Host:", "Host : h", "Expect: 200-ok", " folded: x", "\tx", "A\x00: b",
		"A: b\x00", "A: \x80\xff", "nothing", ": empty", "Ä: b", "Connection: ,close,", "Trailer: X", "A: b\rc: d",
	},
	bodies: []string{
		"", "abc", "abcde", "3\r\nabc\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\nX: y\r\n\r\n", "0\r\n\r\n", "1;x=y\r\na\r\n000\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n",
		"3\nabc\n0\n\n", "g\r\n", "3 \r\nabc\r\n0\r\n\r\n", "0\r\nHost: x\r\n\r\n", "0\r\n x\r\n\r\n", "-1\r\n\r\n", "3\r\nab", "ffffffffffffffff\r\n",
	},
}

func pick(r *rand.Rand, list []string) string { return list[min(r.IntN(len(list)), r.IntN(len(list)))] }

func generated(r *rand.Rand) string {
	var b strings.Builder
	for range 1 + r.IntN(4) {
		end := "\r\n"
		line := func(s string) {
			b.WriteString(s)
			if r.IntN(200) == 0 {
				end = []string{"\n", "\r", "\r\r\n", ""}[r.IntN(4)]
			}
			b.WriteString(end)
			end = "\r\n"
		}
		if r.IntN(20) == 0 {
			line("")
		}
		line(pick(r, pieces.lines))
		if r.IntN(8) != 0 {
			line("Host: h")
		}
		length := false
		for range r.IntN(4) {
			f := pick(r, pieces.fields)
			if strings.HasPrefix(f, "Host: h") && r.IntN(10) != 0 {
				continue
			}
			length = length || strings.HasPrefix(f, "Content-Length: 3")
			line(f)
		}
		line("")
		if length && r.IntN(3) != 0 {
			b.WriteString("abc")
		} else {
			b.WriteString(pick(r, pieces.bodies))
		}
	}
	s := b.String()
	if r.IntN(6) == 0 { // a random byte
		i := r.IntN(len(s))
		s = s[:i] + string([]byte{byte(r.IntN(256))}) + s[i+r.IntN(2):]
	}
	return s
}

// Thousands of generated connections, valid and broken, are answered as the
// model says.
func TestGeneratedConnections(t *testing.T) {
	s := &Server{Handler: echo}
	defer s.Close()
	rounds := 20000
	if long() {
		rounds = 1000000
	}
	served := make(map[int]int)
	for seed := range rounds {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		in := generated(r)
		want, methods := modelConn([]byte(in))
		out := strings.ReplaceAll(over(s, in, r.IntN(20)), "HTTP/1.1 100 Continue\r\n\r\n", "")
		got := statuses(answers(t, strings.NewReader(out), methods...))
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: %q:\nanswers %v, want %v", seed, in, got, want)
		}
		for _, status := range got {
			served[status]++
		}
	}
	for _, status := range []int{200, 400, 417, 505} {
		if served[status] < rounds/200 {
			t.Errorf("only %d answers were %d: %v", served[status], status, served)
		}
	}
}
