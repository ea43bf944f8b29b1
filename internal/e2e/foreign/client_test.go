package foreign

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/e2e"
)

// client speaks one version of HTTP, keeps what a backend compressed as it is,
// and keeps its connections.
func client(t *testing.T, http2 bool) *http.Client {
	t.Helper()
	tr := &http.Transport{
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true}, // the node under test signs its own
		MaxIdleConnsPerHost: 64, DisableCompression: true, Protocols: new(http.Protocols),
	}
	tr.Protocols.SetHTTP1(!http2)
	tr.Protocols.SetHTTP2(http2)
	tr.Protocols.SetUnencryptedHTTP2(http2)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 60 * time.Second}
}

// call sends one request and reads the answer; fields are names and values.
func (w *world) call(ctx context.Context, c *http.Client, method, target string, body []byte, fields ...string) (*e2e.Answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+w.token)
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("read answer of %s %s: %w", method, target, err)
	}
	return &e2e.Answer{Status: res.StatusCode, Header: res.Header, Body: b}, nil
}

// hammer sends n calls from several workers; each must be answered with the
// status.
func (w *world) hammer(t *testing.T, n, workers, status int, target string) {
	t.Helper()
	c := client(t, false)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for range n / workers {
				a, err := w.call(t.Context(), c, http.MethodGet, target, nil)
				if err != nil || a.Status != status {
					t.Errorf("%v %+v", err, a)
					return
				}
			}
		})
	}
	group.Wait()
}
