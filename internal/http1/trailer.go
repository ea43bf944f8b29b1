package http1

import "strings"

// headOnly are fields that say how a message is framed, routed, authorised or
// to be understood. They mean nothing behind a body, and whoever would take them
// from there could be made to believe them (RFC 9110 §6.5.1).
var headOnly = func() map[string]bool {
	m := make(map[string]bool)
	for name := range strings.FieldsSeq(`
		age authorization cache-control connection content-encoding content-length content-range content-type cookie
		cookie2 date expect expires forwarded host keep-alive location max-forwards pragma proxy-authenticate
		proxy-authorization proxy-connection range realm retry-after set-cookie set-cookie2 te trailer transfer-encoding
		upgrade vary via warning www-authenticate`) {
		m[name] = true
	}
	return m
}()

// trailing reports whether a field may stand in a trailer.
func trailing(name string) bool {
	if len(name) >= 3 && fold(name[:3], "if-") || len(name) >= 12 && fold(name[:12], "x-forwarded-") {
		return false
	}
	var low [32]byte
	if len(name) > len(low) {
		return true // longer than any of them
	}
	for i := range len(name) {
		low[i] = lower(name[i])
	}
	return !headOnly[string(low[:len(name)])]
}

// appendTrailer writes the fields of a trailer; others are left out.
func appendTrailer(out []byte, h Header) ([]byte, error) {
	for i := range h {
		if !trailing(h[i].Name) {
			continue
		}
		var err error
		if out, err = appendFields(out, h[i:i+1], true); err != nil {
			return out, err
		}
	}
	return out, nil
}
