package http1

import (
	"bytes"
	"fmt"
)

// Malformed says why bytes were refused. Status is what a server answers.
type Malformed struct {
	Status int
	Reason string
}

// Error names the reason.
func (m *Malformed) Error() string { return fmt.Sprintf("malformed message: %s", m.Reason) }

func bad(reason string) *Malformed { return &Malformed{400, reason} }

var (
	errBareLF     = bad("line does not end with CR LF")
	errLine       = bad("request line")
	errMethod     = bad("method")
	errTarget     = bad("request target")
	errVersion    = &Malformed{505, "protocol version"}
	errFold       = bad("folded line")
	errName       = bad("field name")
	errValue      = bad("field value")
	errFields     = &Malformed{431, "too many fields"}
	errLarge      = &Malformed{431, "head is too large"}
	errLength     = bad("Content-Length")
	errCoding     = bad("Transfer-Encoding")
	errBoth       = bad("both Content-Length and Transfer-Encoding")
	errHost       = bad("Host")
	errExpect     = &Malformed{417, "expectation"}
	errLate       = &Malformed{408, "head did not arrive in time"}
	errStatusLine = bad("status line")
	errSwitch     = bad("switch to a protocol that was not asked for")
	errChunk      = bad("chunk")
	errChunkExt   = bad("chunk extension")
	errTrailer    = bad("trailer")
)

// framing is what the fields of one head say about the message and the
// connection.
type framing struct {
	length     int64 // -1: no Content-Length
	chunked    bool
	host       string
	hosts      int
	close      bool
	keepAlive  bool
	upgrade    bool // Connection names Upgrade
	expect     bool
	badExpect  bool
	upgradeTo  string
	framingSet bool // any of the fields that a trailer must not have
}

// fields parses field lines up to and including the empty one. n is 0 as long
// as that has not arrived.
func parseFields(b []byte, h *Header, f *framing, most int) (n int, err *Malformed) {
	p := 0
	for {
		i := bytes.IndexByte(b[p:], '\n')
		if i < 0 {
			return 0, nil
		}
		if i == 0 || b[p+i-1] != '\r' {
			return 0, errBareLF
		}
		line := b[p : p+i-1]
		p += i + 1
		if len(line) == 0 {
			return p, nil
		}
		colon := 0
		for colon < len(line) && tchar[line[colon]] {
			colon++
		}
		switch {
		case line[0] == ' ' || line[0] == '\t':
			return 0, errFold
		case colon == 0 || colon == len(line) || line[colon] != ':':
			return 0, errName
		}
		value := trimBlank(line[colon+1:])
		if !isText(value) {
			return 0, errValue
		}
		if len(*h) >= most {
			return 0, errFields
		}
		name, text := alias(line[:colon]), alias(value)
		if keep, err := f.note(name, text); err != nil {
			return 0, err
		} else if keep {
			*h = append(*h, Field{name, text})
		}
	}
}

// note takes in a field; Host is kept apart.
func (f *framing) note(name, value string) (keep bool, err *Malformed) {
	switch len(name) {
	case 4:
		if fold(name, "Host") {
			f.hosts++
			f.host, f.framingSet = value, true
			if f.hosts > 1 || !validHost(value) {
				return false, errHost
			}
			return false, nil
		}
	case 6:
		if fold(name, "Expect") {
			f.badExpect = f.badExpect || f.expect || !fold(value, "100-continue")
			f.expect = true
		}
	case 7:
		if fold(name, "Upgrade") {
			f.upgradeTo = value
		}
	case 10:
		if fold(name, "Connection") {
			f.connection(value)
		}
	case 14:
		if fold(name, "Content-Length") {
			f.framingSet = true
			if f.length >= 0 {
				return false, errLength
			}
			if f.length = decimal(value); f.length < 0 {
				return false, errLength
			}
			if f.chunked {
				return false, errBoth
			}
		}
	case 17:
		if fold(name, "Transfer-Encoding") {
			f.framingSet = true
			if f.chunked || !fold(value, "chunked") {
				return false, errCoding
			}
			f.chunked = true
			if f.length >= 0 {
				return false, errBoth
			}
		}
	}
	return true, nil
}

func (f *framing) connection(value string) {
	for len(value) > 0 {
		i := 0
		for i < len(value) && value[i] != ',' {
			i++
		}
		switch t := trimBlank(value[:i]); len(t) {
		case 5:
			f.close = f.close || fold(t, "close")
		case 7:
			f.upgrade = f.upgrade || fold(t, "upgrade")
		case 10:
			f.keepAlive = f.keepAlive || fold(t, "keep-alive")
		}
		value = value[min(i+1, len(value)):]
	}
}

