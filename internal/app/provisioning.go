package app

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/identity"
	"github.com/cardea-apim/cardea/internal/identity/scim"
	"github.com/cardea-apim/cardea/internal/identity/soap"
	"github.com/cardea-apim/cardea/internal/rest"
)

// signUpPath is where people register themselves.
const signUpPath = "/api/identity/user/v1.0/me"

// mountProvisioning serves what automation manages users, roles, tenants and
// clients with: SCIM, the SOAP services of the original, and sign-up.
func (a *App) mountProvisioning() error {
	people, err := scim.New(scim.Options{
		Directory: a.people.directory, Authenticate: a.people.keys.Authenticate, URL: a.cfg.BaseURL, Log: a.log,
	})
	if err != nil {
		return err
	}
	services, err := soap.New(soap.Options{
		Directory: a.people.directory, Clients: a.people.keys, Table: a.db.Clients, Authenticate: a.people.keys.Authenticate,
		Version: a.o.Version, Log: a.log,
	})
	if err != nil {
		return err
	}
	for _, prefix := range []string{"", "/t/{tenant}"} {
		a.mux.Handle(prefix+"/scim2/", a.held(people))
		a.mux.Handle(prefix+"/services/", a.held(services))
		a.mux.Handle("POST "+prefix+signUpPath, a.held(http.HandlerFunc(a.signUp)))
	}
	return nil
}

// held lets answers begin only after the gateways know what they tell.
func (a *App) held(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, changes := apim.TrackChanges(r.Context())
		held := &heldAnswer{ResponseWriter: w, before: func() { a.await(ctx, changes.IDs()) }}
		next.ServeHTTP(held, r.WithContext(ctx))
	})
}

// signUpRequest is the body of a sign-up.
type signUpRequest struct {
	User struct {
		Username string `json:"username"`
		Password string `json:"password"`
		Claims   []struct {
			URI   string `json:"uri"`
			Value string `json:"value"`
		} `json:"claims"`
	} `json:"user"`
}

// signUp registers a user in the tenant of the path. The original asks for
// credentials of any user of that tenant, and so does this.
func (a *App) signUp(w http.ResponseWriter, r *http.Request) {
	if err := a.doSignUp(w, r); err != nil {
		if f := fault.Of(err); f.Kind == fault.Internal {
			a.log.ErrorContext(r.Context(), "sign-up failed", "err", err)
		}
		rest.Fault(w, r, err)
	}
}

func (a *App) doSignUp(w http.ResponseWriter, r *http.Request) error {
	t := apim.SuperTenant
	if named := r.PathValue("tenant"); named != "" {
		t = apim.TenantID(strings.ToLower(named))
	}
	actor, err := a.people.keys.Authenticate(r.Context(), r)
	if err != nil {
		return err
	}
	if actor.Tenant != t {
		return fault.NotAuthorized.Because(errors.New("user of another tenant"))
	}
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(kind), "application/json") {
		return fault.MediaType.With("The body must be application/json")
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, 256<<10+1))
	if err != nil || len(b) > 256<<10 {
		return &fault.BodyTooLarge
	}
	if err := rest.CheckDepth(b, 16); err != nil {
		return err
	}
	var in signUpRequest
	if err := json.Unmarshal(b, &in); err != nil {
		return fault.BadRequest.With("The body is not the JSON of a sign-up")
	}
	claims := map[string]string{}
	for _, c := range in.User.Claims {
		claims[c.URI] = c.Value
	}
	ctx := apim.WithActor(r.Context(), actor)
	if _, err := a.people.directory.SignUp(ctx, t, identity.NewUser{Name: in.User.Username, Password: in.User.Password, Claims: claims}); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusCreated)
}
