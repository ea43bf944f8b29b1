package main

import (
	"fmt"
	"testing"
)

// A request is answered when its last byte is there, however it is cut.
func TestBackendReadsWholeRequests(t *testing.T) {
	for _, x := range []struct {
		name, in string
		broken   bool
	}{
		{"no body", "GET / HTTP/1.1\r\nA: b\r\n\r\n", false},
		{"a length", "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345", false},
		{"no bytes", "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", false},
		{"chunks", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\n0\r\n0\r\n\r\n", false},
		{"no chunks", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
		{"a length that is none", "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", true},
	} {
		for cut := 1; cut <= len(x.in); cut++ {
			t.Run(fmt.Sprint(x.name, cut), func(t *testing.T) {
				c := &backendConn{answer: []byte("answer")}
				for round := range 2 {
					c.out = nil
					ok := true
					for rest := x.in; ok && rest != ""; rest = rest[min(cut, len(rest)):] {
						if c.out != nil && !x.broken {
							t.Fatalf("round %d: answered before the last byte", round)
						}
						ok = c.take([]byte(rest[:min(cut, len(rest))]))
					}
					if x.broken {
						if ok {
							t.Fatal("taken")
						}
						return
					}
					if !ok || string(c.out) != "answer" {
						t.Fatalf("round %d: taken %v, answer %q", round, ok, c.out)
					}
				}
			})
		}
	}
}
