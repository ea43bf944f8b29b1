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
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/identity"
	"github.com/cardea-apim/cardea/internal/keymanager"
	"github.com/cardea-apim/cardea/internal/rest/fetch"
	"github.com/cardea-apim/cardea/internal/store"
)

// people is the identity role: who somebody is and what they may do. The
// control role has one too, to check tokens against the same database.
type people struct {
	directory *identity.Directory
	keys      *keymanager.KeyManager
	refusals  *refusals
}

// adminNews is what a first start says about the administrator.
type adminNews struct {
	file  string // where a generated password was written
	fresh bool   // this start made the installation
}

// minTokenLife is how long a revocation of all tokens of a user is kept at
// least: applications may ask for tokens that live longer than usual.
const minTokenLife = 30 * 24 * time.Hour

func openDirectory(db *store.DB, a *App) (*identity.Directory, error) {
	o := identity.Options{
		Tenants: db.Tenants, Confs: db.TenantConfs, Users: db.Users, Roles: db.Roles, Tokens: db.Tokens, InTx: db.InTx,
	}
	if a != nil {
		o.Log, o.Refused = a.log, a.people.refusals.refused
		rules := a.cfg.Users
		o.Names, o.RoleNames, o.Passwords, o.EmailNames = rules.Name, rules.Role, rules.Password, rules.Email
		o.TokenLife = max(a.cfg.OAuth.AppLife, a.cfg.OAuth.UserLife, a.cfg.OAuth.RefreshLife, minTokenLife)
		o.OnTenant = func(ctx context.Context, t *apim.Tenant) error {
			if a.people.keys != nil {
				if err := a.people.keys.EnsureTenantKeys(ctx, t.Domain); err != nil {
					return err
				}
			}
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
	a.people = &people{refusals: newRefusals(a)}
	if a.people.directory, err = openDirectory(a.db, a); err != nil {
		return err
	}
	o := a.cfg.OAuth
	a.people.keys, err = keymanager.New(keymanager.Options{
		Clients: a.db.Clients, SigningKeys: a.db.SigningKeys, Tokens: a.db.Tokens, Ephemera: a.db.Ephemera, Directory: a.people.directory,
		Sealer: a.box, InTx: a.db.InTx, URL: a.cfg.BaseURL, Issuer: o.Issuer,
		AppLife: o.AppLife, UserLife: o.UserLife, RefreshLife: o.RefreshLife, IDLife: o.IDLife,
		RefusedGrants: o.RefusedGrant, FreeScopes: o.FreeScopes,
		APIScopes: newScopeIndex(a.db).roles, SuperAdmin: a.cfg.Admin.Username, ClientAddr: a.clientAddr,
		Algorithm: o.Algorithm, NamePattern: o.NamePattern, Log: a.log,
		Await: a.await, Trusted: newTrusted(a.db, fetch.New(fetch.Options{Loopback: a.cfg.Loopback(), Allow: a.cfg.FetchAllow})).issuer,
	})
	if err != nil {
		return err
	}
	if err := a.people.keys.EnsureKeys(ctx); err != nil {
		return err
	}
	a.background(a.people.refusals.run)
	if !a.cfg.Has(config.Identity) {
		return nil
	}
	h := a.people.keys.Handler()
	for _, path := range []string{"/oauth2/", "/oidc/", "/commonauth", "/device", "/authenticationendpoint/", "/client-registration/", "/.well-known/", "/t/"} {
		a.mux.Handle(path, h)
	}
	a.background(func(ctx context.Context) error { return a.pruneTokens(ctx) })
	a.background(a.answerPasswords)
	a.background(a.answerTokens)
	return a.mountProvisioning()
}

// await holds an answer back until gateways know what was written. It can only
// where the control role runs too, which hears their acknowledgements.
func (a *App) await(ctx context.Context, changes []int64) {
	if a.control == nil {
		return
	}
	if _, err := a.control.receipts.Wait(ctx, changes); err != nil && ctx.Err() == nil {
		a.log.WarnContext(ctx, "change not confirmed by gateways", "err", err)
	}
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
			if o.AdminPassword, err = a.makePassword(); err != nil {
				return err
			}
		}
	}
	if err := a.people.directory.Bootstrap(ctx, o); err != nil {
		return fmt.Errorf("first start: %w", err)
	}
	if !missing {
		if err := a.replaceDefaultPassword(ctx); err != nil {
			return err
		}
	}
	if missing && a.admin.file != "" {
		a.log.Info("administrator created", "user", a.cfg.Admin.Username, "password_file", a.admin.file)
	}
	return nil
}

// defaultPassword is the administrator's while every listener is on loopback.
const defaultPassword = "admin"

// makePassword makes a password for the administrator and writes it where only
// the owner of the home can read it.
func (a *App) makePassword() (string, error) {
	password := strings.ToLower(rand.Text())
	a.admin.file = a.home.path("admin-password")
	if err := writeFile(a.admin.file, []byte(password+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the administrator's password: %w", err)
	}
	return password, nil
}

// replaceDefaultPassword ends admin/admin of an earlier start when this one
// listens beyond loopback and the configuration did not ask for it.
func (a *App) replaceDefaultPassword(ctx context.Context) error {
	if a.cfg.Loopback() || a.cfg.Admin.Explicit {
		return nil
	}
	_, err := a.people.directory.Authenticate(ctx, a.cfg.Admin.Username, apim.SuperTenant, defaultPassword, "")
	if errors.Is(err, &fault.NotAuthorized) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("check the administrator's password: %w", err)
	}
	password, err := a.makePassword()
	if err != nil {
		return err
	}
	if err := a.people.directory.SetPassword(ctx, apim.SuperTenant, a.cfg.Admin.Username, password); err != nil {
		return fmt.Errorf("replace the administrator's password: %w", err)
	}
	a.log.Warn("the default password of the administrator is not allowed on these listeners and was replaced", "user", a.cfg.Admin.Username, "password_file", a.admin.file)
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
