package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// fetcher reads documents, key sets, from addresses that the guard allows.
type fetcher struct{ rt *http.Transport }

func newFetcher(o *Options) *fetcher {
	dialer := &net.Dialer{Timeout: o.ConnectTimeout, Control: guard(o.RefusedPorts)}
	return &fetcher{&http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.UpstreamRoots},
		TLSHandshakeTimeout:    o.ConnectTimeout,
		MaxIdleConnsPerHost:    16, // introspections
		IdleConnTimeout:        10 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}}
}

func (f *fetcher) close() { f.rt.CloseIdleConnections() }

// fetch reads a document of at most limit bytes. Redirects are not followed.
func (f *fetcher) fetch(ctx context.Context, from string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch document: %w", err)
	}
	return f.read(req, limit)
}

// post sends a form and reads a JSON answer.
func (f *fetcher) post(ctx context.Context, to, authorization, form string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(form))
	if err != nil {
		return nil, fmt.Errorf("fetch document: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	return f.read(req, limit)
}

func (f *fetcher) read(req *http.Request, limit int64) ([]byte, error) {
	res, err := f.rt.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("fetch document: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch document: status %d", res.StatusCode)
	}
	doc, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("fetch document: %w", err)
	}
	if int64(len(doc)) > limit {
		return nil, fmt.Errorf("fetch document: larger than %d bytes", limit)
	}
	return doc, nil
}
