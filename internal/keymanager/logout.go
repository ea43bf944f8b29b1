package keymanager

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/token"
)

// attrLogoutURIs is the client's attribute with the addresses, parted by
// blanks, that a browser may be sent to after it signed out; without it those
// of the callback serve, as the original has it.
const attrLogoutURIs = "post_logout_redirect_uris"

// logoutEndpoint is OpenID Connect RP-Initiated Logout 1.0. With an id token of
// the session's own user the browser is signed out at once; otherwise the
// person is asked, so that no foreign page can sign anybody out.
func (k *KeyManager) logoutEndpoint(q *request) error {
	noStore(q.w)
	p, err := readParams(q)
	if err != nil {
		return err
	}
	ctx := q.r.Context()
	s, u, err := k.session(q)
	if err != nil {
		return err
	}
	var hint *token.Claims
	if raw := p["id_token_hint"]; raw != "" {
		if hint, err = k.readHint(ctx, raw); err != nil {
			return err
		}
		if hint == nil {
			return k.showError(q, &shownError{"invalid_request", "The id_token_hint is not a token of this server."})
		}
	}
	id := p["client_id"]
	if hint != nil {
		if id != "" && id != hint.Audience[0] {
			return k.showError(q, &shownError{"invalid_request", "The id_token_hint is of another client."})
		}
		id = hint.Audience[0]
	}
	to := p["post_logout_redirect_uri"]
	var c *apim.Client
	if id != "" {
		if c, err = k.authorizeClient(ctx, id); err != nil {
			if e, ok := errors.AsType[*shownError](err); ok {
				return k.showError(q, e)
			}
			return err
		}
	}
	if to != "" && (c == nil || !logoutAllowed(c, to)) {
		return k.showError(q, &shownError{"invalid_callback", "callback.not.match"})
	}
	if s != nil {
		own := hint != nil && hint.Subject == k.subjectName(subject{client: c, userID: u.ID, tenant: u.Tenant})
		confirmed := q.r.Method == http.MethodPost && sameText(p["confirm"], logoutProof(s))
		if !own && !confirmed {
			d := pageData{Title: "Sign out?", User: showName(u.Name, u.Tenant), Action: k.base(q) + "/oidc/logout", Key: logoutProof(s)}
			for _, name := range []string{"client_id", "post_logout_redirect_uri", "state", "id_token_hint"} {
				if p[name] != "" {
					d.Fields = append(d.Fields, pageField{name, p[name]})
				}
			}
			return k.show(q, http.StatusOK, "logout", d, origin(to))
		}
		if err := k.endSession(q, s); err != nil {
			return err
		}
	}
	if to == "" {
		return k.show(q, http.StatusOK, "gone", pageData{Title: "You are signed out"})
	}
	if state, ok := p["state"]; ok {
		sep := "?"
		if strings.Contains(to, "?") {
			sep = "&"
		}
		to += sep + url.Values{"state": {state}}.Encode()
	}
	return k.redirect(q, to)
}

// logoutProof is the token of the sign-out form: only who has the session's
// cookie, or got the page with it, knows it.
func logoutProof(s *session) string { return token.Digest("logout " + s.raw) }

func logoutAllowed(c *apim.Client, to string) bool {
	if list := c.Attributes[attrLogoutURIs]; list != "" {
		return redirectAllowed(list, to)
	}
	return redirectAllowed(c.Callback, to)
}
