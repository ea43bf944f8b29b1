package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/config"
	"github.com/cardea-apim/cardea/internal/identity"
	"github.com/cardea-apim/cardea/internal/keymanager"
	"github.com/cardea-apim/cardea/internal/store"
)

// people is the identity role: who somebody is and what they may do. The
// control role has one too, to check tokens against the same database.
type people struct {
	directory *identity.Directory
	keys      *keymanager.KeyManager
}

// adminNews is what a first start says about the administrator.
type adminNews struct {
	file  string // where a generated password was written
	fresh bool   // this start made the installation
}

func openDirectory(db *store.DB, a *App) (*identity.Directory, error) {
	o := identity.Options{
		Tenants: db.Tenants, Confs: db.TenantConfs, Users: db.Users, Roles: db.Roles, Tokens: db.Tokens, InTx: db.InTx,
	}
	if a != nil {
		o.Log = a.log
		o.OnTenant = func(ctx context.Context, t *apim.Tenant) error {
			if a.control == nil {
				return nil
			}
			return a.control.onTenant(ctx, t)
		}
	}
	return identity.New(o)
}

// wireIdentity opens the directory and the key manager, and mounts the OAuth
// endpoints where the identity role runs.
func (a *App) wireIdentity(ctx context.Context) (err error) {
	if a.db == nil {
		return nil
	}
	a.people = &people{}
	if a.people.directory, err = openDirectory(a.db, a); err != nil {
		return err
	}
	v := a.cfg.Values
	a.people.keys, err = keymanager.New(keymanager.Options{
		Clients: a.db.Clients, SigningKeys: a.db.SigningKeys, Tokens: a.db.Tokens, Directory: a.people.directory,
		Sealer: a.box, InTx: a.db.InTx, URL: a.cfg.BaseURL, Issuer: v.String("oauth.oidc.id_token.issuer", ""),
		AppLife:     v.Duration("oauth.token_validation.app_access_token_validity", time.Hour),
		UserLife:    v.Duration("oauth.token_validation.user_access_token_validity", time.Hour),
		RefreshLife: v.Duration("oauth.token_validation.refresh_token_validity", 24*time.Hour),
		IDLife:      v.Duration("oauth.oidc.token_validation.id_token_validity", time.Hour),
		APIScopes:   newScopeIndex(a.db).roles, SuperAdmin: a.cfg.Admin.Username, ClientAddr: a.clientAddr,
		Algorithm: signingAlgorithm(v), NamePattern: v.String("service_provider.sp_name_regex", ""), Log: a.log,
	})
	if err != nil {
		return err
	}
	if err := a.people.keys.EnsureKeys(ctx); err != nil {
		return err
	}
	if !a.cfg.Has(config.Identity) {
		return nil
	}
	h := a.people.keys.Handler()
	for _, path := range []string{"/oauth2/", "/client-registration/", "/.well-known/", "/t/"} {
		a.mux.Handle(path, h)
	}
	a.background(func(ctx context.Context) error { return a.pruneTokens(ctx) })
	return nil
}

// signingAlgorithm is ES256 where the configuration asks for an EC signature
// of tokens, RS256 otherwise.
func signingAlgorithm(v config.Values) string {
	if alg := v.String("oauth.oidc.id_token.signature_algorithm", ""); strings.Contains(alg, "ECDSA") || alg == "ES256" {
		return "ES256"
	}
	return "RS256"
}

// pruneTokens removes expired refresh tokens and revocations now and then.
func (a *App) pruneTokens(ctx context.Context) error {
	t := time.NewTicker(10 * time.Minute)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			if _, err := a.db.Tokens.Prune(ctx, now); err != nil && ctx.Err() == nil {
				a.log.WarnContext(ctx, "tokens not pruned", "err", err)
			}
		}
	}
}

// bootstrapAdmin makes the tenant, the roles and the administrator of a first
// start. An explicit password of the configuration wins; admin/admin is only
// for listeners on loopback; otherwise one is generated into a file.
func (a *App) bootstrapAdmin(ctx context.Context) error {
	_, err := a.people.directory.User(ctx, apim.SuperTenant, a.cfg.Admin.Username)
	missing := isMissing(err)
	if err != nil && !missing {
		return fmt.Errorf("look for the administrator: %w", err)
	}
	o := identity.BootstrapOptions{AdminUser: a.cfg.Admin.Username, AdminRole: a.cfg.Admin.Role}
	if missing {
		if !a.cfg.Admin.Create {
			return fmt.Errorf("the administrator %s does not exist and super_admin.create_admin_account is false", a.cfg.Admin.Username)
		}
		a.admin.fresh = true
		o.AdminPassword = a.cfg.Admin.Password.Reveal()
		if !a.cfg.Admin.Explicit && !a.cfg.Loopback() {
			o.AdminPassword = strings.ToLower(rand.Text())
			a.admin.file = a.home.path("admin-password")
			if err := writeFile(a.admin.file, []byte(o.AdminPassword+"\n"), 0o600); err != nil {
				return fmt.Errorf("write the administrator's password: %w", err)
			}
		}
	}
	if err := a.people.directory.Bootstrap(ctx, o); err != nil {
		return fmt.Errorf("first start: %w", err)
	}
	if a.admin.file != "" {
		a.log.Info("administrator created", "user", a.cfg.Admin.Username, "password_file", a.admin.file)
	}
	return nil
}

// isAdmin reports whether a request comes from an administrator of the product.
func (a *App) isAdmin(r *http.Request) bool {
	_, err := a.administrator(r)
	return err == nil
}

var errNotAdmin = errors.New("not an administrator")

// administrator is the caller, when they administer the whole product.
func (a *App) administrator(r *http.Request) (*apim.Actor, error) {
	if a.people == nil {
		return nil, errNotAdmin
	}
	actor, err := a.people.keys.Authenticate(r.Context(), r)
	if err != nil {
		return nil, err
	}
	if actor.Tenant != apim.SuperTenant || !actor.HasScope("apim:admin") {
		return nil, errNotAdmin
	}
	return actor, nil
}
