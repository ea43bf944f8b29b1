package http1

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// pieces are what generated connections are made of: valid ones first.
var pieces = struct{ lines, fields, bodies []string }{
	lines: []string{
		"GET / HTTP/1.1", "POST /a?b=c HTTP/1.1", "HEAD / HTTP/1.1", "GET / HTTP/1.0", "OPTIONS * HTTP/1.1", "GET http://h/ HTTP/1.1",
		"PUT /%2e%2e/;x HTTP/1.1", "CONNECT h:1 HTTP/1.1", "GET hTTps://[::1]:8?a HTTP/1.1", "DELETE /a//b/../c HTTP/1.0",
		"GET * HTTP/1.1", "GET /#f HTTP/1.1", "GET / HTTP/1.2", "GET / HTTP/2.0", "GET /",
		"GET  / HTTP/1.1", "G@T / HTTP/1.1", "GET / http/1.1", "GET /\x7f HTTP/1.1", "GET http:// HTTP/1.1", "GET / HTTP/1.1 ", " GET / HTTP/1.1",
		"CONNECT h HTTP/1.1", "CONNECT / HTTP/1.1", "CONNECT h:70000 HTTP/1.1", "GET http://:80/ HTTP/1.1", "GET http://u@h/ HTTP/1.1", "GET ftp://h/ HTTP/1.1",
		"GET\t/ HTTP/1.1", "GET / HTTP/1.1\t", "GET / HTTP/1.10", "GET / HTTP/11", "get / HTTP/1.1", "PRI * HTTP/2.0", "GET h:1 HTTP/1.1", "GET /\xff HTTP/1.1",
	},
	fields: []string{
		"Host: h", "Host: h", "Host: h", "Content-Length: 3", "Content-Length: 3", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked",
		"Connection: close", "Connection: keep-alive", "Connection: upgrade, Keep-Alive", "Expect: 100-continue", "A: b", "A:", "A: \t b \t",
		"Content-Length: 0", "Content-Length: 5", "Content-Length: 03", "Content-Length: 3,3", "Content-Length: -3", "Content-Length: 0x3",
		"Transfer-Encoding: gzip", "Transfer-Encoding: chunked, identity", "Transfer-Encoding:chunked ", "Transfer-Encoding : chunked",
		"Transfer_Encoding: chunked", "transfer-encoding: Chunked", "Host: h:x", "Host: a b", "Host:", "Host : h", "Expect: 200-ok", " folded: x", "\tx", "A\x00: b",
		"A: b\x00", "A: \x80\xff", "nothing", ": empty", "Ä: b", "Connection: ,close,", "Trailer: X", "A: b\rc: d",
		"Transfer-Encoding: \vchunked", "Transfer-Encoding:\tchunked\t", "Transfer-Encoding:", "Transfer-Encoding: \"chunked\"", "Transfer-Encoding: chunked;q=1",
		"Content-Length: 3 3", "Content-Length: 3\v", "Content-Length:\t3 ", "Content-Length: 1e1", "Content-Length: 999999999999999999999", "Content-Length: ٣",
		"Host: :80", "Host: [::1]:80", "Host: [", "Host: h,h", "Host: h/", "Connection: content-length", "Expect: 100-Continue", "Upgrade: h2c",
	},
	bodies: []string{
		"", "abc", "abcde", "3\r\nabc\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\nX: y\r\n\r\n", "0\r\n\r\n", "1;x=y\r\na\r\n000\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n",
		"a;x=\"y;z\"\r\n0123456789\r\nA\r\n0123456789\r\n0\r\nX: y\r\nSet-Cookie: z\r\n\r\n",
		"3\nabc\n0\n\n", "g\r\n", "3 \r\nabc\r\n0\r\n\r\n", "0\r\nHost: x\r\n\r\n", "0\r\n x\r\n\r\n", "-1\r\n\r\n", "3\r\nab", "ffffffffffffffff\r\n",
		"0x3\r\nabc\r\n0\r\n\r\n", "3\r\nabc0\r\n\r\n", "3;\x00\r\nabc\r\n0\r\n\r\n", "0\r\nContent-Length: 1\r\n\r\na", "0\r\nX : y\r\n\r\n", "+3\r\nabc\r\n0\r\n\r\n",
		"3;a\nb\r\nabc\r\n0\r\n\r\n", "\r\n3\r\nabc\r\n0\r\n\r\n", "3\r\n\nabc\r\n0\r\n\r\n", "0\r\n\n", "0\n\r\n", "00000000000000000000\r\n\r\n", "3\r\r\nabc\r\n0\r\n\r\n",
	},
}

func pick(r *rand.Rand, list []string) string { return list[min(r.IntN(len(list)), r.IntN(len(list)))] }

