package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/token"
)

// A reset that arrives with an application gives its users their quota back,
// once each: the owner for tokens of the application, the subject for others.
func TestResetOfTheApplicationQuota(t *testing.T) {
	t.Parallel()
	w := pizzeria(t, nil)
	app := snapshot.Application{ID: "app-1", Tenant: tenant, Name: "Phone", Owner: "alice", Policy: "2PerDay"}
	send := func() { w.apply(false, item(t, snapshot.KindApplication, app.ID, "", app)) }
	w.apply(false, item(t, snapshot.KindAppPolicy, tenant+"/2PerDay", "",
		snapshot.Policy{Tenant: tenant, Name: "2PerDay", Limit: snapshot.Limit{Count: 2, Window: 24 * time.Hour}, StopOnQuota: true}))
	send()
	mine := bearerOf(w.token())
	theirs := bearerOf(w.token(func(c *token.Claims) { c.Aut, c.Subject, c.ID = token.AutUser, "id-bob@carbon.super", "jti-2" }))
	use := func(what, auth string, want ...int) {
		t.Helper()
		for i, status := range want {
			if got := w.get("/pizza/1.0/menu", auth).Code; got != status {
				t.Errorf("%s, call %d: %d, want %d", what, i+1, got, status)
			}
		}
	}
	use("owner", mine, 200, 200, 429)
	use("user", theirs, 200, 200, 429)

	app.ResetAt = map[string]time.Time{"alice": time.Now()}
	send()
	use("owner after the reset", mine, 200, 200, 429)
	use("user, who was not meant", theirs, 429)
	app.Name = "Renamed"
	send()
	use("owner after the same reset again", mine, 429)

	app.ResetAt["id-bob@carbon.super"] = time.Now()
	send()
	use("user after the reset", theirs, 200, 200, 429)
	use("owner after the user's reset", mine, 429)
}

// A key that belongs to an application only is good for what it subscribes to.
func TestAPIKeyOfAnApplication(t *testing.T) {
	t.Parallel()
	w := pizzeria(t, nil)
	w.apply(false, item(t, snapshot.KindAPIKey, token.Hash("app-key"), "", snapshot.APIKey{ID: "k", Name: "k", Application: "app-1", KeyType: "PRODUCTION"}))
	if rec := w.get("/pizza/1.0/menu", "apikey: app-key"); rec.Code != 200 {
		t.Errorf("subscribed: %d %s", rec.Code, rec.Body)
	}
	w.apply(false, snapshot.Item{Key: snapshot.Key{Kind: snapshot.KindSubscription, ID: "app-1/api-1"}, Deleted: true})
	if rec := w.get("/pizza/1.0/menu", "apikey: app-key"); rec.Code != 403 {
		t.Errorf("not subscribed any more: %d %s", rec.Code, rec.Body)
	}
}

// While keys change, tokens of the old and of the new one are good together;
// when the old one goes, its tokens do, remembered or not.
func TestSigningKeysChange(t *testing.T) {
	t.Parallel()
	w := pizzeria(t, nil)
	next, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := token.NewSigner(next, []byte("next certificate"))
	if err != nil {
		t.Fatal(err)
	}
	keys := func(public ...token.Key) snapshot.Item {
		set, err := token.NewKeySet(public...)
		if err != nil {
			t.Fatal(err)
		}
		return item(t, snapshot.KindKeyManager, "km-1", "", snapshot.KeyManager{
			ID: "km-1", Tenant: tenant, Global: true, Name: "Resident Key Manager", Enabled: true, Resident: true, Issuer: issuer, JWKS: set.JWKS(),
		})
	}
	before := bearerOf(w.token())
	old := w.signer
	w.signer = signer
	after := bearerOf(w.token(func(c *token.Claims) { c.ID = "jti-next" }))
	for _, c := range []struct {
		name          string
		keys          snapshot.Item
		before, after int
	}{
		{"old key only", keys(old.Public()), 200, 401},
		{"both keys", keys(old.Public(), signer.Public()), 200, 200},
		{"new key only", keys(signer.Public()), 401, 200},
	} {
		w.apply(false, c.keys)
		for range 2 { // the second time from the cache
			if got := w.get("/pizza/1.0/menu", before).Code; got != c.before {
				t.Errorf("%s: token of the old key: %d, want %d", c.name, got, c.before)
			}
			if got := w.get("/pizza/1.0/menu", after).Code; got != c.after {
				t.Errorf("%s: token of the new key: %d, want %d", c.name, got, c.after)
			}
		}
	}
}
