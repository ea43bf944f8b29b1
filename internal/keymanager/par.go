package keymanager

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/token"
)

const (
	parPrefix = "urn:ietf:params:oauth:request_uri:"
	parLife   = 90 * time.Second
)

// parEndpoint is RFC 9126: a client hands its authorization request over
// directly and gets a name for it that works once.
func (k *KeyManager) parEndpoint(q *request) error {
	p, err := readParams(q)
	if err != nil {
		return err
	}
	auth, err := clientOf(q, p)
	if err != nil {
		return err
	}
	ctx := q.r.Context()
	c, _, err := k.authenticateClient(ctx, auth, k.o.ClientAddr(q.r))
	if err != nil {
		return err
	}
	if p["request_uri"] != "" {
		return invalidRequest("A pushed request must not refer to another one.")
	}
	p["client_id"] = string(c.ID)
	delete(p, "client_secret")
	a, err := k.checkRequest(ctx, q.tenant, p)
	if e, ok := errors.AsType[*shownError](err); ok {
		if e.code == "invalid_callback" {
			return invalidRequest("The redirect_uri is not one the client registered.")
		}
		return &oauthError{status: http.StatusBadRequest, code: e.code, text: e.text}
	}
	if e, ok := errors.AsType[*sentError](err); ok {
		return &oauthError{status: http.StatusBadRequest, code: e.code, text: e.text}
	}
	if err != nil {
		return err
	}
	doc, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("keep pushed request: %w", err)
	}
	handle, now := token.NewSecret(), k.o.Now()
	err = k.o.Ephemera.Put(ctx, &apim.Ephemeral{
		Kind: apim.EphemeralPAR, Hash: apim.Digest(token.Digest(handle)), Tenant: c.Tenant, Client: string(c.ID),
		Created: now, Expires: now.Add(parLife), Doc: doc,
	})
	if err != nil {
		return fmt.Errorf("keep pushed request: %w", err)
	}
	noStore(q.w)
	write(q.w, http.StatusCreated, struct {
		URI       string `json:"request_uri"`
		ExpiresIn int    `json:"expires_in"`
	}{parPrefix + handle, int(parLife / time.Second)})
	return nil
}

// pushed takes up a request that its client pushed; a second time, or by
// another client's name, there is none.
func (k *KeyManager) pushed(q *request, uri, client string) (*authRequest, error) {
	ctx := q.r.Context()
	bad := &shownError{"invalid_request_uri", "The request_uri is unknown, used or expired."}
	if client == "" {
		return nil, &shownError{"invalid_request", "Client Id is not present in the authorization request"}
	}
	if len(uri) > 256 {
		return nil, bad
	}
	hash := apim.Digest(token.Digest(uri[len(parPrefix):]))
	e, err := k.o.Ephemera.Get(ctx, apim.EphemeralPAR, hash)
	if errors.Is(err, &fault.Missing) || (err == nil && e.Client != client) {
		return nil, bad
	}
	if err != nil {
		return nil, fmt.Errorf("find pushed request: %w", err)
	}
	e, won, err := k.o.Ephemera.Use(ctx, apim.EphemeralPAR, hash, k.o.Now())
	if errors.Is(err, &fault.Missing) || (err == nil && !won) {
		return nil, bad
	}
	if err != nil {
		return nil, fmt.Errorf("use pushed request: %w", err)
	}
	a := &authRequest{}
	if err := json.Unmarshal(e.Doc, a); err != nil {
		return nil, fmt.Errorf("read pushed request: %w", err)
	}
	if a.Tenant != q.tenant {
		return nil, bad
	}
	return a, nil
}
