package e2e

import (
	"net/http"
	"net/url"
	"testing"
)

// When the answer to a deletion arrives, the user's tokens open nothing any more.
func TestTokensEndWithTheirUser(t *testing.T) {
	backend := NewBackend()
	defer backend.Close()
	p := node(t, Node{})
	c := admin(t, p)
	ctx := t.Context()
	api := must[string](t)(c.Import(ctx, NewAPI{Definition: []byte(tinyDefinition), Name: "leaving", Version: "1.0.0", Context: "/leaving", Backend: backend.URL}))
	ok(t, c.Publish(ctx, api))
	app := must[*App](t)(c.NewApp(ctx, "leaving", "Unlimited"))
	must[string](t)(c.Subscribe(ctx, app.ID, api, "Unlimited"))
	for _, name := range []string{"ann", "ben", "cid", "dora", "emil"} {
		ok(t, c.NewUser(ctx, name, "secret-"+name, "Internal/subscriber"))
		token := must[string](t)(c.Grant(ctx, app.ConsumerKey, app.ConsumerSecret, url.Values{
			"grant_type": {"password"}, "username": {name}, "password": {"secret-" + name},
		}))
		if a := must[*Answer](t)(Call(ctx, http.MethodGet, p.Gateway()+"/leaving/1.0.0/a", token, nil)); a.Status != http.StatusOK {
			t.Fatalf("the token of %s: status %d: %s", name, a.Status, a.Body)
		}
		a := must[*Answer](t)(c.Do(ctx, http.MethodDelete, "/api/cardea/v1/users/"+name, nil))
		if a.Status != http.StatusNoContent && a.Status != http.StatusOK {
			t.Fatalf("delete %s: status %d: %s", name, a.Status, a.Body)
		}
		expectCode(t, must[*Answer](t)(Call(ctx, http.MethodGet, p.Gateway()+"/leaving/1.0.0/a", token, nil)), http.StatusUnauthorized, "900901")
	}
}
