package connector

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/fault"
)

// Client is an OAuth client at another key manager.
type Client struct {
	ID, Secret string
	Name       string
	Grants     []string
	Callbacks  []string
	Metadata   map[string]string // further members of the registration, see Metadata
	URL        string            // where it is managed (RFC 7592), when told
	Access     string            // the token to manage it with, when told
}

// Metadata are the members of a registration that applications may choose.
var Metadata = []string{
	"application_type", "token_endpoint_auth_method", "scope", "client_uri", "logo_uri", "policy_uri", "tos_uri", "subject_type",
	"id_token_signed_response_alg",
}

// metadata are members of RFC 7591 §2, in both directions.
type metadata struct {
	ID       string   `json:"client_id,omitempty"`
	Secret   string   `json:"client_secret,omitempty"`
	Name     string   `json:"client_name,omitempty"`
	Grants   []string `json:"grant_types"`
	Redirect []string `json:"redirect_uris"`
	URL      string   `json:"registration_client_uri,omitempty"`
	Access   string   `json:"registration_access_token,omitempty"`
}

// Register makes a client and returns it with what the other side decided.
func (c *Connector) Register(ctx context.Context, m *Manager, in *Client) (*Client, error) {
	if m.kind.noClients {
		return nil, fault.KMUnsupported.Withf("Key Manager %s doesn't support generating OAuth applications", m.Name)
	}
	address, err := m.clients()
	if err != nil {
		return nil, err
	}
	auth, err := c.authorization(ctx, m)
	if err != nil {
		return nil, err
	}
	var out metadata
	if err := c.send(ctx, m, http.MethodPost, address, auth, in, "", &out); err != nil {
		return nil, err
	}
	if out.ID == "" || len(out.ID) > 512 || strings.ContainsAny(out.ID, "/\r\n") {
		return nil, fault.KMFailed.Withf("Key Manager %s answered without a usable client_id", m.Name)
	}
	return in.with(&out), nil
}

// Read is a client as the other side has it. Its secret may be missing.
func (c *Connector) Read(ctx context.Context, m *Manager, in *Client) (*Client, error) {
	address, auth, err := c.manage(ctx, m, in)
	if err != nil {
		return nil, err
	}
	var out metadata
	if err := c.call(ctx, m, http.MethodGet, address, auth, "", nil, &out); err != nil {
		return nil, err
	}
	return in.with(&out), nil
}

// Update replaces what an application decides of its client.
func (c *Connector) Update(ctx context.Context, m *Manager, in *Client) (*Client, error) {
	address, auth, err := c.manage(ctx, m, in)
	if err != nil {
		return nil, err
	}
	method := http.MethodPut
	if m.kind.auth0 {
		method = http.MethodPatch
	}
	var out metadata
	if err := c.send(ctx, m, method, address, auth, in, in.ID, &out); err != nil {
		return nil, err
	}
	return in.with(&out), nil
}

// Delete removes a client; one that is gone already is no error.
func (c *Connector) Delete(ctx context.Context, m *Manager, in *Client) error {
	address, auth, err := c.manage(ctx, m, in)
	if err != nil {
		return err
	}
	err = c.call(ctx, m, http.MethodDelete, address, auth, "", nil, nil)
	if s := Status(err); s == http.StatusNotFound || s == http.StatusGone || (s == http.StatusUnauthorized && in.Access != "") {
		return nil // RFC 7592 §2.3: the token of a client that is gone is refused
	}
	return err
}

// Rotate makes a new secret in place of the old one, where the other side can.
func (c *Connector) Rotate(ctx context.Context, m *Manager, in *Client) (*Client, error) {
	if m.kind.secretURL == "" {
		return nil, fault.BadRequest.Withf("Key Manager %s cannot make a new secret for a client; generate new keys", m.Name)
	}
	address, auth, err := c.manage(ctx, m, in)
	if err != nil {
		return nil, err
	}
	var out metadata
	if err := c.call(ctx, m, http.MethodPost, address+m.kind.secretURL, auth, "application/json", []byte("{}"), &out); err != nil {
		return nil, err
	}
	if out.Secret == "" {
		return nil, fault.KMFailed.Withf("Key Manager %s answered without a secret", m.Name)
	}
	return in.with(&out), nil
}

