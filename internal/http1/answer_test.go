package http1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"
)

// outcome is what a client makes of the bytes that a server sends for one
// request before it closes.
type outcome struct {
	interim []int
	status  int // 0: no answer
	body    string
	trailer string
	err     error // ErrProtocol, ErrClosed
	kept    bool  // the connection may be used again
}

func (o outcome) String() string {
	return fmt.Sprintf("interim %v, status %d, body %q, trailer %q, error %v, kept %v", o.interim, o.status, o.body, o.trailer, o.err, o.kept)
}

var statusRE = latin(`^HTTP/1\.([01]) ([1-9][0-9][0-9])( ` + valueRE + `)?$`)

// modelAnswers says what a strict client makes of an answer (RFC 9112 §6.3):
// below all bounds on size, and without having asked for an upgrade.
func modelAnswers(method string, in []byte) (o outcome) {
	s := runes(in)
	length, chunked := int64(-1), false
	for {
		line, rest, v := modelLine(s)
		if m := min(len(s), 7); v == short && s[:m] == "HTTP/1."[:m] {
			o.err = ErrClosed
			return o
		}
		m := statusRE.FindStringSubmatch(line)
		if v != good || m == nil {
			o.err = ErrProtocol
			return o
		}
		status, _ := strconv.Atoi(m[2])
		hosts, closes, keep := 0, false, false
		length, chunked = -1, false
		for {
			if line, rest, v = modelLine(rest); v == short {
				o.err = ErrClosed
				return o
			}
			if v == good && line == "" {
				break
			}
			f := fieldRE.FindStringSubmatch(line)
			if v == broken || f == nil {
				o.err = ErrProtocol
				return o
			}
			value, wrong := strings.Trim(f[2], " \t"), false
			switch strings.ToLower(f[1]) {
			case "host": // nothing but trouble in an answer
				hosts++
				wrong = hosts > 1 || !hostRE.MatchString(value)
			case "content-length":
				wrong = length >= 0 || chunked || !lengthRE.MatchString(value)
				length, _ = strconv.ParseInt(value, 10, 64)
			case "transfer-encoding":
				wrong = length >= 0 || chunked || strings.ToLower(value) != "chunked"
				chunked = true
			case "connection":
				for t := range strings.SplitSeq(strings.ToLower(value), ",") {
					t = strings.Trim(t, " \t")
					closes, keep = closes || t == "close", keep || t == "keep-alive"
				}
			}
			if wrong {
				o.err = ErrProtocol
				return o
			}
		}
		if m[1] == "0" && chunked || status == 101 {
			o.err = ErrProtocol
			return o
		}
		if s = rest; status < 200 {
			if o.interim = append(o.interim, status); len(o.interim) > 32 {
				o.interim, o.err = o.interim[:32], ErrProtocol
				return o
			}
			continue
		}
		o.status, o.kept = status, !closes && (m[1] == "1" || keep)
		break
	}
	data := bytesOf(s)
	switch {
	case method == "HEAD" || o.status == 204 || o.status == 304:
	case chunked:
		content, left, late, v := modelChunks(data)
		o.body, data = string(content), left
		switch v {
		case good:
			o.trailer = string(bytesOf(strings.Join(late, "\n")))
		case short:
			o.err = ErrClosed
		case broken:
			o.err = ErrProtocol
		}
	case length < 0:
		o.body, o.kept, data = string(data), false, nil
	case int64(len(data)) < length:
		o.body, o.err = string(data), ErrClosed
	default:
		o.body, data = string(data[:length]), data[length:]
	}
	o.kept = o.kept && o.err == nil && len(data) == 0
	return o
}

// understood is what our client makes of the bytes.
func understood(method string, in []byte, step int) (o outcome) {
	w := &wire{in: in, step: step}
	c := NewClient(Options{Dial: func(context.Context, string, string) (net.Conn, error) { return w, nil }})
	defer c.Close()
	e := c.Endpoint("h:1", nil)
	res, err := e.Do(background, &Request{Method: method, Target: "/", Host: "h", Inform: func(status int, _ Header) { o.interim = append(o.interim, status) }})
	if err == nil {
		var b []byte
		o.status = res.Status
		b, err = io.ReadAll(res)
		o.body = string(b)
		if err == nil {
			var late []string
			for _, f := range res.Trailer() {
				late = append(late, f.Name+": "+f.Value)
			}
			o.trailer = strings.Join(late, "\n")
		}
		res.Close()
	}
	for _, kind := range []error{ErrProtocol, ErrClosed} {
		if errors.Is(err, kind) {
			err = kind
		}
	}
	o.err = err
	open, idle, _ := e.Counts()
	// What was not read yet is seen when the connection is to be used again.
	if o.kept = idle == 1 && len(w.in) == 0; open != idle {
		o.err = fmt.Errorf("%d connections are open, %d idle", open, idle)
	}
	return o
}

