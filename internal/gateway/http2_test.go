package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/cardea-apim/cardea/internal/snapshot"
)

// overHTTP2 is a gateway's address for HTTP/2, by prior knowledge or with TLS,
// and a client that speaks nothing else.
func (w *world) overHTTP2(secure bool) (string, *http.Client) {
	w.t.Helper()
	s := httptest.NewUnstartedServer(w.g.Handler())
	s.Config.Protocols = new(http.Protocols)
	client := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	if secure {
		s.EnableHTTP2 = true
		s.Config.Protocols.SetHTTP2(true)
		s.StartTLS()
		client.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
		client.Protocols.SetHTTP2(true)
	} else {
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
		client.Protocols.SetUnencryptedHTTP2(true)
	}
	w.t.Cleanup(func() { client.CloseIdleConnections(); s.CloseClientConnections(); s.Close() })
	return s.URL, &http.Client{Transport: client, Timeout: 30 * time.Second}
}

// kind is how a backend is spoken to.
type kind struct {
	name     string
	tls, two bool
}

// backendOf serves h; the gateway trusts it.
func backendOf(t *testing.T, k kind, h http.HandlerFunc) (url string, trust func(*Options)) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	if k.tls {
		s.EnableHTTP2 = k.two
		s.StartTLS()
	} else {
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetHTTP1(!k.two)
		s.Config.Protocols.SetUnencryptedHTTP2(k.two)
		s.Start()
	}
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.URL, func(o *Options) {
		o.Upstream = nil
		if k.tls {
			o.UpstreamRoots = x509.NewCertPool()
			o.UpstreamRoots.AddCert(s.Certificate())
		}
	}
}

// to is pizza with its open resources at a backend.
func to(url string, timeout time.Duration) func(*snapshot.API) {
	return func(a *snapshot.API) {
		a.Production[0] = snapshot.Endpoint{URL: url, Timeout: timeout}
		a.Operations = append(a.Operations, snapshot.Operation{Target: "/files/*", Verb: "POST", Auth: "None"})
	}
}

func TestHTTP2ReachesEveryBackend(t *testing.T) {
	for _, k := range []kind{{"plain", false, false}, {"TLS, HTTP/1.1", true, false}, {"TLS, HTTP/2", true, true}} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s from TLS %v", k.name, secure), func(t *testing.T) {
				t.Parallel()
				url, trust := backendOf(t, k, func(w http.ResponseWriter, r *http.Request) {
					body, err := io.ReadAll(r.Body)
					w.Header().Set("Trailer", "X-Sum")
					for _, name := range []string{"Connection", "Te", "Keep-Alive", "X-Lower", "X-Forwarded-Proto", "X-Forwarded-Host", "User-Agent"} {
						w.Header().Set("Saw-"+name, strings.Join(r.Header[name], "|"))
					}
					w.Header().Set("Saw-Cookie", strings.Join(r.Header["Cookie"], "|"))
					fmt.Fprintf(w, "%s %s %s %d %v", r.Method, r.RequestURI, body, r.ProtoMajor, err)
					w.Header().Set("X-Sum", r.Trailer.Get("X-Check"))
				})
				w := pizzeria(t, to(url, 0), trust)
				front, client := w.overHTTP2(secure)
				for range 2 { // the second finds what the first found out
					req, _ := http.NewRequestWithContext(t.Context(), "PUT", front+"/pizza/1.0/files/a%2Fb?x=%20", io.MultiReader(strings.NewReader("hello")))
					req.Header = http.Header{"X-Lower": {"v"}, "Te": {"trailers"}, "Cookie": {"a=1", "b=2"}, "User-Agent": {""}}
					req.Trailer = http.Header{"X-Check": {"42"}}
					req.Host = "gw.example:8243"
					res, err := client.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					b, err := io.ReadAll(res.Body)
					res.Body.Close()
					major := 1
					if k.two {
						major = 2
					}
					if want := fmt.Sprintf("PUT /files/a%%2Fb?x=%%20 hello %d <nil>", major); string(b) != want || err != nil || res.StatusCode != 200 {
						t.Fatalf("%d %q, %v; want %q", res.StatusCode, b, err, want)
					}
					if got := res.Trailer.Get("X-Sum"); got != "42" {
						t.Errorf("trailer there and back: %q", got)
					}
					scheme := "http"
					if secure {
						scheme = "https"
					}
					for name, want := range map[string]string{
						"Connection": "", "Te": "", "Keep-Alive": "", "X-Lower": "v", "Cookie": "a=1; b=2",
						"X-Forwarded-Proto": scheme, "X-Forwarded-Host": "gw.example:8243", "User-Agent": "",
					} {
						if got := res.Header.Get("Saw-" + name); got != want {
							t.Errorf("the backend saw %s: %q, want %q", name, got, want)
						}
					}
				}
			})
		}
	}
}

