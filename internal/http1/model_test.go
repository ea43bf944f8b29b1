package http1

import (
	"regexp"
	"strconv"
	"strings"
)

// The model says what a strict server answers to the bytes of a connection,
// below all bounds on size and count, whose handler is mirror: it tells what it
// understood. It is written with regular expressions and shares nothing with the
// code under test. Where RFC 9112 leaves a choice it chooses what package
// documentation lists.

type verdict int

const (
	good  verdict = iota
	short         // the bytes end too early
	broken
)

const (
	tokenRE = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
	valueRE = `[\t\x20-\x7e\x80-\xff]*`
)

var (
	requestRE   = latin(`^(` + tokenRE + `) ([\x21\x22\x24-\x7e]+) HTTP/([0-9])\.([0-9])$`)
	methodRE    = latin(`^` + tokenRE + `$`)
	fieldRE     = latin(`^(` + tokenRE + `):[ \t]*(` + valueRE + `?)[ \t]*$`)
	hostRE      = latin(`^((\[[!$%&'()*+,;=._~0-9A-Za-z:-]+\]|[!$%&'()*+,;=._~0-9A-Za-z-]+)(:[0-9]*)?)?$`)
	authorityRE = latin(`^(\[[!$%&'()*+,;=._~0-9A-Za-z:-]+\]|[!$%&'()*+,;=._~0-9A-Za-z-]+):0*([1-9][0-9]{0,4})$`)
	notLateRE   = latin(`(?i)^(if-.*|x-forwarded-.*|age|authorization|cache-control|connection|content-(encoding|length|range|type)|` +
		`(set-)?cookie2?|date|expect|expires|forwarded|host|keep-alive|location|max-forwards|pragma|proxy-(authenticate|authorization|connection)|` +
		`range|realm|retry-after|te|trailer|transfer-encoding|upgrade|vary|via|warning|www-authenticate)$`)
	absoluteRE  = latin(`^(?i:https?)://([^/?]+)`)
	chunkSizeRE = latin(`^([0-9A-Fa-f]{1,15})(;` + valueRE + `)?$`)
	lengthRE    = latin(`^[0-9]{1,18}$`)
)

// latin compiles an expression over bytes, which the model maps to runes.
func latin(expr string) *regexp.Regexp { return regexp.MustCompile(expr) }

// runes maps every byte to the rune of the same number.
func runes(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		s.WriteRune(rune(c))
	}
	return s.String()
}

// modelLine cuts a line off.
func modelLine(s string) (line, rest string, v verdict) {
	line, rest, found := strings.Cut(s, "\n")
	if !found {
		return "", s, short
	}
	line, crlf := strings.CutSuffix(line, "\r")
	if !crlf {
		return "", s, broken
	}
	return line, rest, good
}

type modelHead struct {
	method, minor   string
	target, host    string
	fields          []string
	status          int // not 0: refused
	length          int64
	chunked, close_ bool
}

func modelRequest(s string) (h modelHead, rest string, v verdict) {
	refused := func(status int) (modelHead, string, verdict) { return modelHead{status: status}, "", broken }
	s, empty := strings.CutPrefix(s, "\r\n")
	if s == "" || s == "\r" && !empty {
		return h, s, short
	}
	if !methodRE.MatchString(s[:1]) {
		return refused(400)
	}
	line, rest, v := modelLine(s)
	if v == short {
		return h, s, short
	}
	m := requestRE.FindStringSubmatch(line)
	if v == broken || m == nil {
		return refused(400)
	}
	if m[3] != "1" || m[4] > "1" {
		return refused(505)
	}
	h = modelHead{method: m[1], minor: m[4], length: -1}
	target, absolute := m[2], absoluteRE.FindStringSubmatch(m[2])
	h.target = target
	switch {
	case h.method == "CONNECT":
		a := authorityRE.FindStringSubmatch(target)
		if a == nil {
			return refused(400)
		}
		if port, _ := strconv.Atoi(a[2]); port > 65535 {
			return refused(400)
		}
	case target[0] == '/':
	case target == "*":
		if h.method != "OPTIONS" {
			return refused(400)
		}
	case absolute == nil:
		return refused(400)
	}
	hosts, expect, keep := 0, "", false
	lengths, codings := 0, 0
	for {
		if line, rest, v = modelLine(rest); v == short {
			return h, s, short
		} else if v == broken {
			return refused(400)
		}
		if line == "" {
			break
		}
		f := fieldRE.FindStringSubmatch(line)
		if f == nil {
			return refused(400)
		}
		value := strings.Trim(f[2], " \t")
		if strings.ToLower(f[1]) != "host" {
			h.fields = append(h.fields, f[1]+": "+value)
		}
		switch strings.ToLower(f[1]) {
		case "host":
			if hosts++; hosts > 1 || !hostRE.MatchString(value) {
				return refused(400)
			}
			h.host = value
		case "content-length":
			if lengths++; lengths > 1 || codings > 0 || !lengthRE.MatchString(value) {
				return refused(400)
			}
			h.length, _ = strconv.ParseInt(value, 10, 64)
		case "transfer-encoding":
			if codings++; codings > 1 || lengths > 0 || strings.ToLower(value) != "chunked" {
				return refused(400)
			}
			h.chunked = true
		case "expect":
			if expect += value; strings.ToLower(expect) != "100-continue" {
				expect = "?"
			}
		case "connection":
			for t := range strings.SplitSeq(strings.ToLower(value), ",") {
				switch strings.Trim(t, " \t") {
				case "close":
					h.close_ = true
				case "keep-alive":
					keep = true
				}
			}
		}
	}
	if h.minor == "1" && hosts == 0 || h.minor == "0" && h.chunked {
		return refused(400)
	}
	if expect == "?" && h.minor == "1" {
		return refused(417)
	}
	if absolute != nil && h.method != "CONNECT" {
		if h.host = absolute[1]; !hostRE.MatchString(h.host) {
			return refused(400)
		}
	}
	if h.method == "CONNECT" || h.minor == "0" && !keep {
		h.close_ = true
	}
	return h, rest, good
}

