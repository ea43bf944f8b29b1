package e2e

import (
	"archive/zip"
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/fault"
)

// TestBadBodiesAreBounded sends uploads that never end or are made to cost.
func TestBadBodiesAreBounded(t *testing.T) {
	t.Parallel()
	p := node(t, Node{})
	c := admin(t, p)
	const boundary = "part"
	form := func(parts ...string) string {
		var b strings.Builder
		for _, x := range parts {
			b.WriteString("--" + boundary + "\r\n" + x + "\r\n")
		}
		return b.String() + "--" + boundary + "--\r\n"
	}
	file := "Content-Disposition: form-data; name=\"file\"; filename=\"a.json\"\r\n\r\n" + tinyDefinition
	bodies := map[string]struct{ kind, body string }{
		"no boundary":         {"multipart/form-data", form(file)},
		"empty boundary":      {"multipart/form-data; boundary=\"\"", form(file)},
		"wrong boundary":      {"multipart/form-data; boundary=other", form(file)},
		"not multipart":       {"multipart/form-data; boundary=part", "hello"},
		"empty":               {"multipart/form-data; boundary=part", ""},
		"no parts":            {"multipart/form-data; boundary=part", "--part--\r\n"},
		"no end":              {"multipart/form-data; boundary=part", "--part\r\n" + file},
		"no properties":       {"multipart/form-data; boundary=part", form(file)},
		"no file":             {"multipart/form-data; boundary=part", form("Content-Disposition: form-data; name=\"additionalProperties\"\r\n\r\n{}")},
		"properties no JSON":  {"multipart/form-data; boundary=part", form(file, "Content-Disposition: form-data; name=\"additionalProperties\"\r\n\r\n{")},
		"thousands of parts":  {"multipart/form-data; boundary=part", form(slices.Repeat([]string{"Content-Disposition: form-data; name=\"x\"\r\n\r\ny"}, 5000)...)},
		"huge field name":     {"multipart/form-data; boundary=part", form("Content-Disposition: form-data; name=\"" + strings.Repeat("n", 1<<20) + "\"\r\n\r\ny")},
		"thousands of fields": {"multipart/form-data; boundary=part", form(strings.Repeat("X-A: b\r\n", 20000) + "\r\ny")},
		"part without name":   {"multipart/form-data; boundary=part", form("\r\ny")},
		"bad disposition":     {"multipart/form-data; boundary=part", form("Content-Disposition: ;;;=\r\n\r\ny")},
		"bad media type":      {"multipart/;;", form(file)},
		"another media type":  {"application/xml", "<a/>"},
		"a zip that is none":  {"multipart/form-data; boundary=part", form("Content-Disposition: form-data; name=\"file\"; filename=\"a.zip\"\r\n\r\nPK\x03\x04garbage", "Content-Disposition: form-data; name=\"additionalProperties\"\r\n\r\n{\"name\":\"Z\",\"version\":\"1\",\"context\":\"/z\"}")},
		"broken form":         {"application/x-www-form-urlencoded", "file=%zz"},
	}
	for name, b := range bodies {
		for _, path := range []string{Publisher + "/apis/import-openapi", Publisher + "/apis/validate-openapi", Admin + "/throttling/policies/import"} {
			t.Run(name+path, func(t *testing.T) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.Base+path, strings.NewReader(b.body))
				ok(t, err)
				req.Header.Set("Content-Type", b.kind)
				req.Header.Set("Authorization", "Bearer "+c.Token)
				began := time.Now()
				a := must[*Answer](t)(send(req))
				if a.Status == http.StatusOK && strings.Contains(path, "validate") {
					if bytes.Contains(a.Body, []byte(`"isValid":true`)) && !strings.Contains(name, "propert") && name != "no end" {
						t.Errorf("valid: %.300s", a.Body)
					}
				} else {
					expectProblem(t, a)
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("took %v", took)
				}
			})
		}
	}

	t.Run("endless preamble", func(t *testing.T) {
		r, w := io.Pipe()
		var sent atomic.Int64
		go func() {
			line := bytes.Repeat([]byte("no boundary here\r\n"), 4096)
			for sent.Load() < 256<<20 {
				sent.Add(int64(len(line)))
				if _, err := w.Write(line); err != nil {
					return
				}
			}
			_ = w.Close()
		}()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.Base+Publisher+"/apis/import-openapi", r)
		ok(t, err)
		req.Header.Set("Content-Type", "multipart/form-data; boundary=part")
		req.Header.Set("Authorization", "Bearer "+c.Token)
		a := must[*Answer](t)(send(req))
		r.Close()
		if a.Status != http.StatusRequestEntityTooLarge {
			t.Errorf("status %d: %.200s", a.Status, a.Body)
		}
		if n := sent.Load(); n > 100<<20 {
			t.Errorf("%d MB were read", n>>20)
		}
	})

	t.Run("characters no database holds", func(t *testing.T) {
		for _, path := range []string{Devportal + "/applications", Publisher + "/apis"} {
			a := must[*Answer](t)(rawJSON(t, c, http.MethodPost, path,
				`{"name":"nul","version":"1","context":"/nul","throttlingPolicy":"Unlimited","description":"a\u0000b\ud800","policies":["Unlimited"],"attributes":{"x\u0000":"y"}}`))
			if a.Status >= 500 {
				t.Errorf("%s: status %d: %.200s", path, a.Status, a.Body)
			}
		}
	})

	if rss := residentMB(t, p.Pid()); rss > 600 {
		t.Errorf("the process holds %d MB after all this", rss)
	}
}