// clients is where clients are made.
func (m *Manager) clients() (string, error) {
	if m.kind.auth0 { // its management interface is the audience of the settings
		return strings.TrimSuffix(m.Settings["audience"], "/") + "/clients", nil
	}
	return m.endpoint("clientRegistrationEndpoint")
}

// manage is where one client is managed and with what authority: the address
// and token that came with its registration, else the registration's own.
func (c *Connector) manage(ctx context.Context, m *Manager, in *Client) (address, auth string, err error) {
	base, err := m.clients()
	if err != nil {
		return "", "", err
	}
	address = strings.TrimSuffix(base, "/") + "/" + url.PathEscape(in.ID)
	if in.URL != "" && sameHost(base, in.URL) { // secrets go nowhere else
		address = in.URL
	}
	if in.Access != "" {
		return address, "Bearer " + in.Access, nil
	}
	auth, err = c.authorization(ctx, m)
	return address, auth, err
}

func sameHost(a, b string) bool {
	x, err1 := url.Parse(a)
	y, err2 := url.Parse(b)
	return err1 == nil && err2 == nil && x.Scheme == y.Scheme && strings.EqualFold(x.Host, y.Host)
}

// send writes the registration document of in.
func (c *Connector) send(ctx context.Context, m *Manager, method, address, auth string, in *Client, id string, out *metadata) error {
	doc := m.document(in, id)
	body, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("encode client registration: %w", err)
	}
	return c.call(ctx, m, method, address, auth, "application/json", body, out)
}

func (m *Manager) document(in *Client, id string) map[string]any {
	if m.kind.auth0 {
		kind := "regular_web"
		if !redirects(in.Grants) {
			kind = "non_interactive"
		}
		return map[string]any{
			"name": in.Name, "app_type": kind, "callbacks": some(in.Callbacks), "grant_types": some(in.Grants),
			"token_endpoint_auth_method": "client_secret_basic",
		}
	}
	doc := map[string]any{
		"client_name": in.Name, "grant_types": some(in.Grants), "redirect_uris": some(in.Callbacks), "response_types": responses(in.Grants),
		"token_endpoint_auth_method": "client_secret_basic",
	}
	if m.kind.Name == "Okta" {
		doc["application_type"] = "web"
		if !redirects(in.Grants) {
			doc["application_type"] = "service"
		}
	}
	for _, k := range Metadata {
		if v := in.Metadata[k]; v != "" {
			doc[k] = v
		}
	}
	if id != "" {
		doc["client_id"] = id
		if in.Secret != "" {
			doc["client_secret"] = in.Secret
		}
	}
	return doc
}

func redirects(grants []string) bool {
	return slices.Contains(grants, "authorization_code") || slices.Contains(grants, "implicit")
}

// responses are the response types that grants stand for (RFC 7591 §2.1).
func responses(grants []string) []string {
	out := []string{}
	if slices.Contains(grants, "authorization_code") {
		out = append(out, "code")
	}
	if slices.Contains(grants, "implicit") {
		out = append(out, "id_token", "id_token token")
	}
	return out
}

// with is in with what the other side decided.
func (in *Client) with(m *metadata) *Client {
	out := *in
	set := func(to *string, v string) {
		if v != "" {
			*to = v
		}
	}
	set(&out.ID, m.ID)
	set(&out.Secret, m.Secret)
	set(&out.Name, m.Name)
	set(&out.URL, m.URL)
	set(&out.Access, m.Access)
	if m.Grants != nil {
		out.Grants = m.Grants
	}
	if len(m.Redirect) > 0 {
		out.Callbacks = m.Redirect
	}
	return &out
}

func some(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
