// Package storetest holds what every engine of package store must do alike:
// each engine's test is one call of Run.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/store"
)

// Run runs the suite on stores that open gives: new, empty, closed by the suite.
func Run(t *testing.T, open func(t *testing.T) *store.DB) {
	for name, test := range map[string]func(*testing.T, *store.DB){
		"every noun":                    nouns,
		"unique keys are named":         uniqueKeys,
		"updates race":                  updatesRace,
		"lists":                         lists,
		"hostile conditions":            hostile,
		"values survive":                values,
		"transactions":                  transactions,
		"rows of a transaction":         history,
		"audits are redacted":           redaction,
		"changes become versions":       changeLog,
		"changes have effects":          effects,
		"items":                         items,
		"leases":                        leases,
		"wake":                          wake,
		"gateways and join tokens":      gateways,
		"members":                       members,
		"refresh tokens":                refresh,
		"revocations":                   revocations,
		"ephemera":                      ephemera,
		"ephemera race":                 ephemeraRace,
		"blobs":                         blobs,
		"many writers":                  manyWriters,
		"conflicting transactions":      conflicts,
		"a cancelled context":           cancelled,
		"a backup is not a transaction": backupInTx,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			t.Cleanup(func() {
				if err := db.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			test(t, db)
		})
	}
}

const (
	home  apim.TenantID = "carbon.super"
	other apim.TenantID = "acme.example"
)

var (
	inHome  = apim.In(home)
	inOther = apim.In(other)
	all     = apim.Across(apim.Platform)
)

