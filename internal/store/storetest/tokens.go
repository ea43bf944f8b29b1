package storetest

import (
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/store"
)

func link(i int, family string) *apim.RefreshToken {
	at := time.Now().UTC().Truncate(time.Microsecond)
	return &apim.RefreshToken{
		Hash: apim.Digest(fmt.Sprintf("sha256:%d", i)), Family: family, Tenant: home, Client: "c", User: apim.UserID(fmt.Sprint("u", i%2)),
		UserName: "bob", Scopes: []string{"openid", "default"}, IssuedAt: at, Expires: at.Add(time.Hour), Access: "jti", AccessExpires: at.Add(time.Minute),
	}
}

func refresh(t *testing.T, db *store.DB) {
	ctx := as(t)
	for i := range 4 {
		must(t, db.Tokens.PutRefresh(ctx, link(i, []string{"f0", "f1"}[i/2])))
	}
	wantFault(t, db.Tokens.PutRefresh(ctx, link(0, "f9")), fault.Exists, "")
	got, err := db.Tokens.Refresh(ctx, "sha256:1")
	must(t, err)
	if wanted := link(1, "f0"); got.Family != "f0" || !reflect.DeepEqual(got.Scopes, wanted.Scopes) || !got.UsedAt.IsZero() || got.User != "u1" {
		t.Errorf("read back %+v", got)
	}
	_, err = db.Tokens.Refresh(ctx, "sha256:x")
	wantFault(t, err, fault.Missing, "")
	_, _, err = db.Tokens.UseRefresh(ctx, "sha256:x", time.Now())
	wantFault(t, err, fault.Missing, "")

	var won atomic.Int32
	var wg sync.WaitGroup
	at := time.Now().UTC().Truncate(time.Microsecond)
	for range 20 {
		wg.Go(func() {
			tok, ok, err := db.Tokens.UseRefresh(ctx, "sha256:1", at)
			if err != nil {
				t.Errorf("racer: %v", err)
				return
			}
			if ok {
				won.Add(1)
			}
			if !tok.UsedAt.Equal(at) {
				t.Errorf("used at %v, want %v", tok.UsedAt, at)
			}
		})
	}
	wg.Wait()
	want(t, "winners", won.Load(), 1)

	links, err := db.Tokens.DropFamily(ctx, "f0")
	must(t, err)
	want(t, "links dropped", len(links), 2)
	_, err = db.Tokens.Refresh(ctx, "sha256:0")
	wantFault(t, err, fault.Missing, "")
	must(t, db.Tokens.DropRefreshOf(ctx, inOther, "u0", ""))
	_, err = db.Tokens.Refresh(ctx, "sha256:2")
	must(t, err)
	must(t, db.Tokens.DropRefreshOf(ctx, inHome, "u0", "c"))
	_, err = db.Tokens.Refresh(ctx, "sha256:2")
	wantFault(t, err, fault.Missing, "")
	wantFault(t, db.Tokens.DropRefreshOf(ctx, inHome, "", ""), fault.BadRequest, "")
	n, err := db.Tokens.Prune(ctx, time.Now().Add(2*time.Hour))
	must(t, err)
	want(t, "pruned", n, 1)
}

func revocations(t *testing.T, db *store.DB) {
	ctx := as(t)
	now := time.Now().UTC().Truncate(time.Microsecond)
	one := &apim.Revocation{Tenant: home, JTI: "j1", Expires: now.Add(time.Hour)}
	must(t, db.Tokens.Revoke(ctx, one))
	must(t, db.Tokens.Revoke(ctx, one)) // again is no mistake
	must(t, db.Tokens.Revoke(ctx, &apim.Revocation{ID: "sub/u1", Tenant: home, Entity: "u1", NotBefore: now, Expires: now.Add(time.Hour)}))
	must(t, db.Tokens.Revoke(ctx, &apim.Revocation{Tenant: home, Entity: "u1", NotBefore: now.Add(-time.Hour), Expires: now}))
	wantFault(t, db.Tokens.Revoke(ctx, &apim.Revocation{Tenant: home}), fault.BadRequest, "")
	for name, c := range map[string]struct {
		jti      string
		entities []string
		issued   time.Time
		want     bool
	}{
		"the token itself":        {"j1", nil, now, true},
		"another token":           {"j2", []string{"u2"}, now.Add(-time.Hour), false},
		"an entity, issued early": {"j2", []string{"c", "u1"}, now.Add(-time.Second), true},
		"an entity, issued later": {"j2", []string{"c", "u1"}, now, false},
		"a jti like an entity":    {"", []string{"j1"}, now.Add(-time.Hour), false},
	} {
		got, err := db.Tokens.Revoked(ctx, c.jti, c.entities, c.issued)
		must(t, err)
		want(t, name, got, c.want)
	}
	list, err := db.Tokens.Revocations(ctx, now)
	must(t, err)
	if len(list) != 2 || list[0].ID != "jti/j1" || list[1].ID != "sub/u1" || !list[1].NotBefore.Equal(now) || !list[1].Expires.Equal(now.Add(time.Hour)) {
		t.Errorf("revocations = %+v", list)
	}
	single, err := db.Tokens.Revocation(ctx, "sub/u1")
	must(t, err)
	want(t, "entity", single.Entity, "u1")
	_, err = db.Tokens.Revocation(ctx, "sub/nobody")
	wantFault(t, err, fault.Missing, "")
	n, err := db.Tokens.Prune(ctx, now.Add(2*time.Hour))
	must(t, err)
	want(t, "pruned", n, 2)
	pending, err := db.Log.Pending(ctx, 100)
	must(t, err)
	last := pending[len(pending)-1]
	want(t, "announced", fmt.Sprint(last.Kind, last.Op), "revocationdelete")
}

func blobs(t *testing.T, db *store.DB) {
	ctx := as(t)
	data := make([]byte, 300_000)
	for i := range data {
		data[i] = byte(i * i >> 8)
	}
	ref, err := db.Blobs.Put(ctx, data)
	must(t, err)
	again, err := db.Blobs.Put(ctx, data)
	must(t, err)
	want(t, "same content, same address", again, ref)
	got, err := db.Blobs.Get(ctx, ref)
	must(t, err)
	want(t, "content", string(got) == string(data), true)
	empty, err := db.Blobs.Put(ctx, nil)
	must(t, err)
	got, err = db.Blobs.Get(ctx, empty)
	must(t, err)
	want(t, "empty content", len(got), 0)
	for _, bad := range []apim.BlobRef{"", "nope", ref[:60], "../../etc/passwd"} {
		_, err = db.Blobs.Get(ctx, bad)
		wantFault(t, err, fault.Missing, "")
	}
	a := api(1)
	a.Definition = ref
	must(t, db.APIs.Create(ctx, inHome, a))
	must(t, db.Sweep(ctx)) // within the grace and referred to
	_, err = db.Blobs.Get(ctx, ref)
	must(t, err)
	_, err = db.Blobs.Get(ctx, empty)
	must(t, err)
}