// valid is a request without fault, in one of many shapes.
func valid(r *rand.Rand, b *strings.Builder) {
	minor := 1 - r.IntN(5)/4
	method := []string{"GET", "POST", "HEAD", "PUT", "OPTIONS", "x-~!#$%&'*+.^_`|"}[r.IntN(6)]
	target := []string{"/", "/a?b=c&d", "/%2f/;x=y", "http://a.b:8/c", "HTTPS://[::1]?q", "/" + strings.Repeat("l", r.IntN(300))}[r.IntN(6)]
	fmt.Fprintf(b, "%s %s HTTP/1.%d\r\n", method, target, minor)
	fields := []string{"Host: h" + []string{"", ":8", ".x.y:"}[r.IntN(3)]}
	for range r.IntN(5) {
		fields = append(fields, []string{"A: b", "A:", "a:\t \tb c\t", "A: \x80\xff", "Connection: x", "B: \"c, d\"; e", "Trailer: X", "Connection: keep-alive", "Upgrade: h2c"}[r.IntN(9)])
	}
	content, body := strings.Repeat("0\r\n\r\n", r.IntN(3))+strings.Repeat("c", r.IntN(40)), ""
	switch r.IntN(3 + minor - 1) {
	case 0:
		body = content
		fields = append(fields, fmt.Sprint("content-LENGTH: ", strings.Repeat("0", r.IntN(3)), len(content)))
	case 2:
		fields = append(fields, "Transfer-Encoding:  Chunked")
		for len(content) > 0 {
			n := 1 + r.IntN(len(content))
			body += fmt.Sprintf([]string{"%x\r\n", "%X;a=b\r\n", "0%x;a\r\n"}[r.IntN(3)], n) + content[:n] + "\r\n"
			content = content[n:]
		}
		body += []string{"0", "000", "0;a"}[r.IntN(3)] + "\r\n" + []string{"", "X: y\r\n", "X:\r\nDate: z\r\n"}[r.IntN(3)] + "\r\n"
	}
	r.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	b.WriteString(strings.Join(fields, "\r\n") + "\r\n\r\n" + body)
}

func generated(r *rand.Rand) string {
	var b strings.Builder
	line := func(s string) { b.WriteString(s + "\r\n") }
	some := r.IntN(3) // of the requests are made of pieces
	for range 1 + r.IntN(4) {
		if r.IntN(3) >= some {
			valid(r, &b)
			continue
		}
		if r.IntN(20) == 0 {
			line("")
		}
		line(pick(r, pieces.lines))
		if r.IntN(8) != 0 {
			line("Host: h")
		}
		length, chunked := false, false
		for range r.IntN(4) {
			f := pick(r, pieces.fields)
			if strings.HasPrefix(f, "Host: h") && r.IntN(10) != 0 {
				continue
			}
			length, chunked = length || f == "Content-Length: 3", chunked || f == "Transfer-Encoding: chunked"
			line(f)
		}
		line("")
		switch {
		case length && r.IntN(4) != 0:
			b.WriteString("abc")
		case chunked || r.IntN(6) == 0:
			b.WriteString(pick(r, pieces.bodies))
		}
	}
	s := b.String()
	if r.IntN(2) == 0 {
		for range 1 + r.IntN(3) {
			s = mutations[r.IntN(len(mutations))].change(r, s)
		}
	}
	return s
}

// special are bytes with a meaning somewhere in HTTP.
const special = "\r\n\t \x00\v\x7f\x80\xff:;,#/?*@[]\"=+-._0123abcfxgAF\x85\xa0"