// as is a context in which alice acts.
func as(t *testing.T) context.Context {
	return apim.WithActor(t.Context(), &apim.Actor{User: "alice", Tenant: home, Addr: "192.0.2.7"})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

func wantFault(t *testing.T, err error, row fault.Error, detail string) {
	t.Helper()
	if !errors.Is(err, &row) {
		t.Fatalf("error = %v, want %d %s", err, row.Code, row.Msg)
	}
	if detail != "" && fault.Of(err).Detail != detail {
		t.Errorf("detail = %q, want %q (%v)", fault.Of(err).Detail, detail, err)
	}
}

// api is the i-th API of a tenant.
func api(i int) *apim.API {
	return &apim.API{
		Name: fmt.Sprintf("Pizza%d", i), Version: "1.0", Context: fmt.Sprintf("/pizza%d", i),
		ContextTemplate: fmt.Sprintf("/pizza%d/{version}", i), Provider: "alice", Type: "HTTP", State: apim.Created,
		Tags: []string{"food", fmt.Sprintf("t%d", i%3)}, Description: strings.Repeat("Orders pizza. ", 3),
		Operations: []apim.Operation{{Target: "/menu", Verb: "GET", Policy: "10KPerMin"}, {Target: "/order", Verb: "POST", Policy: "Unlimited"}},
	}
}

func nouns(t *testing.T, db *store.DB) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
	t.Run("tenant", func(t *testing.T) { tenants(t, db) })
	noun(t, db, "tenantconf", db.TenantConfs, false, func(i int) *apim.TenantConf { return &apim.TenantConf{JSON: `{"a":1}`} },
		func(v *apim.TenantConf) apim.TenantID { return v.ID }, func(v *apim.TenantConf) { v.JSON = `{"a":2}` })
	noun(t, db, "user", db.Users, true, func(i int) *apim.User {
		return &apim.User{Name: fmt.Sprintf("user%d", i), Password: "argon2id:x", Roles: []string{"admin"}, PasswordAt: now}
	}, func(v *apim.User) apim.UserID { return v.ID }, func(v *apim.User) { v.Locked = true })
	noun(t, db, "role", db.Roles, true, func(i int) *apim.Role { return &apim.Role{Name: fmt.Sprintf("role%d", i)} },
		func(v *apim.Role) apim.RoleID { return v.ID }, func(v *apim.Role) { v.Permissions = []string{"/permission/admin"} })
	noun(t, db, "client", db.Clients, true, func(i int) *apim.Client {
		return &apim.Client{Name: fmt.Sprintf("client%d", i), Owner: "alice", AppExpiry: time.Hour, Secrets: []apim.Secret{{ID: "1", Hash: "sha256:aa"}}}
	}, func(v *apim.Client) apim.ClientID { return v.ID }, func(v *apim.Client) { v.Callback = "https://a.example/cb" })
	noun(t, db, "signingkey", db.SigningKeys, true, func(i int) *apim.SigningKey {
		return &apim.SigningKey{Algorithm: "RS256", Private: "sealed:v1:x", NotBefore: now}
	}, func(v *apim.SigningKey) apim.KeyID { return v.ID }, func(v *apim.SigningKey) { v.Retired = now })
	noun(t, db, "api", db.APIs, true, api, func(v *apim.API) apim.APIID { return v.ID }, func(v *apim.API) { v.State = apim.Published })
	noun(t, db, "revision", db.Revisions, true, func(i int) *apim.Revision {
		return &apim.Revision{API: apim.APIID(fmt.Sprintf("a%d", i)), Number: i, Copy: *api(i)}
	}, func(v *apim.Revision) apim.RevisionID { return v.ID }, func(v *apim.Revision) { v.Description = "second" })
	noun(t, db, "deployment", db.Deployments, true, func(i int) *apim.Deployment {
		return &apim.Deployment{API: apim.APIID(fmt.Sprintf("a%d", i)), Environment: "Default", Revision: "r1", DeployedAt: now}
	}, func(v *apim.Deployment) apim.DeploymentID { return v.ID }, func(v *apim.Deployment) { v.Revision = "r2" })
	noun(t, db, "scope", db.SharedScopes, true, func(i int) *apim.SharedScope { return &apim.SharedScope{Name: fmt.Sprintf("scope%d", i)} },
		func(v *apim.SharedScope) string { return v.ID }, func(v *apim.SharedScope) { v.Roles = []string{"admin"} })
	noun(t, db, "application", db.Applications, true, func(i int) *apim.Application {
		return &apim.Application{Name: fmt.Sprintf("app%d", i), Owner: "alice", Status: "APPROVED", ResetAt: map[string]time.Time{"a": now}}
	}, func(v *apim.Application) apim.AppID { return v.ID }, func(v *apim.Application) { v.Policy = "Unlimited" })
	noun(t, db, "keymapping", db.KeyMappings, true, func(i int) *apim.KeyMapping {
		return &apim.KeyMapping{Application: apim.AppID(fmt.Sprintf("app%d", i)), KeyManager: "km", KeyType: "PRODUCTION", ConsumerKey: "ck"}
	}, func(v *apim.KeyMapping) apim.KeyMappingID { return v.ID }, func(v *apim.KeyMapping) { v.State = "COMPLETED" })
	noun(t, db, "subscription", db.Subscriptions, true, func(i int) *apim.Subscription {
		return &apim.Subscription{Application: apim.AppID(fmt.Sprintf("app%d", i)), API: "a1", Policy: "Gold", State: "UNBLOCKED"}
	}, func(v *apim.Subscription) apim.SubscriptionID { return v.ID }, func(v *apim.Subscription) { v.State = "BLOCKED" })
	noun(t, db, "apikey", db.APIKeys, true, func(i int) *apim.APIKey {
		return &apim.APIKey{Name: "k", API: "a1", Owner: "alice", Hash: apim.Digest(fmt.Sprintf("sha256:%064d", i)), Expires: now}
	}, func(v *apim.APIKey) string { return v.ID }, func(v *apim.APIKey) { v.LastUsed = now })
	noun(t, db, "policy", db.Policies, true, func(i int) *apim.ThrottlePolicy {
		return &apim.ThrottlePolicy{Level: apim.AppLevel, Name: fmt.Sprintf("p%d", i), Limit: apim.Limit{Count: 5, TimeUnit: "min", UnitTime: 1}}
	}, func(v *apim.ThrottlePolicy) string { return v.ID }, func(v *apim.ThrottlePolicy) { v.Limit.Count = 6 })
	noun(t, db, "environment", db.Environments, true, func(i int) *apim.Environment {
		return &apim.Environment{Name: fmt.Sprintf("env%d", i), Type: "hybrid", VHosts: []apim.VHost{{Host: "localhost"}}}
	}, func(v *apim.Environment) string { return v.ID }, func(v *apim.Environment) { v.DisplayName = "E" })
	noun(t, db, "keymanager", db.KeyManagers, true, func(i int) *apim.KeyManager {
		return &apim.KeyManager{Name: fmt.Sprintf("km%d", i), Issuer: "https://i.example", Secrets: map[string]apim.Sealed{"s": "sealed:v1:y"}}
	}, func(v *apim.KeyManager) string { return v.ID }, func(v *apim.KeyManager) { v.Enabled = true })
}

func tenants(t *testing.T, db *store.DB) {
	ctx := as(t)
	v := &apim.Tenant{Domain: home, Number: -1234, Active: true}
	must(t, db.Tenants.Create(ctx, all, v))
	want(t, "tenant of a tenant", v.Tenant, home)
	wantFault(t, db.Tenants.Create(ctx, all, &apim.Tenant{Domain: home, Number: 1}), fault.Exists, "id")
	wantFault(t, db.Tenants.Create(ctx, all, &apim.Tenant{Domain: other, Number: -1234}), fault.Exists, "number")
	wantFault(t, db.Tenants.Create(ctx, inHome, &apim.Tenant{Domain: other, Number: 1}), fault.NotPermitted, "")
	_, err := db.Tenants.Get(ctx, inOther, home)
	wantFault(t, err, fault.Missing, "")
	v.Email = "a@b.example"
	must(t, db.Tenants.Update(ctx, all, v))
	got, err := db.Tenants.First(ctx, all, apim.Where("number", int64(-1234)).And("active", true))
	must(t, err)
	want(t, "email", got.Email, "a@b.example")
}
