package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/bus"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/gateway/auth"
	"github.com/cardea-apim/cardea/internal/identity"
	"github.com/cardea-apim/cardea/internal/seal"
)

// subjectPassword is where gateways ask the identity role whose password it is.
// Question and answer are sealed with the master key, so that a bus of the
// operator's own carries no password.
const subjectPassword = "identity.password"

type passwordQuestion struct {
	Login    string     `json:"login"`
	Password string     `json:"password"`
	From     netip.Addr `json:"from"`
	Asked    time.Time  `json:"asked"`
}

type passwordAnswer struct {
	Person *auth.Person `json:"person,omitempty"`
	No     string       `json:"no,omitempty"` // password, delayed, busy
}

// passwordLife is how old a question may be: a recorded one is worth nothing later.
const passwordLife = 30 * time.Second

// persons answers from the directory of this process.
type persons struct{ d *identity.Directory }

// Person tells whose password it is.
func (p persons) Person(ctx context.Context, login, password string, from netip.Addr) (*auth.Person, error) {
	u, err := p.d.Authenticate(ctx, login, apim.SuperTenant, password, from.String())
	switch {
	case errors.Is(err, &fault.LoginDelayed):
		return nil, auth.ErrDelayed
	case errors.Is(err, &fault.NotAuthorized):
		return nil, auth.ErrPassword
	case err != nil:
		return nil, err
	}
	return &auth.Person{ID: string(u.ID), Name: u.Name, Tenant: string(u.Tenant), Roles: p.d.RolesOf(u)}, nil
}

// remotePersons asks the identity role over the bus.
type remotePersons struct {
	bus *bus.Bus
	box *seal.Box
}

// Person tells whose password it is.
func (p remotePersons) Person(ctx context.Context, login, password string, from netip.Addr) (*auth.Person, error) {
	data, err := json.Marshal(passwordQuestion{login, password, from, time.Now()})
	if err != nil {
		return nil, fmt.Errorf("ask the identity role: %w", err)
	}
	reply, err := p.bus.Request(ctx, subjectPassword, []byte(p.box.Seal(data)))
	if err != nil {
		return nil, fmt.Errorf("ask the identity role: %w", err)
	}
	plain, err := p.box.Open(string(reply))
	if err != nil {
		return nil, fmt.Errorf("ask the identity role: %w", err)
	}
	var a passwordAnswer
	if err := json.Unmarshal(plain, &a); err != nil {
		return nil, fmt.Errorf("ask the identity role: %w", err)
	}
	switch {
	case a.Person != nil:
		return a.Person, nil
	case a.No == "password":
		return nil, auth.ErrPassword
	case a.No == "delayed":
		return nil, auth.ErrDelayed
	}
	return nil, fmt.Errorf("ask the identity role: it answers %q", a.No)
}

// personsOf is whom the gateway of this process asks.
func (a *App) personsOf() auth.Directory {
	if a.people != nil {
		return persons{a.people.directory}
	}
	return remotePersons{a.bus, a.box}
}

// answerPasswords lets gateways elsewhere ask the directory of this process,
// as many at a time as passwords can be checked.
func (a *App) answerPasswords(ctx context.Context) error {
	for range runtime.GOMAXPROCS(0) {
		cancel, err := a.bus.Reply(subjectPassword, "identity", func(data []byte) []byte {
			answer, err := json.Marshal(a.password(ctx, data))
			if err != nil {
				return nil
			}
			return []byte(a.box.Seal(answer))
		})
		if err != nil {
			return fmt.Errorf("answer questions about passwords: %w", err)
		}
		defer cancel()
	}
	<-ctx.Done()
	return nil
}

func (a *App) password(ctx context.Context, data []byte) passwordAnswer {
	var q passwordQuestion
	plain, err := a.box.Open(string(data))
	if err == nil {
		err = json.Unmarshal(plain, &q)
	}
	if err != nil || time.Since(q.Asked).Abs() > passwordLife {
		a.log.WarnContext(ctx, "question about a password refused", "asked", q.Asked, "err", err)
		return passwordAnswer{No: "malformed"}
	}
	ctx, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	p, err := persons{a.people.directory}.Person(ctx, q.Login, q.Password, q.From)
	switch {
	case err == nil:
		return passwordAnswer{Person: p}
	case errors.Is(err, auth.ErrPassword):
		return passwordAnswer{No: "password"}
	case errors.Is(err, auth.ErrDelayed):
		return passwordAnswer{No: "delayed"}
	}
	a.log.ErrorContext(ctx, "password not checked", "err", err)
	return passwordAnswer{No: "busy"}
}
