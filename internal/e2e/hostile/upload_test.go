package hostile

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/e2e"
)

// TestUploadsAtOnce sends sixteen bodies of 32 MB at once, in every framing and
// to a backend that lets them wait: the node may take 64 MB more for them.
func TestUploadsAtOnce(t *testing.T) {
	t.Parallel()
	const count, size, most = 16, 32 << 20, 64 << 10 // the bound in KB
	s := start(t, e2e.Node{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(500 * time.Millisecond)
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return
		}
		w.Header().Set("Got", fmt.Sprint(n))
		_, _ = io.WriteString(w, good)
	}))
	t.Cleanup(slow.Close)
	quick, waits := s.open(t, "Quick", goodBackend(t), 0), s.open(t, "Waits", slow.URL, 0)
	insecure := &tls.Config{InsecureSkipVerify: true} // the node under test signs its own
	for _, c := range []struct {
		name, target string
		length       int64
		tr           *http.Transport
	}{
		{"known length", s.Gateway() + quick, size, &http.Transport{}},
		{"chunks", s.Gateway() + quick, -1, &http.Transport{}},
		{"a backend that waits", s.Gateway() + waits, size, &http.Transport{}},
		{"TLS", s.GatewayTLS() + quick, size, &http.Transport{TLSClientConfig: insecure.Clone()}},
		{"HTTP/2", s.GatewayTLS() + waits, size, &http.Transport{TLSClientConfig: insecure, ForceAttemptHTTP2: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer c.tr.CloseIdleConnections()
			before := s.memory(t, "VmRSS")
			ok(t, os.WriteFile("/proc/"+strconv.Itoa(s.Pid())+"/clear_refs", []byte("5"), 0o600)) // the peak starts anew
			var wg sync.WaitGroup
			for i := range count {
				wg.Go(func() {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.target, io.LimitReader(zeros{}, size))
					if err != nil {
						t.Error(err)
						return
					}
					req.ContentLength = c.length
					res, err := c.tr.RoundTrip(req)
					if err != nil {
						t.Errorf("upload %d: %v", i, err)
						return
					}
					defer res.Body.Close()
					b, err := io.ReadAll(res.Body)
					if err != nil || res.StatusCode != http.StatusOK || res.Header.Get("Got") != fmt.Sprint(size) {
						t.Errorf("upload %d: status %d, got %s: %.200s (%v)", i, res.StatusCode, res.Header.Get("Got"), b, err)
					}
				})
			}
			wg.Wait()
			grown := s.memory(t, "VmHWM") - before
			t.Logf("%d uploads of 32 MB: %d KB more", count, grown)
			if grown > most {
				t.Errorf("memory grew by %d KB", grown)
			}
		})
	}
}