// modelChunks decodes a chunked body.
func modelChunks(in []byte) (content, rest []byte, trailer []string, v verdict) {
	s := runes(in)
	var out []rune
	done := func(v verdict) ([]byte, []byte, []string, verdict) {
		return bytesOf(string(out)), bytesOf(s), trailer, v
	}
	extensions := 0
	for {
		line, after, v := modelLine(s)
		if v == short {
			if len([]rune(s)) >= maxChunkLine {
				v = broken
			}
			return done(v)
		}
		m := chunkSizeRE.FindStringSubmatch(line)
		if v == broken || m == nil || len([]rune(line))+2 > maxChunkLine {
			return done(broken)
		}
		if extensions += len([]rune(m[2])); extensions > maxExtensions {
			return done(broken)
		}
		size, _ := strconv.ParseInt(m[1], 16, 64)
		s = after
		if size == 0 {
			break
		}
		data := []rune(s)
		if int64(len(data)) < size {
			out = append(out, data...)
			s = ""
			return done(short)
		}
		out = append(out, data[:size]...)
		s = string(data[size:])
		switch {
		case strings.HasPrefix(s, "\r\n"):
			s = s[2:]
		case s == "" || s != "\n" && len([]rune(s)) == 1:
			return done(short)
		default:
			return done(broken)
		}
	}
	total, fields, wrong := 0, 0, false
	for {
		line, after, v := modelLine(s)
		if v == short && len([]rune(s)) >= maxTrailer {
			v = broken
		}
		if v != good {
			return done(v)
		}
		s = after
		if line == "" {
			break
		}
		if total += len([]rune(line)) + 2; total > maxTrailer {
			return done(broken)
		}
		fields++
		f := fieldRE.FindStringSubmatch(line)
		wrong = wrong || f == nil
		if f != nil {
			switch strings.ToLower(f[1]) {
			case "host", "content-length", "transfer-encoding":
				wrong = true
			}
			if !notLateRE.MatchString(f[1]) {
				trailer = append(trailer, f[1]+": "+strings.Trim(f[2], " \t"))
			}
		}
	}
	if wrong || fields > maxTrailers {
		return done(broken)
	}
	return done(good)
}

func bytesOf(s string) []byte {
	out := make([]byte, 0, len(s))
	for _, r := range s {
		out = append(out, byte(r))
	}
	return out
}

// modelAnswer is one answer that the model expects.
type modelAnswer struct {
	status int
	method string // that it answers
	body   string
	close  bool
}

// modelConn is what comes back on a connection, without interim answers.
func modelConn(in []byte) (list []modelAnswer) {
	s := runes(in)
	for {
		h, rest, v := modelRequest(s)
		if v == short {
			return list
		}
		if v == broken {
			return append(list, modelAnswer{h.status, "GET", "", true})
		}
		content, trailer := "", []string(nil)
		switch {
		case h.chunked:
			data, left, late, v := modelChunks(bytesOf(rest))
			if v != good {
				return append(list, modelAnswer{400, h.method, "", true})
			}
			content, s, trailer = string(data), runes(left), late
		case h.length > 0:
			data := []rune(rest)
			if int64(len(data)) < h.length {
				return append(list, modelAnswer{400, h.method, "", true})
			}
			content, s = string(bytesOf(string(data[:h.length]))), string(data[h.length:])
		default:
			s = rest
		}
		if h.method == "CONNECT" {
			return append(list, modelAnswer{405, h.method, "", true})
		}
		head := strings.Join(append([]string{h.method + " " + h.target + " 1." + h.minor + " " + h.host}, h.fields...), "\n")
		body := string(bytesOf(head)) + "\n\n" + content + "\n" + string(bytesOf(strings.Join(trailer, "\n")))
		if h.method == "HEAD" {
			body = ""
		}
		list = append(list, modelAnswer{200, h.method, body, h.close_})
		if h.close_ {
			return list
		}
	}
}
