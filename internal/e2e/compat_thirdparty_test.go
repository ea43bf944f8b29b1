package e2e

import (
	"context"
	"net/http"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// compatThirdParty lets clients that nobody here wrote use discovery, the key
// set and the grants.
func compatThirdParty(t *testing.T, w *world) {
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, Insecure)
	base := w.node.Management()
	endpoint := oauth2.Endpoint{TokenURL: base + "/oauth2/token"}
	app := clientcredentials.Config{ClientID: w.vars["id"], ClientSecret: w.vars["secret"], TokenURL: endpoint.TokenURL}
	appToken := must[*oauth2.Token](t)(app.Token(ctx))
	if appToken.Type() != "Bearer" || appToken.RefreshToken != "" {
		t.Errorf("application token of type %s, refresh token %q", appToken.Type(), appToken.RefreshToken)
	}
	user := &oauth2.Config{ClientID: w.vars["id"], ClientSecret: w.vars["secret"], Endpoint: endpoint, Scopes: []string{"openid", "apim:api_view"}}
	userToken := must[*oauth2.Token](t)(user.PasswordCredentialsToken(ctx, "admin", "admin"))
	if userToken.RefreshToken == "" {
		t.Error("no refresh token")
	}

	t.Run("discovery and verification", func(t *testing.T) {
		ctx := oidc.ClientContext(ctx, Insecure)
		provider := must[*oidc.Provider](t)(oidc.NewProvider(ctx, base+"/oauth2/token"))
		if got := provider.Endpoint().TokenURL; got != endpoint.TokenURL {
			t.Errorf("token endpoint %s, want %s", got, endpoint.TokenURL)
		}
		for name, raw := range map[string]string{"access token of an application": appToken.AccessToken, "access token of a user": userToken.AccessToken, "id token": idToken(t, userToken)} {
			tok, err := provider.Verifier(&oidc.Config{ClientID: w.vars["id"]}).Verify(ctx, raw)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if tok.Subject == "" || tok.Issuer != base+"/oauth2/token" {
				t.Errorf("%s: subject %q of issuer %q", name, tok.Subject, tok.Issuer)
			}
		}
		verified := must[*oidc.IDToken](t)(provider.Verifier(&oidc.Config{ClientID: w.vars["id"]}).Verify(ctx, idToken(t, userToken)))
		ok(t, verified.VerifyAccessToken(userToken.AccessToken))
		info := must[*oidc.UserInfo](t)(provider.UserInfo(ctx, oauth2.StaticTokenSource(userToken)))
		if info.Subject != verified.Subject {
			t.Errorf("userinfo is about %q, the id token about %q", info.Subject, verified.Subject)
		}
	})
	t.Run("a token source refreshes", func(t *testing.T) {
		stale := *userToken
		stale.Expiry = stale.Expiry.AddDate(-1, 0, 0)
		src := user.TokenSource(ctx, &stale)
		fresh := must[*oauth2.Token](t)(src.Token())
		if fresh.AccessToken == userToken.AccessToken || fresh.RefreshToken == userToken.RefreshToken {
			t.Error("the refresh gave the old tokens")
		}
		req := must[*http.Request](t)(http.NewRequestWithContext(ctx, http.MethodGet, base+Publisher+"/apis", nil))
		res := must[*http.Response](t)(oauth2.NewClient(ctx, src).Do(req))
		if res.Body.Close(); res.StatusCode != http.StatusOK {
			t.Errorf("the publisher answers %d to the fresh token", res.StatusCode)
		}
	})
}

func idToken(t *testing.T, tok *oauth2.Token) string {
	t.Helper()
	raw, isText := tok.Extra("id_token").(string)
	if !isText {
		t.Fatal("no id token")
	}
	return raw
}