// decimal is a length of at most 18 digits, or -1.
func decimal(s string) int64 {
	if s == "" || len(s) > 18 {
		return -1
	}
	n := int64(0)
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// line cuts off the first line; n is 0 as long as it has not arrived.
func firstLine(b []byte) (line []byte, n int, err *Malformed) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return nil, 0, nil
	}
	if i == 0 || b[i-1] != '\r' {
		return nil, 0, errBareLF
	}
	return b[:i-1], i + 1, nil
}

// parse reads a request's head from the front of b. n is 0 as long as it is
// incomplete; what is there is checked all the same, so that a broken client
// need not wait for a time-out.
func (x *Exchange) parse(b []byte, most int) (n int, err *Malformed) {
	skip := 0
	if len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
		skip = 2
	}
	if b = b[skip:]; len(b) == 0 || skip == 0 && len(b) == 1 && b[0] == '\r' {
		return 0, nil
	}
	if !tchar[b[0]] {
		return 0, errMethod
	}
	line, p, err := firstLine(b)
	if p == 0 {
		return 0, err
	}
	if err := x.requestLine(line); err != nil {
		return 0, err
	}
	f := &x.framing
	*f = framing{length: -1}
	x.Header = x.Header[:0]
	n, err = parseFields(b[p:], &x.Header, f, most)
	if n == 0 || err != nil {
		return 0, err
	}
	switch {
	case x.Minor == 1 && f.hosts != 1:
		return 0, errHost
	case x.Minor == 0 && f.chunked:
		return 0, errCoding
	case f.badExpect && x.Minor == 1:
		return 0, errExpect
	}
	x.Host = f.host
	if authority := x.authority(); authority != "" {
		if !validHost(authority) {
			return 0, errTarget
		}
		x.Host = authority
	}
	return skip + p + n, nil
}

func (x *Exchange) requestLine(line []byte) *Malformed {
	i := 0
	for i < len(line) && tchar[line[i]] {
		i++
	}
	if i == len(line) || line[i] != ' ' {
		return errMethod
	}
	j := i + 1
	for j < len(line) && line[j] > ' ' && line[j] < 0x7f && line[j] != '#' {
		j++
	}
	if j == len(line) {
		return errLine // no version: HTTP/0.9
	}
	if j == i+1 || line[j] != ' ' {
		return errTarget
	}
	v := line[j+1:]
	if len(v) != 8 || string(v[:5]) != "HTTP/" || v[5] < '0' || v[5] > '9' || v[6] != '.' || v[7] < '0' || v[7] > '9' {
		return errLine
	}
	if v[5] != '1' || v[7] > '1' {
		return errVersion
	}
	x.Method, x.Target, x.Minor = alias(line[:i]), alias(line[i+1:j]), int(v[7]-'0')
	switch {
	case x.Target[0] == '/':
		if x.Method != "CONNECT" {
			return nil
		}
	case x.Target == "*":
		if x.Method == "OPTIONS" {
			return nil
		}
	case x.Method == "CONNECT":
		if validAuthority(x.Target) {
			return nil
		}
	case x.authority() != "":
		return nil
	}
	return errTarget
}

// authority is the one of a target in absolute form, or "".
func (x *Exchange) authority() string {
	t := x.Target
	switch {
	case t[0] == '/':
		return ""
	case len(t) > 7 && fold(t[:7], "http://"):
		t = t[7:]
	case len(t) > 8 && fold(t[:8], "https://"):
		t = t[8:]
	default:
		return ""
	}
	for i := range len(t) {
		if t[i] == '/' || t[i] == '?' {
			return t[:i]
		}
	}
	return t
}

// parse reads an answer's head from the front of b; n is 0 as long as it is
// incomplete.
func (r *Response) parse(b []byte, most int) (n int, err *Malformed) {
	const start = "HTTP/1."
	if m := min(len(b), len(start)); string(b[:m]) != start[:m] {
		return 0, errStatusLine // no need to wait for the end of the line
	}
	line, p, err := firstLine(b)
	if p == 0 {
		return 0, err
	}
	if len(line) < 12 || line[7] < '0' || line[7] > '1' || line[8] != ' ' ||
		len(line) > 12 && line[12] != ' ' || !isText(line) {
		return 0, errStatusLine
	}
	r.Status = 0
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return 0, errStatusLine
		}
		r.Status = r.Status*10 + int(c-'0')
	}
	if r.Status < 100 {
		return 0, errStatusLine
	}
	r.minor = int(line[7] - '0')
	r.framing = framing{length: -1}
	r.Header = r.Header[:0]
	n, err = parseFields(b[p:], &r.Header, &r.framing, most)
	switch {
	case n == 0 || err != nil:
		return 0, err
	case r.minor == 0 && r.framing.chunked:
		return 0, errCoding
	}
	return p + n, nil
}