// TestBadArchivesAreRefused sends archives that are made to cost or to lead out
// of their folder, and addresses that are nobody's to fetch.
func TestBadArchivesAreRefused(t *testing.T) {
	t.Parallel()
	p := node(t, Node{Args: []string{"--listen", "0.0.0.0"}}) // so loopback is no address to fetch from either
	password := must[[]byte](t)(os.ReadFile(filepath.Join(p.Home, "admin-password")))
	c := must[*Client](t)(Login(t.Context(), p.Management(), "admin", strings.TrimSpace(string(password))))
	zeros := func(n int) io.Reader { return io.LimitReader(zero{}, int64(n)) }
	one := func(name string, r io.Reader) map[string]io.Reader { return map[string]io.Reader{name: r} }
	many := map[string]io.Reader{}
	for i := range 20000 {
		many["f"+strconv.Itoa(i)] = strings.NewReader("x")
	}
	archives := map[string]map[string]io.Reader{
		"bomb":             one("api/swagger.json", zeros(512<<20)),
		"bomb beside":      {"api/other.bin": zeros(256 << 20), "api/swagger.json": strings.NewReader("{}")},
		"leads out":        one("../swagger.json", strings.NewReader(tinyDefinition)),
		"absolute":         one("/etc/swagger.json", strings.NewReader(tinyDefinition)),
		"many files":       many,
		"no definition":    one("api/readme.txt", strings.NewReader("x")),
		"not a definition": one("api/swagger.json", strings.NewReader("hello")),
		"empty":            {},
	}
	for name, files := range archives {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			z := zip.NewWriter(&b)
			for f, r := range files {
				w, err := z.Create(f)
				ok(t, err)
				_, err = io.Copy(w, r)
				ok(t, err)
			}
			ok(t, z.Close())
			began := time.Now()
			a := must[*Answer](t)(c.Upload(t.Context(), http.MethodPost, Publisher+"/apis/import-openapi", Part{Name: "file", File: "a.zip", Data: b.Bytes()},
				Part{Name: "additionalProperties", Data: []byte(`{"name":"Zip","version":"1","context":"/zip","policies":["Unlimited"]}`)}))
			if a.Status != http.StatusInternalServerError || !pinned(a, &fault.ArchiveWithoutRoot) {
				expectProblem(t, a)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	inside := NewBackend()
	defer inside.Close()
	port := inside.URL[strings.LastIndexByte(inside.URL, ':'):]
	for _, address := range []string{
		inside.URL, "http://localhost" + port, "http://[::ffff:127.0.0.1]" + port, "http://2130706433" + port, "http://0177.0.0.1" + port, "http://user:pass@127.0.0.1" + port,
		"http://169.254.169.254/latest/meta-data/", "http://0.0.0.0" + port, "file:///etc/passwd", "gopher://127.0.0.1/", "http://", "", "\x00", strings.Repeat("a", 70000),
	} {
		for _, path := range []string{"/apis/import-openapi", "/apis/validate-openapi"} {
			a := must[*Answer](t)(c.Upload(t.Context(), http.MethodPost, Publisher+path, Part{Name: "url", Data: []byte(address)}, Part{Name: "additionalProperties", Data: []byte(`{"name":"U","version":"1","context":"/u"}`)}))
			if a.Status == http.StatusOK && bytes.Contains(a.Body, []byte(`"isValid":false`)) {
				continue
			}
			expectProblem(t, a)
		}
	}
	if n := inside.Hits.Load(); n != 0 {
		t.Errorf("%d fetches reached loopback", n)
	}
	if rss := residentMB(t, p.Pid()); rss > 400 {
		t.Errorf("the process holds %d MB after all this", rss)
	}
}

type zero struct{}

func (zero) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// pinned reports whether an answer is this row of the table of pinned answers.
func pinned(a *Answer, row *fault.Error) bool {
	var body struct {
		Code                 int
		Message, Description string
	}
	return a.JSON(&body) == nil && body.Code == row.Code && body.Message == row.Msg && strings.HasPrefix(body.Description, row.Detail)
}