var answerPieces = struct{ lines, fields, bodies []string }{
	lines: []string{
		"HTTP/1.1 200 OK", "HTTP/1.1 200", "HTTP/1.0 200 OK", "HTTP/1.1 204 No Content", "HTTP/1.1 304 ", "HTTP/1.1 500 \xe4", "HTTP/1.1 999 x",
		"HTTP/1.1 100 Continue", "HTTP/1.1 103 Early", "HTTP/1.1 101 Switching", "HTTP/1.2 200 OK", "HTTP/2 200", "HTTP/1.1 099 x", "HTTP/1.1 20 OK",
		"HTTP/1.1  200 OK", "HTTP/1.1 2000 OK", "http/1.1 200 OK", "HTTP/1.1 200 O\x00K", "ICY 200 OK", "", "HTTP/1.1\t200 OK", " HTTP/1.1 200 OK", "HTTP/1.1 200\tOK",
	},
	fields: append([]string{"Connection: upgrade", "Content-Length: 3", "Transfer-Encoding: chunked", "Connection: close", "Set-Cookie: a", "Set-Cookie: b"}, pieces.fields...),
	bodies: pieces.bodies,
}

func generatedAnswer(r *rand.Rand) (method, answer string) {
	var b strings.Builder
	method = []string{"GET", "GET", "POST", "HEAD"}[r.IntN(4)]
	for r.IntN(4) == 0 {
		b.WriteString("HTTP/1.1 10" + string("0234567"[r.IntN(7)]) + " Interim\r\nA: b\r\n\r\n")
	}
	if r.IntN(3) != 0 {
		content := strings.Repeat("x", r.IntN(30))
		b.WriteString(answerPieces.lines[r.IntN(5)] + "\r\nA: b\r\n")
		switch r.IntN(3) {
		case 0:
			fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(content), content)
		case 1:
			fmt.Fprintf(&b, "Transfer-Encoding: chunked\r\n\r\n%x;e\r\n%s\r\n0\r\nT: v\r\n\r\n", len(content)+1, content+"y")
		case 2:
			b.WriteString("Connection: keep-alive\r\n\r\n" + content)
		}
		if r.IntN(6) == 0 {
			b.WriteString("HTTP/1.1 200 Smuggled\r\nContent-Length: 0\r\n\r\n")
		}
	} else {
		b.WriteString(pick(r, answerPieces.lines) + "\r\n")
		for range r.IntN(4) {
			b.WriteString(pick(r, answerPieces.fields) + "\r\n")
		}
		b.WriteString("\r\n" + pick(r, answerPieces.bodies))
	}
	s := b.String()
	if r.IntN(2) == 0 {
		for range 1 + r.IntN(3) {
			s = mutations[r.IntN(len(mutations))].change(r, s)
		}
	}
	return method, s
}

// Thousands of generated answers, valid and broken, are understood as the model
// says, and a connection with a byte too many is not used again.
func TestGeneratedAnswers(t *testing.T) {
	rounds := 50000
	if long() {
		rounds = 500000
	}
	kinds := make(map[string]int)
	for seed := range rounds {
		r := seeded(seed)
		method, in := generatedAnswer(r)
		want := modelAnswers(method, []byte(in))
		if got := understood(method, []byte(in), r.IntN(20)); got.String() != want.String() {
			t.Fatalf("seed %d: %s answered with %q:\n%v, want\n%v", seed, method, in, got, want)
		}
		kinds[fmt.Sprint(want.err, ", kept ", want.kept)]++
	}
	for _, kind := range []string{"<nil>, kept true", "<nil>, kept false", ErrProtocol.Error() + ", kept false", ErrClosed.Error() + ", kept false"} {
		if kinds[kind] < rounds/50 {
			t.Errorf("only %d answers were %q: %v", kinds[kind], kind, kinds)
		}
	}
	t.Log(rounds, "answers:", kinds)
}

// FuzzAnswer: whatever a server sends is understood as the model says, however
// it is cut.
func FuzzAnswer(f *testing.F) {
	for seed := range 40 {
		_, in := generatedAnswer(seeded(seed))
		f.Add([]byte(in), uint8(seed%5), seed%7 == 0)
	}
	f.Fuzz(func(t *testing.T, in []byte, step uint8, head bool) {
		if len(in) > 3000 { // below every bound on size
			return
		}
		method := "GET"
		if head {
			method = "HEAD"
		}
		want := modelAnswers(method, in)
		if got := understood(method, in, int(step)); got.String() != want.String() {
			t.Fatalf("%s answered with %q:\n%v, want\n%v", method, in, got, want)
		}
	})
}
