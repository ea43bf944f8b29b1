package rest

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/cardea-apim/cardea/internal/fault"
)

// tags of our form are "c-<rev>"; anything else in If-Match is ignored, because
// clients of the original send tags that its servers never looked at.
const tagPrefix = `"c-`

// SetETag sends the revision counter of a noun as its entity tag.
func SetETag(w http.ResponseWriter, rev int64) {
	w.Header().Set("ETag", tagPrefix+strconv.FormatInt(rev, 10)+`"`)
}

// IfMatch is the revision that the client says it edits; ok is false without
// an If-Match of our form.
func IfMatch(r *http.Request) (rev int64, ok bool) {
	s := strings.TrimPrefix(strings.TrimSpace(r.Header.Get("If-Match")), "W/")
	s, found := strings.CutPrefix(s, tagPrefix)
	if !found {
		return 0, false
	}
	rev, err := strconv.ParseInt(strings.TrimSuffix(s, `"`), 10, 64)
	return rev, err == nil
}

// Match fails with 412 when the client edits another revision than rev.
func Match(r *http.Request, rev int64) error {
	if want, ok := IfMatch(r); ok && want != rev {
		return fault.PreconditionBad.With("The resource was changed in the meantime; read it again before changing it")
	}
	return nil
}

// SetTag sends a tag made from content, for nouns whose revision counter also
// moves when nothing changed that clients can see.
func SetTag(w http.ResponseWriter, tag string) {
	if tag != "" {
		w.Header().Set("ETag", tagPrefix+tag+`"`)
	}
}

// MatchTag fails with 412 when the client edits something else than tag.
func MatchTag(r *http.Request, tag string) error {
	s := strings.TrimPrefix(strings.TrimSpace(r.Header.Get("If-Match")), "W/")
	s, found := strings.CutPrefix(s, tagPrefix)
	if found && strings.TrimSuffix(s, `"`) != tag {
		return fault.PreconditionBad.With("The resource was changed in the meantime; read it again before changing it")
	}
	return nil
}
