package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// scopes are asked for; the server drops those the user's roles do not carry.
const scopes = "apim:admin apim:api_view apim:api_create apim:api_publish apim:api_delete apim:api_manage apim:api_import_export " +
	"apim:subscription_view apim:subscription_manage apim:api_generate_key apim:subscribe apim:app_manage apim:sub_manage apim:api_key " +
	"apim:store_settings apim:publisher_settings apim:tier_view apim:tier_manage apim:environment_manage apim:environment_read openid"

// Token is what a login gives.
type Token struct {
	Access  string    `json:"access_token"`
	Refresh string    `json:"refresh_token,omitempty"`
	Seconds int64     `json:"expires_in"`
	Expires time.Time `json:"expires,omitzero"`
}

// Login registers a client of this tool for the user and gets a token by the
// password grant.
func Login(ctx context.Context, h *http.Client, base, user, password string) (Token, error) {
	basic := func(name, secret string) *Client {
		return &Client{Base: base, HTTP: h, Authorize: func(r *http.Request) { r.SetBasicAuth(name, secret) }}
	}
	var reg struct {
		ClientID     string `json:"clientId"`
		ClientSecret string `json:"clientSecret"`
	}
	err := basic(user, password).Do(ctx, http.MethodPost, "/client-registration/v0.17/register", map[string]any{
		"callbackUrl": "www.example.org", "clientName": "cardea_cli_" + strings.NewReplacer("@", "_", "/", "_").Replace(user),
		"owner": user, "grantType": "password refresh_token", "saasApp": true,
	}, &reg)
	if err != nil {
		return Token{}, fmt.Errorf("sign in as %s: %w", user, err)
	}
	form := url.Values{"grant_type": {"password"}, "username": {user}, "password": {password}, "scope": {scopes}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		return Token{}, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var t Token
	if err := basic(reg.ClientID, reg.ClientSecret).send(req, &t); err != nil {
		return Token{}, fmt.Errorf("sign in as %s: %w", user, err)
	}
	t.Expires = time.Now().Add(time.Duration(t.Seconds) * time.Second)
	return t, nil
}

// Bearer authorizes with an access token.
func Bearer(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}
