package keymanager

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/cardea-apim/cardea/internal/fault"
)

// oauthError is an error answer of RFC 6749 §5.2 with the texts clients of the
// original match on (reference: keymanager §3).
type oauthError struct {
	status int
	code   string
	text   string
	retry  time.Duration // when not 0: Retry-After
	err    error         // for the log only
}

func (e *oauthError) Error() string {
	s := e.code + ": " + e.text
	if e.err != nil {
		s += ": " + e.err.Error()
	}
	return s
}

func (e *oauthError) Unwrap() error { return e.err }

func invalidRequest(text string) *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: "invalid_request", text: text}
}

func invalidGrant(text string) *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: "invalid_grant", text: text}
}

func invalidClient(text string) *oauthError {
	return &oauthError{status: http.StatusUnauthorized, code: "invalid_client", text: text}
}

// fail writes an error of the OAuth endpoints. Whatever is not an oauthError
// is logged and hidden.
func (k *KeyManager) fail(w http.ResponseWriter, r *http.Request, err error) {
	e, ok := errors.AsType[*oauthError](err)
	if !ok {
		e = &oauthError{status: http.StatusInternalServerError, code: "server_error", text: "Internal Server Error."}
		if f := fault.Of(err); f.Kind == fault.Unavailable || f.Kind == fault.Full {
			e = &oauthError{status: f.Status(), code: "temporarily_unavailable", text: "Service Unavailable Error."}
		}
		if r.Context().Err() == nil {
			k.o.Log.ErrorContext(r.Context(), "oauth request failed", "path", r.URL.Path, "err", err)
		}
	}
	h := w.Header()
	if e.status == http.StatusUnauthorized || e.status == http.StatusInternalServerError {
		h.Set("WWW-Authenticate", "Basic realm="+k.host)
	}
	if e.retry > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((e.retry+time.Second-1)/time.Second), 10))
	}
	write(w, e.status, struct {
		Text string `json:"error_description"`
		Code string `json:"error"`
	}{e.text, e.code})
}

func noStore(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
}

// write renders v as JSON with the media type exactly application/json, which
// the command line tool compares as a whole.
func write(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("keymanager: encode answer: " + err.Error())
	}
	writeRaw(w, status, b)
}

func writeRaw(w http.ResponseWriter, status int, b []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	w.Write(b) // the client may be gone; there is nobody to tell
}
