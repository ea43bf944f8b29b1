package keymanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/token"
)

// sessionCookie carries the handle of a session, as the original names it.
const sessionCookie = "commonAuthId"

// sessionLife is how long a sign-in lasts at most.
const sessionLife = 8 * time.Hour

// maxSessionClients bounds the clients that one session remembers to log out.
const maxSessionClients = 100

// session is a signed-in browser.
type session struct {
	hash apim.Digest // of the cookie
	raw  string      // the cookie
	doc  sessionDoc
}

type sessionDoc struct {
	SID      string          `json:"sid"` // its public name, in id tokens
	User     apim.UserID     `json:"user"`
	Tenant   apim.TenantID   `json:"tenant"`
	AuthTime time.Time       `json:"auth_time"`
	Clients  []apim.ClientID `json:"clients,omitempty"` // who was given something in it
}

// cookie makes a cookie of this server; age is in seconds, negative to drop it.
func (k *KeyManager) cookie(name, value, path string, age int) *http.Cookie {
	return &http.Cookie{
		Name: name, Value: value, Path: path, MaxAge: age, HttpOnly: true,
		Secure: strings.HasPrefix(k.o.URL, "https:"), SameSite: http.SameSiteLaxMode,
	}
}

// session finds the session of the request's cookie and its user, who must
// still be able to sign in; nil when there is none.
func (k *KeyManager) session(q *request) (*session, *apim.User, error) {
	ctx := q.r.Context()
	c, err := q.r.Cookie(sessionCookie)
	if err != nil || c.Value == "" || len(c.Value) > 128 {
		return nil, nil, nil
	}
	s := &session{raw: c.Value, hash: apim.Digest(token.Digest(c.Value))}
	e, err := k.o.Ephemera.Get(ctx, apim.EphemeralSession, s.hash)
	if errors.Is(err, &fault.Missing) || (err == nil && !k.o.Now().Before(e.Expires)) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("find session: %w", err)
	}
	if err := json.Unmarshal(e.Doc, &s.doc); err != nil {
		return nil, nil, fmt.Errorf("read session: %w", err)
	}
	u, err := k.activeUser(ctx, s.doc.User)
	if err != nil || u == nil {
		return nil, nil, err
	}
	// An administrator's password reset ends what was there before.
	dead, err := k.o.Tokens.Revoked(ctx, "", []string{string(u.ID)}, e.Created)
	if err != nil || dead {
		return nil, nil, err
	}
	return s, u, nil
}

// sessionFor is session for a client, which serves users of its own tenant
// unless it is shared.
func (k *KeyManager) sessionFor(q *request, c *apim.Client) (*session, *apim.User, error) {
	s, u, err := k.session(q)
	if err != nil || s == nil || (u.Tenant != c.Tenant && !c.SaaS) {
		return nil, nil, err
	}
	return s, u, nil
}

// startSession signs a browser in under a new handle; the former one, if any,
// ends, so that nobody can plant one (session fixation).
func (k *KeyManager) startSession(q *request, u *apim.User) (*session, error) {
	ctx := q.r.Context()
	if old, err := q.r.Cookie(sessionCookie); err == nil && old.Value != "" {
		if err := k.o.Ephemera.Delete(ctx, apim.EphemeralSession, apim.Digest(token.Digest(old.Value))); err != nil {
			return nil, fmt.Errorf("end former session: %w", err)
		}
	}
	raw, now := token.NewSecret()+token.NewSecret(), k.o.Now()
	s := &session{
		raw: raw, hash: apim.Digest(token.Digest(raw)),
		doc: sessionDoc{SID: uuid.NewString(), User: u.ID, Tenant: u.Tenant, AuthTime: now},
	}
	doc, err := json.Marshal(s.doc)
	if err != nil {
		return nil, fmt.Errorf("start session: %w", err)
	}
	err = k.o.Ephemera.Put(ctx, &apim.Ephemeral{
		Kind: apim.EphemeralSession, Hash: s.hash, Tenant: u.Tenant, Subject: string(u.ID), Created: now, Expires: now.Add(sessionLife), Doc: doc,
	})
	if err != nil {
		return nil, fmt.Errorf("start session: %w", err)
	}
	http.SetCookie(q.w, k.cookie(sessionCookie, raw, "/", 0))
	return s, nil
}

// joinSession notes that the client was given something in the session.
func (k *KeyManager) joinSession(ctx context.Context, s *session, c *apim.Client) error {
	if slices.Contains(s.doc.Clients, c.ID) {
		return nil
	}
	err := k.o.Ephemera.Change(ctx, apim.EphemeralSession, s.hash, func(e *apim.Ephemeral) error {
		var d sessionDoc
		if err := json.Unmarshal(e.Doc, &d); err != nil {
			return err
		}
		if slices.Contains(d.Clients, c.ID) || len(d.Clients) >= maxSessionClients {
			return nil
		}
		d.Clients = append(d.Clients, c.ID)
		doc, err := json.Marshal(d)
		e.Doc = doc
		return err
	})
	if errors.Is(err, &fault.Missing) {
		return nil // it ended meanwhile
	}
	if err != nil {
		return fmt.Errorf("note client of session: %w", err)
	}
	return nil
}

// endSession signs the browser out.
func (k *KeyManager) endSession(q *request, s *session) error {
	if err := k.o.Ephemera.Delete(q.r.Context(), apim.EphemeralSession, s.hash); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	http.SetCookie(q.w, k.cookie(sessionCookie, "", "/", -1))
	return nil
}

// commonAuthEndpoint takes the sign-in form. The sessionDataKey together with
// the browser's nonce cookie proves that the form is of this flow.
func (k *KeyManager) commonAuthEndpoint(q *request) error {
	noStore(q.w)
	p, err := readParams(q)
	if err != nil {
		return err
	}
	key := p["sessionDataKey"]
	a, err := k.kept(q, key)
	if err != nil {
		if e, ok := errors.AsType[*shownError](err); ok {
			return k.showError(q, e)
		}
		return err
	}
	ctx := q.r.Context()
	c, err := k.authorizeClient(ctx, string(a.Client))
	if err != nil {
		if e, ok := errors.AsType[*shownError](err); ok {
			return k.showError(q, e)
		}
		return err
	}
	home := c.Tenant
	if c.SaaS {
		home = q.tenant
	}
	u, err := k.o.Directory.Authenticate(ctx, strings.TrimSpace(p["username"]), home, p["password"], k.o.ClientAddr(q.r))
	msg := ""
	switch {
	case errors.Is(err, &fault.LoginDelayed):
		msg = "login.delayed"
	case errors.Is(err, &fault.NotAuthorized):
		msg = "login.fail.message"
	case err != nil:
		return err
	case u.Tenant != c.Tenant && !c.SaaS:
		msg = "login.fail.message"
	}
	if msg != "" {
		at := url.Values{"sessionDataKey": {key}, "authFailure": {"true"}, "authFailureMsg": {msg}}
		return k.redirect(q, k.page(q, "login.do")+"?"+at.Encode())
	}
	s, err := k.startSession(q, u)
	if err != nil {
		return err
	}
	a.LoginAt = s.doc.AuthTime
	if _, err := k.keep(q, key, a); err != nil {
		return err
	}
	return k.redirect(q, k.base(q)+"/oauth2/authorize?"+url.Values{"sessionDataKey": {key}}.Encode())
}
