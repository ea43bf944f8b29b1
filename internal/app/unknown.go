package app

import (
	"net/http"
	"strings"

	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest"
)

// unknownPaths answers clients of the management APIs that ask for JSON with
// its error body where no surface is: an old version's path, a misspelt one, or
// a method that a path of ours does not have. Others get the mux's own text.
func unknownPaths(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/api/") || !asksForJSON(r) {
			mux.ServeHTTP(w, r)
			return
		}
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		// What the mux would say: 404, 405 with Allow, or a cleaner path.
		says := &bare{header: http.Header{}}
		h.ServeHTTP(says, r)
		switch says.status {
		case http.StatusNotFound:
			rest.Fault(w, r, fault.Missing.With("there is nothing at this path"))
		case http.StatusMethodNotAllowed:
			if allow := says.header.Get("Allow"); allow != "" {
				w.Header().Set("Allow", allow)
			}
			rest.Fault(w, r, &fault.Error{Kind: fault.Invalid, HTTP: http.StatusMethodNotAllowed, Code: http.StatusMethodNotAllowed, Msg: "Method Not Allowed"})
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

// asksForJSON reports whether a JSON media type is among what the client accepts.
func asksForJSON(r *http.Request) bool {
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		kind, _, _ := strings.Cut(part, ";")
		kind = strings.ToLower(strings.TrimSpace(kind))
		if kind == "application/json" || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json") {
			return true
		}
	}
	return false
}

// bare is an answer of which only the status and the header matter.
type bare struct {
	header http.Header
	status int
}

// Header is the answer's own.
func (b *bare) Header() http.Header { return b.header }

// WriteHeader notes the first status.
func (b *bare) WriteHeader(status int) {
	if b.status == 0 {
		b.status = status
	}
}

// Write takes a body without keeping it.
func (b *bare) Write(p []byte) (int, error) {
	b.WriteHeader(http.StatusOK)
	return len(p), nil
}
