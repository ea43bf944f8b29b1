package keymanager

import (
	"net/http"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
)

// request is what every endpoint is given besides its http.Request.
type request struct {
	w      http.ResponseWriter
	r      *http.Request
	tenant apim.TenantID // of the path; carbon.super without /t/{tenant}
	named  bool          // the path names the tenant
}

type endpoint struct {
	methods []string
	serve   func(*request) error
}

// browserRoutes adds what browsers are sent to.
func (k *KeyManager) browserRoutes(routes map[string]endpoint) {
	get, post := []string{http.MethodGet, http.MethodHead}, []string{http.MethodPost}
	both := []string{http.MethodGet, http.MethodHead, http.MethodPost}
	for path, e := range map[string]endpoint{
		"/oauth2/authorize":                       {both, k.authorizeEndpoint},
		"/oauth2/par":                             {post, k.parEndpoint},
		"/oidc/logout":                            {both, k.logoutEndpoint},
		"/commonauth":                             {post, k.commonAuthEndpoint},
		pagesPath + "login.do":                    {get, k.pageEndpoint(k.loginPage)},
		pagesPath + "oauth2_consent.do":           {get, k.pageEndpoint(k.consentPage)},
		pagesPath + "oauth2_error.do":             {get, k.pageEndpoint(k.errorPage)},
		"/oauth2/device_authorize":                {post, k.deviceEndpoint},
		"/oauth2/device":                          {both, k.deviceForm},
		"/device":                                 {both, k.deviceForm},
		pagesPath + devicePage:                    {both, k.deviceForm},
		pagesPath + styleName:                     {get, k.styleEndpoint},
		"/.well-known/oauth-authorization-server": {get, k.discoveryEndpoint},
		"/.well-known/oauth-authorization-server/oauth2/token": {get, k.discoveryEndpoint},
	} {
		routes[path] = e
	}
}

// Handler serves /oauth2/**, /oidc/**, /commonauth, /authenticationendpoint/**, /client-registration/** and /.well-known/**, all
// of them also under /t/{tenant}.
func (k *KeyManager) Handler() http.Handler {
	get, post := []string{http.MethodGet, http.MethodHead}, []string{http.MethodPost}
	both := []string{http.MethodGet, http.MethodHead, http.MethodPost}
	routes := map[string]endpoint{
		"/oauth2/token":                     {post, k.tokenEndpoint},
		"/oauth2/revoke":                    {post, k.revokeEndpoint},
		"/oauth2/introspect":                {post, k.introspectEndpoint},
		"/oauth2/userinfo":                  {both, k.userinfoEndpoint},
		"/oauth2/jwks":                      {get, k.jwksEndpoint},
		"/.well-known/openid-configuration": {get, k.discoveryEndpoint},
		"/oauth2/token/.well-known/openid-configuration":         {get, k.discoveryEndpoint},
		"/oauth2/oidcdiscovery/.well-known/openid-configuration": {get, k.discoveryEndpoint},
		"/client-registration/v0.17/register":                    {post, k.registerEndpoint},
	}
	k.browserRoutes(routes)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := &request{w: w, r: r, tenant: apim.SuperTenant}
		path := r.URL.Path
		if rest, ok := strings.CutPrefix(path, "/t/"); ok {
			t, rest, ok := strings.Cut(rest, "/")
			if !ok || t == "" {
				http.NotFound(w, r)
				return
			}
			q.tenant, q.named, path = apim.TenantID(strings.ToLower(t)), true, "/"+rest
			known, err := k.o.Directory.Active(r.Context(), q.tenant)
			if err != nil {
				k.fail(w, r, err)
				return
			}
			if !known {
				http.NotFound(w, r)
				return
			}
		}
		if len(path) > 1 {
			path = strings.TrimSuffix(path, "/")
		}
		e, ok := routes[path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if !slices.Contains(e.methods, r.Method) {
			w.Header().Set("Allow", strings.Join(e.methods, ", "))
			http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
			return
		}
		if err := e.serve(q); err != nil {
			k.fail(w, r, err)
		}
	})
}
