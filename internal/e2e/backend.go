package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
)

// Echo is what the echo backend answers: the request as it arrived.
type Echo struct {
	Method string              `json:"method"`
	Path   string              `json:"path"` // raw, with the query
	Header map[string][]string `json:"header"`
	Body   string              `json:"body"`
	Host   string              `json:"host"`
}

// Backend is an HTTP server that answers with what it received.
type Backend struct {
	*httptest.Server
	Hits atomic.Int64
}

// NewBackend starts an echo backend.
func NewBackend() *Backend {
	b := &Backend{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.Hits.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Echo{ // a client that left needs no answer
			Method: r.Method, Path: r.RequestURI, Header: r.Header, Body: string(body), Host: r.Host,
		})
	}))
	return b
}