// mutations break what was valid, each in its own way.
var mutations = []struct {
	name   string
	change func(r *rand.Rand, s string) string
}{
	{"a byte changed", func(r *rand.Rand, s string) string {
		i := r.IntN(len(s) + 1)
		return s[:i] + one(r) + s[min(i+1, len(s)):]
	}},
	{"a byte inserted", func(r *rand.Rand, s string) string { i := r.IntN(len(s) + 1); return s[:i] + one(r) + s[i:] }},
	{"a byte lost", func(r *rand.Rand, s string) string { i := r.IntN(len(s) + 1); return s[:i] + s[min(i+1, len(s)):] }},
	{"a byte doubled", func(r *rand.Rand, s string) string { i := r.IntN(len(s) + 1); return s[:i] + s[max(i-1, 0):] }},
	{"any byte", func(r *rand.Rand, s string) string {
		i := r.IntN(len(s) + 1)
		return s[:i] + string([]byte{byte(r.IntN(256))}) + s[i:]
	}},
	{"cut off", func(r *rand.Rand, s string) string { return s[:r.IntN(len(s)+1)] }},
	{"beginning lost", func(r *rand.Rand, s string) string { return s[r.IntN(len(s)+1):] }},
	{"a case changed", func(r *rand.Rand, s string) string {
		i := r.IntN(len(s) + 1)
		if i == len(s) || s[i]|0x20 < 'a' || s[i]|0x20 > 'z' {
			return s
		}
		return s[:i] + string(s[i]^0x20) + s[i+1:]
	}},
	{"a line end", func(r *rand.Rand, s string) string {
		return lines(r, s, func(list []string, i int) []string { return join(list, i, "\n") })
	}},
	{"a line's CR alone", func(r *rand.Rand, s string) string {
		return lines(r, s, func(list []string, i int) []string { return join(list, i, "\r") })
	}},
	{"two CR", func(r *rand.Rand, s string) string {
		return lines(r, s, func(list []string, i int) []string { return join(list, i, "\r\r\n") })
	}},
	{"LF CR", func(r *rand.Rand, s string) string {
		return lines(r, s, func(list []string, i int) []string { return join(list, i, "\n\r") })
	}},
	{"no line end", func(r *rand.Rand, s string) string {
		return lines(r, s, func(list []string, i int) []string { return join(list, i, "") })
	}},
	{"folded", func(r *rand.Rand, s string) string {
		return lines(r, s, func(list []string, i int) []string { return join(list, i, "\r\n ") })
	}},
	{"a line doubled", func(r *rand.Rand, s string) string {
		return lines(r, s, func(list []string, i int) []string { return append(list[:i+1:i+1], list[i:]...) })
	}},
	{"a line lost", func(r *rand.Rand, s string) string {
		return lines(r, s, func(list []string, i int) []string { return append(list[:i:i], list[i+1:]...) })
	}},
	{"lines swapped", func(r *rand.Rand, s string) string {
		return lines(r, s, func(list []string, i int) []string {
			j := min(i+1, len(list)-1)
			list[i], list[j] = list[j], list[i]
			return list
		})
	}},
	{"a foreign line", func(r *rand.Rand, s string) string {
		return lines(r, s, func(list []string, i int) []string {
			return append(list[:i:i], append([]string{pick(r, pieces.fields)}, list[i:]...)...)
		})
	}},
	{"blanks", func(r *rand.Rand, s string) string {
		return lines(r, s, func(list []string, i int) []string {
			list[i] = strings.Replace(list[i], ":", []string{" :", ":  ", ":\t", "\t:", ":\v"}[r.IntN(5)], 1)
			return list
		})
	}},
	{"a digit", func(r *rand.Rand, s string) string {
		i := strings.IndexAny(s[r.IntN(len(s)+1):], "0123456789")
		if i < 0 {
			return s
		}
		return s[:i] + string(rune('0'+r.IntN(10))) + s[i+1:]
	}},
	{"spliced", func(r *rand.Rand, s string) string {
		other := pick(r, pieces.bodies)
		i := r.IntN(len(s) + 1)
		return s[:i] + other + s[i:]
	}},
}

func one(r *rand.Rand) string { i := r.IntN(len(special)); return special[i : i+1] }

// lines changes the list of lines at a random one.
func lines(r *rand.Rand, s string, change func(list []string, i int) []string) string {
	list := strings.Split(s, "\r\n")
	return strings.Join(change(list, r.IntN(len(list))), "\r\n")
}

// join puts a line and the next one together with something between.
func join(list []string, i int, with string) []string {
	if i+1 >= len(list) {
		list[i] += with
		return list
	}
	list[i] += with + list[i+1]
	return append(list[:i+1], list[i+2:]...)
}

func seeded(seed int) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 1)) }

// Thousands of generated connections, valid and broken, are answered as the
// model says: the same requests understood in the same way, the same refusals,
// and nothing after the first of these. A seed gives the same bytes again.
func TestGeneratedConnections(t *testing.T) {
	s := &Server{Handler: mirror}
	defer s.Close()
	rounds := 80000
	if long() {
		rounds = 1000000
	}
	served, mixed := make(map[int]int), 0
	for seed := range rounds {
		r := seeded(seed)
		in := generated(r)
		want := modelConn([]byte(in))
		if d := differ(t, over(s, in, r.IntN(20)), want); d != "" {
			t.Fatalf("seed %d: %q:\n%s", seed, in, d)
		}
		for _, a := range want {
			served[a.status]++
		}
		if len(want) > 1 && want[0].status == 200 && want[len(want)-1].status == 400 {
			mixed++
		}
	}
	for _, status := range []int{200, 400, 405, 417, 505} {
		if served[status] < rounds/1000 {
			t.Errorf("only %d answers were %d: %v", served[status], status, served)
		}
	}
	if mixed < rounds/20 {
		t.Errorf("only %d connections had a bad request behind a good one", mixed)
	}
	t.Log(rounds, "connections:", fmt.Sprint(served), mixed, "with a bad request behind a good one")
}
