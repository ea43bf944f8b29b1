package keymanager

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
)

//go:embed pages
var pageFiles embed.FS

var (
	pages     = template.Must(template.ParseFS(pageFiles, "pages/*.html"))
	pageStyle = mustRead("pages/style.css")
	// styleName changes with the content, so that browsers may keep it.
	styleName = func() string {
		sum := sha256.Sum256(pageStyle)
		return "style-" + base64.RawURLEncoding.EncodeToString(sum[:9]) + ".css"
	}()
	// submitScript is the one script there is: it sends the form of
	// response_mode=form_post, which has a button as well.
	submitScript = func() string {
		sum := sha256.Sum256([]byte("document.forms[0].submit()"))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}()
)

func mustRead(name string) []byte {
	b, err := pageFiles.ReadFile(name)
	if err != nil {
		panic("keymanager: embedded file: " + err.Error())
	}
	return b
}

const pagesPath = "/authenticationendpoint/"

// base is the prefix of the request's tenant.
func (k *KeyManager) base(q *request) string {
	if q.named {
		return "/t/" + url.PathEscape(string(q.tenant))
	}
	return ""
}

// page is the path of a page for the request's tenant.
func (k *KeyManager) page(q *request, name string) string { return k.base(q) + pagesPath + name }

type pageField struct{ Name, Text string }

// pageData is what the templates show.
type pageData struct {
	Title, Client, User, Problem, Code string
	Action, Key, Hint, Target, Style   string
	Scopes, Fields                     []pageField
}

// show renders a page. Its forms may be sent to us and, by redirects that
// browsers count as part of them, to the given origins.
func (k *KeyManager) show(q *request, status int, name string, d pageData, origins ...string) error {
	d.Style = pagesPath + styleName
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, d); err != nil {
		return fmt.Errorf("render page %s: %w", name, err)
	}
	script := ""
	if name == "post" {
		script = " script-src " + submitScript + ";"
	}
	forms := "'self'"
	for _, o := range origins {
		if o != "" && !strings.ContainsAny(o, " ;,'\"") {
			forms += " " + o
		}
	}
	h := q.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self';"+script+" form-action "+forms+"; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	noStore(q.w)
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	q.w.WriteHeader(status)
	q.w.Write(b.Bytes()) // the browser may be gone; there is nobody to tell
	return nil
}

// postBack is response_mode=form_post.
func (k *KeyManager) postBack(q *request, to string, v url.Values) error {
	d := pageData{Title: "Returning to the application", Action: to}
	for _, name := range sortedKeys(v) {
		d.Fields = append(d.Fields, pageField{name, v.Get(name)})
	}
	return k.show(q, http.StatusOK, "post", d, origin(to))
}

func sortedKeys(v url.Values) []string {
	out := make([]string, 0, len(v))
	for name := range v {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// showError sends the browser to the error page.
func (k *KeyManager) showError(q *request, e *shownError) error {
	return k.redirect(q, k.page(q, "oauth2_error.do")+"?"+url.Values{"oauthErrorCode": {e.code}, "oauthErrorMsg": {e.text}}.Encode())
}

// problems are what the error page says. What stands in the address is not
// shown, or anybody could put words into our mouth.
var problems = map[string]string{
	"invalid_callback":    "The application wants to be answered at an address that it has not registered. Its developer can register it, letter by letter the same.",
	"invalid_client":      "The application that sent you here is not known, or not active any more.",
	"invalid_request_uri": "The request has been used already, or is too old. Go back to the application and start again.",
}

func (k *KeyManager) errorPage(q *request) error {
	code := q.r.URL.Query().Get("oauthErrorCode")
	text, ok := problems[code]
	if !ok {
		code, text = "invalid_request", "The application sent a request that cannot be answered, or it was answered already. Go back to the application and start again."
	}
	return k.show(q, http.StatusBadRequest, "error", pageData{Title: "This did not work", Problem: text, Code: code})
}

// loginPage shows the sign-in form of a stored request.
func (k *KeyManager) loginPage(q *request) error {
	v := q.r.URL.Query()
	key := v.Get("sessionDataKey")
	a, c, err := k.shownRequest(q, key)
	if err != nil {
		return err
	}
	d := pageData{Title: "Sign in", Client: c.Name, Action: k.base(q) + "/commonauth", Key: key, Hint: a.Hint}
	switch v.Get("authFailureMsg") {
	case "":
	case "login.delayed":
		d.Problem = "Too many attempts have failed. Wait a little and try again."
	default:
		d.Problem = "The user name or the password is wrong."
	}
	return k.show(q, http.StatusOK, "login", d, origin(a.Redirect))
}

// scopeTexts say what the scopes of OpenID Connect mean.
var scopeTexts = map[string]string{
	"openid": "know who you are", "profile": "see your name and profile", "email": "see your e-mail address",
	"phone": "see your telephone number", "default": "call the APIs it has subscribed to",
}

// consentPage asks the user of a stored request.
func (k *KeyManager) consentPage(q *request) error {
	ctx := q.r.Context()
	key := q.r.URL.Query().Get("sessionDataKeyConsent")
	a, c, err := k.shownRequest(q, key)
	if err != nil {
		return err
	}
	s, u, err := k.sessionFor(q, c)
	if err != nil {
		return err
	}
	if s == nil || u.ID != a.User {
		return &shownError{"invalid_request", textLost}
	}
	granted, err := k.grantScopes(ctx, c.Tenant, u.Tenant, k.o.Directory.RolesOf(u), a.Scopes)
	if err != nil {
		return err
	}
	d := pageData{
		Title: "Allow access?", Client: c.Name, User: showName(u.Name, u.Tenant),
		Action: k.base(q) + "/oauth2/authorize", Key: key, Target: origin(a.Redirect),
	}
	for _, name := range granted {
		d.Scopes = append(d.Scopes, pageField{name, scopeTexts[name]})
	}
	return k.show(q, http.StatusOK, "consent", d, origin(a.Redirect))
}

// shownRequest is the stored request of a page and its client.
func (k *KeyManager) shownRequest(q *request, key string) (*authRequest, *apim.Client, error) {
	a, err := k.kept(q, key)
	if err != nil {
		return nil, nil, err
	}
	c, err := k.authorizeClient(q.r.Context(), string(a.Client))
	return a, c, err
}

// pageEndpoint makes an endpoint of a page.
func (k *KeyManager) pageEndpoint(page func(*request) error) func(*request) error {
	return func(q *request) error {
		err := page(q)
		if e, ok := errors.AsType[*shownError](err); ok {
			return k.showError(q, e)
		}
		return err
	}
}

func (k *KeyManager) styleEndpoint(q *request) error {
	h := q.w.Header()
	h.Set("Content-Type", "text/css; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	q.w.Write(pageStyle)
	return nil
}