func TestBackendThatChoseHTTP1IsRemembered(t *testing.T) {
	url, trust := backendOf(t, kind{"", true, false}, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) })
	w := pizzeria(t, to(url, 0), trust)
	front, client := w.overHTTP2(true)
	addr := strings.TrimPrefix(url, "https://")
	up := w.g.upstream.(*upstream).h2
	if up.plain.has(addr) {
		t.Fatal("known before it was asked")
	}
	res, err := client.Get(front + "/pizza/1.0/open")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 || !up.plain.has(addr) {
		t.Errorf("%d, remembered: %v", res.StatusCode, up.plain.has(addr))
	}
}

// A streaming call of gRPC: pieces answer one another while both bodies are open.
func TestGRPCStreamsBothWays(t *testing.T) {
	for _, k := range []kind{{"h2c", false, true}, {"TLS", true, true}} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			url, trust := backendOf(t, k, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/grpc")
				w.Header().Set("Saw-Te", r.Header.Get("Te"))
				w.WriteHeader(200)
				http.NewResponseController(w).Flush()
				in := bufio.NewScanner(r.Body)
				for in.Scan() {
					fmt.Fprintf(w, "re: %s\n", in.Text())
					http.NewResponseController(w).Flush()
				}
				w.Header().Set(http.TrailerPrefix+"Grpc-Status", "7")
				w.Header().Set(http.TrailerPrefix+"Grpc-Message", "no")
			})
			w := pizzeria(t, to(url, 0), trust)
			front, client := w.overHTTP2(true)
			rd, wr := io.Pipe()
			req, _ := http.NewRequestWithContext(t.Context(), "POST", front+"/pizza/1.0/files/pkg.Svc/Call", rd)
			req.Header = http.Header{"Content-Type": {"application/grpc+proto"}, "Te": {"trailers"}}
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != 200 || res.Header.Get("Saw-Te") != "trailers" {
				t.Fatalf("%d, TE %q", res.StatusCode, res.Header.Get("Saw-Te"))
			}
			out := bufio.NewReader(res.Body)
			for i := range 5 {
				fmt.Fprintf(wr, "%d\n", i)
				if line, err := out.ReadString('\n'); err != nil || line != fmt.Sprintf("re: %d\n", i) {
					t.Fatalf("piece %d: %q %v", i, line, err)
				}
			}
			wr.Close()
			if rest, err := io.ReadAll(out); err != nil || len(rest) > 0 {
				t.Fatalf("%q %v", rest, err)
			}
			if res.Trailer.Get("Grpc-Status") != "7" || res.Trailer.Get("Grpc-Message") != "no" {
				t.Errorf("trailers %v", res.Trailer)
			}
		})
	}
}

// rawBackend speaks HTTP/2 by prior knowledge, frame by frame: fn is called for
// the head of every request and says by false that the connection ends.
func rawBackend(t *testing.T, fn func(fr *http2.Framer, stream uint32, conn int32) bool) (url string, resets *atomic.Int32) {
	t.Helper()
	resets = new(atomic.Int32)
	var conns atomic.Int32
	return deaf(t, func(c net.Conn) {
		n := conns.Add(1)
		rd := bufio.NewReader(c)
		if _, err := rd.Discard(len(http2.ClientPreface)); err != nil {
			return
		}
		fr := http2.NewFramer(c, rd)
		if fr.WriteSettings() != nil {
			return
		}
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					_ = fr.WriteSettingsAck()
				}
			case *http2.PingFrame:
				if !f.IsAck() {
					_ = fr.WritePing(true, f.Data)
				}
			case *http2.RSTStreamFrame:
				resets.Add(1)
			case *http2.HeadersFrame:
				if !fn(fr, f.StreamID, n) {
					return
				}
			}
		}
	}), resets
}

func answerHead(fr *http2.Framer, stream uint32, end bool, pairs ...string) {
	var b strings.Builder
	enc := hpack.NewEncoder(&b)
	for pair := range slices.Chunk(pairs, 2) {
		_ = enc.WriteField(hpack.HeaderField{Name: pair[0], Value: pair[1]})
	}
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte(b.String()), EndHeaders: true, EndStream: end})
}

