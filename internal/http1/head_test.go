package http1

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestStrictHead(t *testing.T) {
	s := &Server{Handler: echo}
	defer s.Close()
	const ok = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
	tests := []struct {
		name, in string
		want     []int
	}{
		{"plain", ok, []int{200}},
		{"two", ok + ok, []int{200, 200}},
		{"empty line before", "\r\n" + ok, []int{200}},
		{"two empty lines before", "\r\n\r\n" + ok, []int{400}},
		{"length and coding", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + ok, []int{400}},
		{"coding and length", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n" + ok, []int{400}},
		{"length twice", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na" + ok, []int{400}},
		{"differing lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\ncontent-length: 2\r\n\r\naa", []int{400}},
		{"length list", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\na", []int{400}},
		{"length signed", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\na", []int{400}},
		{"length empty", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\na", []int{400}},
		{"length huge", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\na", []int{400}},
		{"coding gzip", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", []int{400}},
		{"coding twice", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []int{400}},
		{"coding list", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", []int{400}},
		{"coding identity", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n", []int{400}},
		{"coding in 1.0", "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []int{400}},
		{"coding with vertical tab", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n", []int{400}},
		{"coding in capitals", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", []int{200}},
		{"blank before colon", "GET / HTTP/1.1\r\nHost : h\r\n\r\n", []int{400}},
		{"folded line", "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", []int{400}},
		{"blank line start", "GET / HTTP/1.1\r\n Host: h\r\n\r\n", []int{400}},
		{"bare LF", "GET / HTTP/1.1\nHost: h\n\n", []int{400}},
		{"bare LF in fields", "GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n", []int{400}},
		{"bare CR", "GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n", []int{400}},
		{"NUL in value", "GET / HTTP/1.1\r\nHost: h\r\nA: b\x00c\r\n\r\n", []int{400}},
		{"DEL in value", "GET / HTTP/1.1\r\nHost: h\r\nA: b\x7fc\r\n\r\n", []int{400}},
		{"NUL in name", "GET / HTTP/1.1\r\nHost: h\r\nA\x00: b\r\n\r\n", []int{400}},
		{"tab and high bytes in value", "GET / HTTP/1.1\r\nHost: h\r\nA: b\tc \xc3\xa4 and some more text\r\n\r\n", []int{200}},
		{"no colon", "GET / HTTP/1.1\r\nHost: h\r\nA\r\n\r\n", []int{400}},
		{"empty name", "GET / HTTP/1.1\r\nHost: h\r\n: a\r\n\r\n", []int{400}},
		{"no host", "GET / HTTP/1.1\r\n\r\n", []int{400}},
		{"two hosts", "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", []int{400}},
		{"two hosts in 1.0", "GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n", []int{400}},
		{"no host in 1.0", "GET / HTTP/1.0\r\n\r\n", []int{200}},
		{"host with path", "GET / HTTP/1.1\r\nHost: h/x\r\n\r\n", []int{400}},
		{"host with user", "GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", []int{400}},
		{"host with port", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", []int{200}},
		{"fragment", "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", []int{400}},
		{"control in target", "GET /a\x01b HTTP/1.1\r\nHost: h\r\n\r\n", []int{400}},
		{"high byte in target", "GET /\xc3\xa4 HTTP/1.1\r\nHost: h\r\n\r\n", []int{400}},
		{"two blanks", "GET  / HTTP/1.1\r\nHost: h\r\n\r\n", []int{400}},
		{"blank in target", "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", []int{400}},
		{"trailing blank", "GET / HTTP/1.1 \r\nHost: h\r\n\r\n", []int{400}},
		{"HTTP/0.9", "GET /\r\n", []int{400}},
		{"HTTP/2.0", "GET / HTTP/2.0\r\nHost: h\r\n\r\n", []int{505}},
		{"lower case version", "GET / http/1.1\r\nHost: h\r\n\r\n", []int{400}},
		{"relative target", "GET a HTTP/1.1\r\nHost: h\r\n\r\n", []int{400}},
		{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", []int{200}},
		{"asterisk of GET", "GET * HTTP/1.1\r\nHost: h\r\n\r\n", []int{400}},
		{"absolute", "GET http://x/a HTTP/1.1\r\nHost: h\r\n\r\n", []int{200}},
		{"absolute without a name", "GET http://:80/ HTTP/1.1\r\nHost: h\r\n\r\n", []int{400}},
		{"absolute with user", "GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n", []int{400}},
		{"absolute of another scheme", "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", []int{400}},
		{"host of a port alone", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n", []int{400}},
		{"CONNECT without a port", "CONNECT h HTTP/1.1\r\nHost: h\r\n\r\n", []int{400}},
		{"CONNECT to port 0", "CONNECT h:0 HTTP/1.1\r\nHost: h\r\n\r\n", []int{400}},
		{"CONNECT to a path", "CONNECT / HTTP/1.1\r\nHost: h\r\n\r\n", []int{400}},
		{"TLS hello", "\x16\x03\x01\x02", []int{400}},
		{"incomplete head", "GET / HTTP/1.1\r\nHost: h\r\n", nil},
		{"chunked", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n" + ok, []int{200, 200}},
		{"chunk with bare LF", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n" + ok, []int{400}},
		{"chunk too short", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n" + ok, []int{400}},
		{"chunk size of 16 digits", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000003\r\nabc\r\n0\r\n\r\n" + ok, []int{400}},
		{"chunk size 0x", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n" + ok, []int{400}},
		{"chunk size with blank", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n" + ok, []int{400}},
		{"long extension", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;" + strings.Repeat("a", 600) + "\r\nabc\r\n0\r\n\r\n" + ok, []int{400}},
		{"many extensions", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("a", 400)+"\r\nx\r\n", 30) + "0\r\n\r\n" + ok, []int{400}},
		{"length in trailer", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n" + ok, []int{400}},
		{"folded trailer", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n c\r\n\r\n" + ok, []int{400}},
		{"bad one in the middle", ok + "GET /b HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n" + ok, []int{200, 400}},
		{"body cut short", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc", []int{400}},
		{"unknown expectation", "POST / HTTP/1.1\r\nHost: h\r\nExpect: magic\r\nContent-Length: 1\r\n\r\na" + ok, []int{417}},
		{"close", "GET / HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n" + ok, []int{200}},
		{"1.0 closes", "GET / HTTP/1.0\r\n\r\n" + ok, []int{200}},
		{"1.0 kept", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n" + ok, []int{200, 200}},
		{"large head", "GET / HTTP/1.1\r\nHost: h\r\nA: " + strings.Repeat("a", 70<<10) + "\r\n\r\n", []int{431}},
		{"head of 60 KB", "GET / HTTP/1.1\r\nHost: h\r\nA: " + strings.Repeat("a", 60<<10) + "\r\n\r\n" + ok, []int{200, 200}},
		{"endless head", "GET /" + strings.Repeat("a", 70<<10), []int{431}},
		{"many fields", "GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("A: b\r\n", 300) + "\r\n", []int{431}},
	}
	for _, tt := range tests {
		for _, step := range []int{0, 1, 7} {
			if step == 1 && len(tt.in) > 4096 {
				continue
			}
			t.Run(fmt.Sprintf("%s/by %d", tt.name, step), func(t *testing.T) {
				list := answers(t, strings.NewReader(over(s, tt.in, step)))
				if got := statuses(list); !slices.Equal(got, tt.want) {
					t.Fatalf("answers %v, want %v", got, tt.want)
				}
				for i, a := range list {
					if a.status >= 400 && (!a.close || i != len(list)-1) {
						t.Errorf("answer %d (%d) does not close the connection", i+1, a.status)
					}
				}
			})
		}
	}
}

func TestRequestParts(t *testing.T) {
	var got string
	s := &Server{Handler: func(x *Exchange) {
		got = fmt.Sprint(x.Method, " ", x.Target, " ", x.Minor, " ", x.Host, " ", x.Length, " ", x.Header, " ", x.Upgrading())
		_ = x.Reply(204, nil, 0)
	}}
	defer s.Close()
	for in, want := range map[string]string{
		"GET /a?b HTTP/1.1\nHost: h:1\nB: \t2 \nA: 1\n\n":               "GET /a?b 1 h:1 0 [{B 2} {A 1}] ",
		"GET HTTP://x:2?q HTTP/1.1\nHost: h:1\n\n":                      "GET HTTP://x:2?q 1 x:2 0 [] ",
		"PUT / HTTP/1.0\nContent-Length: 3\n\nabc":                      "PUT / 0  3 [{Content-Length 3}] ",
		"POST / HTTP/1.1\nHost:\nTransfer-Encoding: chunked\n\n0\n\n":   "POST / 1  -1 [{Transfer-Encoding chunked}] ",
		"GET / HTTP/1.1\nHost: h\nConnection: upgrade\nUpgrade: ws\n\n": "GET / 1 h 0 [{Connection upgrade} {Upgrade ws}] ws",
		"GET / HTTP/1.1\nHost: h\nUpgrade: ws\n\n":                      "GET / 1 h 0 [{Upgrade ws}] ",
		"CONNECT [::1]:443 HTTP/1.1\nHost: h:443\n\n":                   "CONNECT [::1]:443 1 h:443 0 [] ",
		"CONNECT h:443 HTTP/1.1\nHost: h:443\n\n":                       "CONNECT h:443 1 h:443 0 [] ",
	} {
		over(s, crlfs(in), 0)
		if got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestReplyFraming(t *testing.T) {
	type reply struct {
		status int
		length int64
		parts  []string
	}
	tests := []struct {
		name, request string
		reply         reply
		want          string // after the Date
	}{
		{"known length", "GET / HTTP/1.1\nHost: h\n\n", reply{200, 3, []string{"abc"}}, "Content-Length: 3\n\nabc"},
		{"unknown length", "GET / HTTP/1.1\nHost: h\n\n", reply{200, -1, []string{"abc", "de"}}, "Transfer-Encoding: chunked\n\n3\nabc\n2\nde\n0\n\n"},
		{"unknown length in 1.0", "GET / HTTP/1.0\nConnection: keep-alive\n\n", reply{200, -1, []string{"abc"}}, "Connection: close\n\nabc"},
		{"known length in 1.0", "GET / HTTP/1.0\nConnection: keep-alive\n\n", reply{200, 1, []string{"a"}}, "Content-Length: 1\nConnection: keep-alive\n\na"},
		{"HEAD", "HEAD / HTTP/1.1\nHost: h\n\n", reply{200, 3, []string{"abc"}}, "Content-Length: 3\n\n"},
		{"HEAD of unknown length", "HEAD / HTTP/1.1\nHost: h\n\n", reply{200, -1, []string{"abc"}}, "\n"},
		{"204", "GET / HTTP/1.1\nHost: h\n\n", reply{204, 0, nil}, "\n"},
		{"304", "GET / HTTP/1.1\nHost: h\n\n", reply{304, 7, nil}, "Content-Length: 7\n\n"},
		{"empty", "GET / HTTP/1.1\nHost: h\n\n", reply{200, 0, nil}, "Content-Length: 0\n\n"},
		{"too short", "GET / HTTP/1.1\nHost: h\n\nGET / HTTP/1.1\nHost: h\n\n", reply{200, 5, []string{"abc"}}, "Content-Length: 5\n\nabc"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &Server{Handler: func(x *Exchange) {
				// What frames the message is the server's affair.
				_ = x.Reply(tt.reply.status, Header{{"Connection", "x"}, {"content-length", "9"}, {"Transfer-Encoding", "x"}, {"Date", "d"}}, tt.reply.length)
				for _, p := range tt.reply.parts {
					_, _ = x.Write([]byte(p))
				}
			}}
			defer s.Close()
			out := over(s, crlfs(tt.request), 0)
			_, rest, _ := strings.Cut(out, "Date: d\r\n")
			if rest != crlfs(tt.want) {
				t.Errorf("%q, want %q", rest, crlfs(tt.want))
			}
		})
	}
}

func TestReplyRefusesInjection(t *testing.T) {
	var errs []error
	s := &Server{Handler: func(x *Exchange) {
		errs = append(errs, x.Inform(103, Header{{"A", "b\r\n\r\nC: d"}}), x.Reply(200, Header{{"A", "b\r\nC: d"}}, 0), x.Reply(200, Header{{"A\r\nB", "c"}}, 0))
	}}
	defer s.Close()
	out := over(s, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0)
	t.Run("interim", func(t *testing.T) {
		s := &Server{Handler: func(x *Exchange) {
			if x.Inform(103, Header{{"A", "b\r\n\r\nC: d"}}) == nil {
				t.Error("a field with a line end was accepted")
			}
			_ = x.Reply(204, Header{{"Date", "d"}}, 0)
		}}
		defer s.Close()
		if out := over(s, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0); out != "HTTP/1.1 204 No Content\r\nDate: d\r\n\r\n" {
			t.Errorf("%q", out)
		}
	})
	for _, err := range errs {
		if err == nil {
			t.Error("a field with a line end was accepted")
		}
	}
	if got := statuses(answers(t, strings.NewReader(out))); !slices.Equal(got, []int{500}) {
		t.Errorf("answers %v", got)
	}
}

// The quick look at text finds what the slow one does, wherever it is.
func TestIsText(t *testing.T) {
	for n := range 80 {
		for c := range 256 {
			b := []byte(strings.Repeat("a", n))
			if isText(b) != true {
				t.Fatalf("%d letters are refused", n)
			}
			for i := range b {
				b[i] = byte(c)
				if got, want := isText(b), isTextSlow(b); got != want {
					t.Fatalf("%q: %v", b, got)
				}
				b[i] = 'a'
			}
		}
	}
}
