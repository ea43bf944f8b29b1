package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Authenticate checks a login name (alice, alice@tenant) and password that came
// from the client address addr. A name without a tenant is of tenant def.
//
// It answers fault.NotAuthorized for anything wrong, without telling what, and
// in the same time for users that do not exist; fault.LoginDelayed, with the
// wait in Detail, after too many failures.
func (d *Directory) Authenticate(ctx context.Context, login string, def apim.TenantID, password, addr string) (*apim.User, error) {
	if len(login) > maxName {
		// Not counted per account: such names must not fill the table.
		d.guard.failed("", addr, d.o.Now())
		err := fault.NotAuthorized.Because(errors.New("name of impossible length"))
		d.refused(Refusal{Tenant: def, Addr: addr}, err)
		return nil, err
	}
	name, t := d.split(login, def)
	return d.authenticate(ctx, name, t, password, addr)
}

func (d *Directory) authenticate(ctx context.Context, name string, t apim.TenantID, password, addr string) (*apim.User, error) {
	u, err := d.check(ctx, name, t, password, addr)
	if err != nil {
		d.refused(Refusal{Tenant: t, Name: name, Addr: addr}, err)
	}
	return u, err
}

// refused tells of a sign-in that err refused; other errors refuse nothing.
func (d *Directory) refused(r Refusal, err error) {
	if d.o.Refused == nil || r.Addr == "" {
		return
	}
	switch f := fault.Of(err); {
	case errors.Is(err, &fault.LoginDelayed):
		r.Delayed, r.Cause = true, f.Detail
	case errors.Is(err, &fault.NotAuthorized) && f.Err != nil:
		r.Cause = f.Err.Error()
	default:
		return
	}
	d.o.Refused(r)
}

func (d *Directory) check(ctx context.Context, name string, t apim.TenantID, password, addr string) (*apim.User, error) {
	account := strings.ToLower(name) + "@" + string(t)
	if err := d.delayed(account, addr); err != nil {
		return nil, err
	}
	if name == "" || len(password) > maxPassword {
		d.guard.failed(account, addr, d.o.Now())
		return nil, fault.NotAuthorized.Because(errors.New("empty name or password of impossible length"))
	}
	u, err := d.User(ctx, t, name)
	switch {
	case errors.Is(err, &fault.Missing):
		u = nil
	case err != nil:
		return nil, fmt.Errorf("authenticate: %w", err)
	}
	var mac [32]byte
	if u != nil {
		if mac = d.proofs.mac(u, password); d.proofs.has(mac, d.o.Now()) {
			return d.admitted(ctx, u)
		}
	}
	if err := d.hasher.acquire(ctx); err != nil {
		return nil, fault.Busy.Because(fmt.Errorf("authenticate: %w", err))
	}
	// Others may have failed while this attempt waited for its turn: without a
	// second look, parallel guesses would escape the delay.
	if err := d.delayed(account, addr); err != nil {
		d.hasher.release()
		return nil, err
	}
	stored := d.hasher.dummy
	if u != nil {
		stored = u.Password
	}
	good := d.hasher.matches(stored, password) && u != nil
	if !good {
		d.guard.failed(account, addr, d.o.Now())
	}
	d.hasher.release()
	if !good {
		return nil, fault.NotAuthorized.Because(errors.New("wrong user name or password"))
	}
	if u, err = d.admitted(ctx, u); err != nil {
		return nil, err
	}
	d.guard.succeeded(account, addr)
	d.proofs.add(mac, d.o.Now())
	return u, nil
}

// admitted refuses locked users and users of inactive tenants.
func (d *Directory) admitted(ctx context.Context, u *apim.User) (*apim.User, error) {
	if u.Locked {
		return nil, fault.NotAuthorized.Because(errors.New("user is locked"))
	}
	ok, err := d.Active(ctx, u.Tenant)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fault.NotAuthorized.Because(errors.New("tenant is not active"))
	}
	return u, nil
}

func (d *Directory) delayed(account, addr string) error {
	if w := d.guard.wait(account, addr, d.o.Now()); w > 0 {
		return delayedBy(w)
	}
	return nil
}

func delayedBy(w time.Duration) error {
	return fault.LoginDelayed.Withf("try again in %d seconds", int64((w+time.Second-1)/time.Second))
}

// clientKind begins the accounts of OAuth clients.
const clientKind = "client:"

// Wait is how long account must not be tried from addr, for credentials that are
// not a user's, such as OAuth clients; name such accounts "kind:id". It is asked
// once for each attempt, which is refused if it is not 0.
func (d *Directory) Wait(account, addr string) time.Duration {
	w := d.guard.wait(account, addr, d.o.Now())
	if id, ok := strings.CutPrefix(account, clientKind); ok && w > 0 {
		d.refused(Refusal{Name: id, Client: true, Addr: addr}, delayedBy(w))
	}
	return w
}

// Failed counts a failed attempt and Succeeded forgets earlier ones; see Wait.
func (d *Directory) Failed(account, addr string) {
	d.guard.failed(account, addr, d.o.Now())
	if id, ok := strings.CutPrefix(account, clientKind); ok {
		d.refused(Refusal{Name: id, Client: true, Addr: addr}, fault.NotAuthorized.Because(errors.New("unknown client or wrong secret")))
	}
}

// Succeeded forgets earlier failures of account from addr.
func (d *Directory) Succeeded(account, addr string) { d.guard.succeeded(account, addr) }
