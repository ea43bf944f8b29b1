package keymanager

import (
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// redirectAllowed reports whether an address is one the client registered:
// literally, or by the pattern of a callback that begins with regexp=. The port
// of a loopback address is free (RFC 8252 §7.3).
func redirectAllowed(callback, redirect string) bool {
	if !redirectSafe(redirect) {
		return false
	}
	if p, ok := strings.CutPrefix(callback, "regexp="); ok {
		if list := alternatives(p); list != nil {
			return slices.ContainsFunc(list, func(s string) bool { return sameRedirect(s, redirect) })
		}
		re, err := regexp.Compile("^(?:" + p + ")$")
		return err == nil && re.MatchString(redirect)
	}
	return slices.ContainsFunc(strings.FieldsFunc(callback, func(r rune) bool { return r == ',' || r == ' ' }), func(s string) bool {
		return sameRedirect(s, redirect)
	})
}

// alternatives are the addresses of a pattern (a|b) that is nothing but plain
// addresses, so that a dot is no wildcard; nil when it is a real pattern.
func alternatives(pattern string) []string {
	if in, ok := strings.CutPrefix(pattern, "("); ok {
		if in, ok = strings.CutSuffix(in, ")"); ok {
			pattern = in
		}
	}
	list := strings.Split(pattern, "|")
	for _, s := range list {
		if strings.ContainsAny(s, `\*[]^${}()+`) || !strings.Contains(s, "://") {
			return nil
		}
	}
	return list
}

func sameRedirect(registered, redirect string) bool {
	if registered == redirect {
		return true
	}
	a, err1 := url.Parse(registered)
	b, err2 := url.Parse(redirect)
	if err1 != nil || err2 != nil || a.Scheme != "http" || a.User != nil || b.User != nil || !loopback(a.Hostname()) {
		return false
	}
	// Only the port may differ.
	return strings.Replace(registered, a.Host, a.Hostname(), 1) == strings.Replace(redirect, b.Host, b.Hostname(), 1)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// redirectSafe refuses what a browser must never be sent to, whatever was
// registered.
func redirectSafe(s string) bool {
	if len(s) > 2048 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '\\' || r == 0x7f }) || strings.Contains(s, "#") {
		return false
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.User != nil {
		return false
	}
	switch strings.ToLower(u.Scheme) {
	case "javascript", "data", "file", "vbscript", "blob", "about":
		return false
	case "http", "https":
		return u.Host != ""
	}
	return true
}

// send answers the client through the browser, in the request's response mode.
// Every answer names this server (RFC 9207).
func (k *KeyManager) send(q *request, a *authRequest, v url.Values) error {
	v.Set("iss", k.o.Issuer)
	if a.HasState {
		v.Set("state", a.State)
	}
	switch a.Mode {
	case "form_post":
		return k.postBack(q, a.Redirect, v)
	case "fragment":
		return k.redirect(q, a.Redirect+"#"+v.Encode())
	}
	sep := "?"
	if strings.Contains(a.Redirect, "?") {
		sep = "&"
	}
	return k.redirect(q, a.Redirect+sep+v.Encode())
}

// redirect sends the browser on with 302, which also turns a POST into a GET.
func (k *KeyManager) redirect(q *request, to string) error {
	noStore(q.w)
	h := q.w.Header()
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Location", to)
	h.Set("Content-Length", "0")
	q.w.WriteHeader(http.StatusFound)
	return nil
}

// origin is the part of an address that a content security policy names.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "" {
		return ""
	}
	if u.Scheme == "http" || u.Scheme == "https" {
		return u.Scheme + "://" + u.Host
	}
	return u.Scheme + ":"
}