func TestBackendsOverHTTP2ThatFail(t *testing.T) {
	ok := func(fr *http2.Framer, id uint32) {
		answerHead(fr, id, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "5", "grpc-message", "gone")
	}
	for _, c := range []struct {
		name   string // with "GET" it has no body
		answer func(fr *http2.Framer, id uint32, conn int32) bool
		status int
		code   string // of ours; for 200 the grpc-status
	}{
		{"trailers only", func(fr *http2.Framer, id uint32, _ int32) bool { ok(fr, id); return true }, 200, "5"},
		{"trailers after a known length", func(fr *http2.Framer, id uint32, _ int32) bool {
			answerHead(fr, id, false, ":status", "200", "content-type", "application/grpc", "content-length", "2")
			_ = fr.WriteData(id, false, []byte("hi"))
			answerHead(fr, id, true, "grpc-status", "0")
			return true
		}, 200, "0"},
		{"resets the stream", func(fr *http2.Framer, id uint32, _ int32) bool {
			_ = fr.WriteRSTStream(id, http2.ErrCodeInternal)
			return true
		}, 500, "101505"},
		{"goes away for good", func(fr *http2.Framer, id uint32, _ int32) bool {
			_ = fr.WriteGoAway(id, http2.ErrCodeEnhanceYourCalm, nil)
			return false
		}, 500, "101505"},
		{"GET, goes away before this call", func(fr *http2.Framer, id uint32, conn int32) bool {
			if conn == 1 {
				_ = fr.WriteGoAway(0, http2.ErrCodeNo, nil)
				return false
			}
			ok(fr, id)
			return true
		}, 200, "5"},
		{"goes away before this call, whose body is awaited", func(fr *http2.Framer, _ uint32, _ int32) bool {
			_ = fr.WriteGoAway(0, http2.ErrCodeNo, nil)
			return false
		}, 500, "101505"},
		{"closes", func(*http2.Framer, uint32, int32) bool { return false }, 500, "101505"},
		{"a status that is none", func(fr *http2.Framer, id uint32, _ int32) bool {
			answerHead(fr, id, true, ":status", "x")
			return true
		}, 500, "101506"},
		{"never answers", func(*http2.Framer, uint32, int32) bool { return true }, 504, "101504"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url, _ := rawBackend(t, c.answer)
			timeout := 10 * time.Second
			if c.status == 504 {
				timeout = 200 * time.Millisecond
			}
			w := pizzeria(t, to(url, timeout), func(o *Options) { o.Upstream = nil })
			front, client := w.overHTTP2(false)
			// The request's body stays open and silent: what the backend does must
			// be seen all the same.
			rd, wr := io.Pipe()
			defer wr.Close()
			req, _ := http.NewRequestWithContext(t.Context(), "POST", front+"/pizza/1.0/files/x", rd)
			if strings.HasPrefix(c.name, "GET") {
				req, _ = http.NewRequestWithContext(t.Context(), "GET", front+"/pizza/1.0/files/x", nil)
			}
			req.Header.Set("Content-Type", "application/grpc")
			begin := time.Now()
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); c.status != 504 && took > 8*time.Second {
				t.Errorf("took %s: only the timeout ended it", took)
			}
			if c.status == 200 {
				got := res.Header.Get("Grpc-Status") + res.Trailer.Get("Grpc-Status")
				if res.StatusCode != 200 || got != c.code {
					t.Errorf("%d, grpc-status %q, want %q; %s", res.StatusCode, got, c.code, b)
				}
				return
			}
			if res.StatusCode != c.status || !strings.HasPrefix(string(b), `{"code":"`+c.code+`"`) {
				t.Errorf("%d %s, want %d with %s; %+v", res.StatusCode, b, c.status, c.code, w.records.last().Decision)
			}
		})
	}
}

