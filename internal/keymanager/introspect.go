package keymanager

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/cardea-apim/cardea/internal/token"
)

// mediaIntrospection is the media type of a signed introspection (RFC 9701).
const mediaIntrospection = "application/token-introspection+jwt"

// answerDescribed writes an introspection as JSON, or, where the caller accepts
// that, as a JWT signed for the caller with the key of the path's tenant.
func (k *KeyManager) answerDescribed(q *request, d *described) error {
	if !accepts(q.r, mediaIntrospection) {
		write(q.w, http.StatusOK, d)
		return nil
	}
	signer, err := k.keys.signer(q.r.Context(), q.tenant)
	if err != nil {
		return err
	}
	body, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode introspection: %w", err)
	}
	c := &token.Claims{
		Type: token.TypeIntrospection, Issuer: k.o.Issuer, IssuedAt: token.Seconds(k.o.Now()),
		Extra: map[string]json.RawMessage{"token_introspection": body},
	}
	if name, _, _, ok := basic(q.r); ok {
		c.Audience = []string{name}
	}
	raw, err := signer.Sign(c)
	if err != nil {
		return err
	}
	q.w.Header().Set("Content-Type", mediaIntrospection)
	q.w.Header().Set("X-Content-Type-Options", "nosniff")
	q.w.WriteHeader(http.StatusOK)
	q.w.Write([]byte(raw)) // the client may be gone; there is nobody to tell
	return nil
}

// accepts reports whether the request names the media type in Accept.
func accepts(r *http.Request, media string) bool {
	for _, line := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(line, ",") {
			if kind, p, err := mime.ParseMediaType(part); err == nil && kind == media && p["q"] != "0" {
				return true
			}
		}
	}
	return false
}
