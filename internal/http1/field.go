package http1

import (
	"encoding/binary"
	"strings"
	"unsafe"
)

// Field is one header field as received or to be sent.
type Field struct{ Name, Value string }

// Header is a list of fields in wire order. Names compare without case.
type Header []Field

// Get is the value of the first field of that name, or "".
func (h Header) Get(name string) string {
	for i := range h {
		if fold(h[i].Name, name) {
			return h[i].Value
		}
	}
	return ""
}

// Has reports whether there is a field of that name.
func (h Header) Has(name string) bool {
	for i := range h {
		if fold(h[i].Name, name) {
			return true
		}
	}
	return false
}

// tchar are the bytes of a token (RFC 9110 §5.6.2).
var tchar = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

// hostchar are the bytes of a Host value outside brackets, but the colon.
var hostchar = func() (t [256]bool) {
	for c := range t {
		t[c] = c < 0x80 && tchar[c]
	}
	for _, c := range "#^`|" {
		t[c] = false
	}
	for _, c := range "(),;=" {
		t[c] = true
	}
	return t
}()

func isToken[T string | []byte](s T) bool {
	for i := range len(s) {
		if !tchar[s[i]] {
			return false
		}
	}
	return len(s) > 0
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// isText reports whether a field value holds no control character but tabs.
// Many bytes at a time: tokens are a kilobyte long.
func isText(b []byte) bool {
	for len(b) >= 32 {
		if controls(b)|controls(b[8:])|controls(b[16:])|controls(b[24:]) != 0 && !isTextSlow(b[:32]) {
			return false
		}
		b = b[32:]
	}
	for len(b) >= 8 {
		if controls(b) != 0 && !isTextSlow(b[:8]) {
			return false
		}
		b = b[8:]
	}
	return isTextSlow(b)
}

// controls is not 0 if one of the first eight bytes is a control character. A
// byte behind one may be taken for one, too.
func controls(b []byte) uint64 {
	x := binary.LittleEndian.Uint64(b)
	y := x ^ ones*0x7f
	return ((x-ones*0x20)&^x | (y-ones)&^y) & highs
}

func isTextSlow(b []byte) bool {
	for _, c := range b {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func trimBlank[T string | []byte](s T) T {
	for len(s) > 0 && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for len(s) > 0 && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// fold reports whether two strings are the same, ignoring ASCII case.
func fold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if x, y := a[i], b[i]; x != y && lower(x) != lower(y) {
			return false
		}
	}
	return true
}

// alias is b as a string, without a copy.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// validHost checks the Host value: nothing, or a name or a bracketed address,
// and perhaps a port. A port without a name is none (RFC 9110 §4.2.1).
func validHost(h string) bool {
	i := 0
	if h != "" && h[0] == ':' {
		return false
	}
	if h != "" && h[0] == '[' {
		for i++; i < len(h) && h[i] != ']'; i++ {
			if c := h[i]; !hostchar[c] && c != ':' {
				return false
			}
		}
		if i == len(h) || i == 1 {
			return false
		}
		i++
	} else {
		for i < len(h) && h[i] != ':' {
			if !hostchar[h[i]] {
				return false
			}
			i++
		}
	}
	if i == len(h) {
		return true
	}
	if h[i] != ':' {
		return false
	}
	for i++; i < len(h); i++ {
		if h[i] < '0' || h[i] > '9' {
			return false
		}
	}
	return true
}

// validAuthority checks the target of CONNECT, which has both a name and a port
// (RFC 9112 §3.2.3).
func validAuthority(h string) bool {
	i := strings.LastIndexByte(h, ':')
	port := decimal(h[i+1:])
	return i > 0 && validHost(h) && h[i-1] != ':' && port > 0 && port < 1<<16
}

// aliasBytes is s as bytes that must not be changed.
func aliasBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