// A client that resets its stream ends the backend's too, over both versions.
func TestResetOfAStreamEndsTheBackendCall(t *testing.T) {
	for _, k := range []kind{{"plain", false, false}, {"TLS, HTTP/2", true, true}} {
		for _, verb := range []string{"GET", "PUT"} {
			t.Run(k.name+" "+verb, func(t *testing.T) {
				t.Parallel()
				started, left := make(chan struct{}), make(chan struct{})
				url, trust := backendOf(t, k, func(_ http.ResponseWriter, r *http.Request) {
					close(started)
					if verb == "PUT" {
						_, _ = io.Copy(io.Discard, r.Body)
					} else {
						<-r.Context().Done()
					}
					close(left)
				})
				w := pizzeria(t, func(a *snapshot.API) {
					to(url, 0)(a)
					a.Operations = append(a.Operations, snapshot.Operation{Target: "/files/*", Verb: "GET", Auth: "None"})
				}, trust)
				front, client := w.overHTTP2(true)
				ctx, cancel := context.WithCancel(t.Context())
				var body io.Reader
				if verb == "PUT" {
					rd, wr := io.Pipe()
					defer wr.Close()
					go func() { _, _ = io.WriteString(wr, "part of it") }()
					body = rd
				}
				go func() { <-started; cancel() }()
				req, _ := http.NewRequestWithContext(ctx, verb, front+"/pizza/1.0/files/x", body)
				if res, err := client.Do(req); err == nil {
					res.Body.Close()
					t.Fatal("got an answer")
				}
				select {
				case <-left:
				case <-time.After(10 * time.Second):
					t.Fatal("the backend was not told")
				}
				for range 500 {
					if w.records.last().Status == statusGone {
						return
					}
					time.Sleep(10 * time.Millisecond)
				}
				t.Errorf("reported %+v", w.records.last())
			})
		}
	}
}

// Backends that answer before the body has come, and close: what the client
// still sends is nobody's, and nothing of the call is used any more. Run with
// -race this shows who reads too long.
func TestEarlyAnswersLeaveTheBodyAlone(t *testing.T) {
	for _, k := range []kind{{"plain", false, false}, {"TLS, HTTP/1.1", true, false}, {"TLS, HTTP/2", true, true}} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			url, trust := backendOf(t, k, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Connection", "close")
				w.WriteHeader(403)
				io.WriteString(w, "no")
			})
			w := pizzeria(t, to(url, 0), trust)
			front, client := w.overHTTP2(true)
			for i := range 20 {
				rd, wr := io.Pipe()
				go func() {
					for {
						if _, err := wr.Write(make([]byte, 1000)); err != nil {
							return
						}
					}
				}()
				req, _ := http.NewRequestWithContext(t.Context(), "PUT", front+"/pizza/1.0/files/x", rd)
				res, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(res.Body)
				res.Body.Close()
				rd.Close()
				// A backend that closes while it is being sent to may be seen as one
				// that broke off.
				if res.StatusCode != 403 && res.StatusCode != 500 || res.StatusCode == 403 && string(b) != "no" && err == nil {
					t.Fatalf("call %d: %d %q %v", i, res.StatusCode, b, err)
				}
			}
		})
	}
}

// What net/http lets through is held to the rules of our own engine.
func TestMalformedRequestsOverHTTP2(t *testing.T) {
	w := pizzeria(t, nil)
	front, _ := w.overHTTP2(false)
	for _, c := range []struct {
		name  string
		pairs []string
		end   bool
		want  string
	}{
		{"good", nil, true, "200"},
		{"Host that agrees", []string{"host", "GW.example"}, true, "200"},
		{"Host that contradicts", []string{"host", "other.example"}, true, "400"},
		{"two Hosts", []string{"host", "gw.example", "host", "other.example"}, true, "400"},
		{"no authority", []string{":authority", ""}, true, "400"},
		{"authority with a path", []string{":authority", "a/b"}, true, "400"},
		{"absolute target", []string{":path", "http://gw.example/pizza/1.0/open"}, true, "400"},
		{"length without a body", []string{"content-length", "5"}, true, "400"},
		{"length that is none", []string{"content-length", "5x"}, false, "400"},
		{"two lengths", []string{"content-length", "5", "content-length", "5"}, false, "400"},
		{"length 0", []string{"content-length", "0"}, true, "200"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(front, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			fr := http2.NewFramer(conn, conn)
			fmt.Fprint(conn, http2.ClientPreface)
			_ = fr.WriteSettings()
			pairs := []string{":method", "GET", ":scheme", "http", ":path", "/pizza/1.0/open", ":authority", "gw.example"}
			for pair := range slices.Chunk(c.pairs, 2) {
				if i := slices.Index(pairs, pair[0]); pair[0][0] == ':' {
					pairs[i+1] = pair[1]
				} else {
					pairs = append(pairs, pair...)
				}
			}
			answerHead(fr, 1, c.end, pairs...)
			for {
				f, err := fr.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				if rst, ok := f.(*http2.RSTStreamFrame); ok {
					t.Fatalf("reset with %v", rst.ErrCode)
				}
				h, ok := f.(*http2.HeadersFrame)
				if !ok {
					continue
				}
				head, err := hpack.NewDecoder(4096, nil).DecodeFull(h.HeaderBlockFragment())
				if err != nil || head[0].Value != c.want {
					t.Errorf("%v %v, want %s", head, err, c.want)
				}
				return
			}
		})
	}
}
