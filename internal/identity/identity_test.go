package identity_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/identity"
	"github.com/cardea-apim/cardea/internal/store"
)

const super = apim.SuperTenant

type world struct {
	*identity.Directory
	db  *store.DB
	ctx context.Context
	mu  sync.Mutex
	at  time.Time
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *world) add(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = w.at.Add(d)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{ctx: t.Context(), at: time.Unix(1_800_000_000, 0).UTC()}
	var err error
	w.db, err = store.Open(w.ctx, "sqlite:"+filepath.Join(t.TempDir(), "db"), store.Options{Sweep: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.db.Close() })
	w.Directory, err = identity.New(identity.Options{
		Tenants: w.db.Tenants, Confs: w.db.TenantConfs, Users: w.db.Users, Roles: w.db.Roles, Tokens: w.db.Tokens,
		InTx: w.db.InTx, Hashing: identity.Hashing{Memory: 64, Time: 1, Threads: 1}, Now: w.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Bootstrap(w.ctx, identity.BootstrapOptions{AdminPassword: "admin"}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) login(login, password, addr string) error {
	_, err := w.Authenticate(w.ctx, login, super, password, addr)
	return err
}

func TestBootstrapMakesTheAdministratorMemberOfEveryRole(t *testing.T) {
	w := newWorld(t)
	if err := w.Bootstrap(w.ctx, identity.BootstrapOptions{AdminPassword: "other"}); err != nil {
		t.Fatalf("second start: %v", err)
	}
	u, err := w.Authenticate(w.ctx, "Admin@carbon.super", super, "admin", "")
	if err != nil {
		t.Fatalf("the second start changed the password: %v", err)
	}
	want := []string{"admin", "Internal/analytics", "Internal/creator", "Internal/devops", "Internal/integration_dev", "Internal/observer", "Internal/publisher", "Internal/subscriber"}
	got := slices.Clone(u.Roles)
	slices.SortFunc(got, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	tenant, err := w.Tenant(w.ctx, super)
	if err != nil || tenant.Number != -1234 || !tenant.Active {
		t.Errorf("tenant %+v, %v", tenant, err)
	}
	for role, permission := range map[string]string{"Internal/creator": identity.PermCreate, "Internal/subscriber": identity.PermLogin, "admin": "/permission/protected/manage/x"} {
		if ok, err := w.Permitted(w.ctx, super, []string{role}, permission); !ok || err != nil {
			t.Errorf("%s lacks %s: %v", role, permission, err)
		}
	}
	if ok, _ := w.Permitted(w.ctx, super, []string{"Internal/integration_dev", "Internal/subscriber", "nobody"}, identity.PermPublish); ok {
		t.Error("a permission is given to the wrong role")
	}
}

func TestBootstrapFromSeveralProcessesAtOnce(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		wg.Go(func() {
			errs[i] = w.Bootstrap(w.ctx, identity.BootstrapOptions{AdminUser: "root", AdminPassword: "x"})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

func TestBootstrapNeedsAPasswordForANewAdministrator(t *testing.T) {
	w := newWorld(t)
	if err := w.Bootstrap(w.ctx, identity.BootstrapOptions{AdminUser: "root"}); !errors.Is(err, &fault.BadRequest) {
		t.Errorf("got %v", err)
	}
}

func TestDefaultBindingsAreComplete(t *testing.T) {
	if n := len(identity.DefaultBindings); n != 112 {
		t.Errorf("%d bindings, want 106 shipped and 6 later ones", n)
	}
	seen := map[string]bool{}
	for _, b := range identity.DefaultBindings {
		if seen[b.Scope] || len(b.Roles) == 0 {
			t.Errorf("%s: twice, or without a role", b.Scope)
		}
		seen[b.Scope] = true
		bare := b.Scope == "apim:api_list_view" || b.Scope == "apim:api_definition_view"
		if slices.Contains(b.Roles, "admin") == bare {
			t.Errorf("%s: roles %q", b.Scope, b.Roles)
		}
	}
}

func TestScopesForRoles(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name       string
		roles, ask []string
		want       string
	}{
		{"creator", []string{"Internal/creator"}, []string{"apim:api_create", "apim:api_publish", "apim:api_view"}, "apim:api_create apim:api_view"},
		{"any case", []string{"INTERNAL/Creator"}, []string{"apim:api_create"}, "apim:api_create"},
		{"admin alone lacks the list view", []string{"admin"}, []string{"apim:api_list_view", "apim:admin"}, "apim:admin"},
		{"unbound", nil, []string{"x", "apim:admin"}, "x"},
		{"scopes of later versions", []string{"admin"}, []string{"apim:api_create_only"}, "apim:api_create_only"},
		{"scopes of later versions, no admin", []string{"Internal/creator"}, []string{"apim:api_create_only"}, ""},
	} {
		got, err := w.ScopesFor(w.ctx, super, c.roles, c.ask)
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %q, want %q (%v)", c.name, got, c.want, err)
		}
	}
	all, err := w.AllScopes(w.ctx, super, []string{"Internal/devops"})
	if err != nil || len(all) != 8 {
		t.Errorf("devops opens %q, want 8 scopes (%v)", all, err)
	}
}

func TestConfigurationTakesEffectAtOnce(t *testing.T) {
	w := newWorld(t)
	doc, err := w.Conf(w.ctx, super)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(role string) bool {
		got, err := w.ScopesFor(w.ctx, super, []string{role}, []string{"apim:api_create"})
		if err != nil {
			t.Fatal(err)
		}
		return len(got) == 1
	}
	if ask("guests") {
		t.Fatal("granted before the change")
	}
	changed := strings.Replace(doc, `{"Name":"apim:api_create","Roles":"admin,Internal/creator"}`, `{"Name":"apim:api_create","Roles":"admin, guests "}`, 1)
	changed = strings.TrimSuffix(changed, "}") + `,"Unknown":{"b":1,"a":2},"RoleMappings":{"admin":"admin,Boss"}}`
	if changed == doc {
		t.Fatal("the document does not hold the binding")
	}
	if err := w.SetConf(w.ctx, super, changed); err != nil {
		t.Fatal(err)
	}
	if !ask("guests") || ask("Internal/creator") || !ask("boss") {
		t.Error("the new bindings and aliases are not in force")
	}
	back, err := w.Conf(w.ctx, super)
	if err != nil || back != changed {
		t.Errorf("the document does not come back as it was put (%v)", err)
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	w := newWorld(t)
	doc, err := w.Conf(w.ctx, super)
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid([]byte(doc)) {
		t.Fatal("the shipped document is not JSON")
	}
	if err := w.SetConf(w.ctx, super, doc); err != nil {
		t.Fatalf("the shipped document is refused: %v", err)
	}
	for name, bad := range map[string]string{
		"no JSON": "{", "no object": "[]", "empty": "", "data behind": doc + "{}",
		"key missing":    strings.Replace(doc, `"Notifications"`, `"Other"`, 1),
		"wrong type":     strings.Replace(doc, `"EnableMonetization":false`, `"EnableMonetization":"no"`, 1),
		"scope missing":  strings.Replace(doc, `"apim:api_publish"`, `"apim:other"`, 1),
		"role switch":    strings.Replace(doc, `"PublisherRole"`, `"Other"`, 1),
		"sign-up":        strings.Replace(doc, `"SignUpRoles"`, `"Other"`, 1),
		"role mappings":  strings.TrimSuffix(doc, "}") + `,"RoleMappings":{"admin":["x"]}}`,
		"scopes no list": strings.Replace(doc, `"Scope":[`, `"Scope":5,"x":[`, 1),
	} {
		if err := w.SetConf(w.ctx, super, bad); !errors.Is(err, &fault.TenantConfInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestUserNames(t *testing.T) {
	w := newWorld(t)
	if _, err := w.CreateUser(w.ctx, super, identity.NewUser{Name: "Alice", Password: "pw", Roles: []string{"internal/CREATOR", "Internal/creator", "Internal/everyone"}}); err != nil {
		t.Fatal(err)
	}
	u, err := w.User(w.ctx, super, "aLICE")
	if err != nil || u.Name != "Alice" || !slices.Equal(u.Roles, []string{"Internal/creator"}) {
		t.Fatalf("got %+v, %v", u, err)
	}
	if !strings.HasPrefix(string(u.Password), "argon2id:v=19$m=") {
		t.Errorf("password is kept as %q", u.Password)
	}
	for _, login := range []string{"alice", "ALICE", "alice@carbon.super", "alice@CARBON.super"} {
		if err := w.login(login, "pw", ""); err != nil {
			t.Errorf("%s: %v", login, err)
		}
	}
	for _, login := range []string{"alice@t1.com", "", "@", "alice@", "@carbon.super", "bob"} {
		if err := w.login(login, "pw", ""); !errors.Is(err, &fault.NotAuthorized) {
			t.Errorf("%q: got %v", login, err)
		}
	}
	for name, c := range map[string]struct {
		n    identity.NewUser
		want error
	}{
		"taken in another case": {identity.NewUser{Name: "ALICE", Password: "x"}, &fault.Exists},
		"blank":                 {identity.NewUser{Name: " ", Password: "x"}, &fault.BadRequest},
		"control character":     {identity.NewUser{Name: "a\x00", Password: "x"}, &fault.BadRequest},
		"long":                  {identity.NewUser{Name: strings.Repeat("a", 300), Password: "x"}, &fault.BadRequest},
		"no password":           {identity.NewUser{Name: "x"}, &fault.BadRequest},
		"huge password":         {identity.NewUser{Name: "x", Password: strings.Repeat("a", 5000)}, &fault.BadRequest},
		"unknown role":          {identity.NewUser{Name: "x", Password: "x", Roles: []string{"nobody"}}, &fault.RolesInvalid},
	} {
		if _, err := w.CreateUser(w.ctx, super, c.n); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestTenantsAreApart(t *testing.T) {
	w := newWorld(t)
	mk := func(domain string) (*apim.Tenant, error) {
		return w.CreateTenant(w.ctx, identity.NewTenant{Domain: domain, Admin: "admin", Password: "secret", Email: "a@t1.com"})
	}
	a, err := mk("t1.com")
	if err != nil {
		t.Fatal(err)
	}
	b, err := mk("t2.com")
	if err != nil {
		t.Fatal(err)
	}
	if a.Number != 1 || b.Number != 2 {
		t.Errorf("numbers %d, %d", a.Number, b.Number)
	}
	if err := w.login("admin@t1.com", "secret", ""); err != nil {
		t.Error(err)
	}
	if err := w.login("admin", "secret", ""); err == nil {
		t.Error("a tenant's password opens the super tenant")
	}
	if _, err := mk("t1.com"); !errors.Is(err, &fault.Exists) {
		t.Errorf("taken domain: %v", err)
	}
	if err := w.SetActive(w.ctx, "t1.com", false); err != nil {
		t.Fatal(err)
	}
	if err := w.login("admin@t1.com", "secret", ""); !errors.Is(err, &fault.NotAuthorized) {
		t.Errorf("inactive tenant: %v", err)
	}
	if err := w.SetActive(w.ctx, super, false); !errors.Is(err, &fault.BadRequest) {
		t.Errorf("the super tenant is deactivated: %v", err)
	}
	for _, n := range []identity.NewTenant{
		{Domain: "Abc.com", Admin: "a", Password: "b", Email: "a@b.co"},
		{Domain: ".com", Admin: "a", Password: "b", Email: "a@b.co"},
		{Domain: "", Admin: "a", Password: "b", Email: "a@b.co"},
		{Domain: "a.com", Admin: "a", Password: "b", Email: "a"},
		{Domain: "a.com", Admin: "a", Email: "a@b.co"},
	} {
		if _, err := w.CreateTenant(w.ctx, n); !errors.Is(err, &fault.BadRequest) {
			t.Errorf("%+v: %v", n, err)
		}
	}
}

func TestTenantsMadeAtOnceGetDifferentNumbers(t *testing.T) {
	w := newWorld(t)
	numbers := make([]int64, 5)
	var wg sync.WaitGroup
	for i := range numbers {
		wg.Go(func() {
			v, err := w.CreateTenant(w.ctx, identity.NewTenant{Domain: "t" + string(rune('a'+i)), Admin: "admin", Password: "x", Email: "a@b.co"})
			if err != nil {
				t.Error(err)
				return
			}
			numbers[i] = v.Number
		})
	}
	wg.Wait()
	slices.Sort(numbers)
	if !slices.Equal(numbers, []int64{1, 2, 3, 4, 5}) {
		t.Errorf("got %v", numbers)
	}
}

func TestRolesAreTakenFromTheirMembers(t *testing.T) {
	w := newWorld(t)
	if _, err := w.CreateRole(w.ctx, super, "pizza", []string{identity.PermLogin}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateRole(w.ctx, super, "PIZZA", nil); !errors.Is(err, &fault.Exists) {
		t.Errorf("same role in another case: %v", err)
	}
	if _, err := w.CreateUser(w.ctx, super, identity.NewUser{Name: "a", Password: "x", Roles: []string{"pizza", "admin"}}); err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteRole(w.ctx, super, "Pizza"); err != nil {
		t.Fatal(err)
	}
	if u, _ := w.User(w.ctx, super, "a"); !slices.Equal(u.Roles, []string{"admin"}) {
		t.Errorf("roles %q", u.Roles)
	}
	if err := w.DeleteRole(w.ctx, super, "pizza"); !errors.Is(err, &fault.Missing) {
		t.Errorf("twice: %v", err)
	}
	if err := w.DeleteRole(w.ctx, super, "Internal/Creator"); !errors.Is(err, &fault.BadRequest) {
		t.Errorf("default role: %v", err)
	}
}

func TestGuessing(t *testing.T) {
	w := newWorld(t)
	fail := func(n int, user, addr string) {
		t.Helper()
		for range n {
			if err := w.login(user, "wrong", addr); !errors.Is(err, &fault.NotAuthorized) {
				t.Fatalf("got %v", err)
			}
		}
	}
	delayed := func(user, addr string) bool {
		t.Helper()
		return errors.Is(w.login(user, "admin", addr), &fault.LoginDelayed)
	}
	fail(4, "admin", "203.0.113.1")
	if delayed("admin", "203.0.113.1") {
		t.Error("delayed after four failures")
	}
	fail(5, "admin", "203.0.113.1") // the success in between forgot the four
	if !delayed("ADMIN@carbon.super", "203.0.113.1") {
		t.Error("not delayed after five failures")
	}
	if delayed("admin", "203.0.113.2") {
		t.Error("another address is delayed")
	}
	w.add(time.Second)
	if delayed("admin", "203.0.113.1") {
		t.Error("delayed for more than a second")
	}
	fail(5, "nobody", "203.0.113.3")
	if !delayed("nobody", "203.0.113.3") {
		t.Error("guessing at unknown users is not delayed, which tells that they are unknown")
	}
	for i := range 30 {
		w.login("user"+string(rune('a'+i)), "wrong", "203.0.113.4")
	}
	if !delayed("admin", "203.0.113.4") {
		t.Error("an address that tries many accounts is not delayed")
	}
	for i := range 30 {
		w.login("user"+string(rune('a'+i)), "wrong", "127.0.0.1")
	}
	if delayed("admin", "127.0.0.1") {
		t.Error("the loopback address is delayed across accounts")
	}
}

func TestParallelGuessesDoNotEscapeTheDelay(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	tried := 0
	for range 100 {
		wg.Go(func() {
			if err := w.login("admin", "wrong", "203.0.113.1"); errors.Is(err, &fault.NotAuthorized) {
				mu.Lock()
				tried++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if tried > 32 {
		t.Errorf("%d guesses were checked", tried)
	}
}

func TestLockedUsersStayOut(t *testing.T) {
	w := newWorld(t)
	u, err := w.CreateUser(w.ctx, super, identity.NewUser{Name: "a", Password: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.login("a", "x", ""); err != nil {
		t.Fatal(err)
	}
	if err := w.UpdateUser(w.ctx, super, u.ID, func(u *apim.User) error { u.Locked = true; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := w.login("a", "x", ""); !errors.Is(err, &fault.NotAuthorized) {
		t.Errorf("got %v", err)
	}
	if dead, err := w.db.Tokens.Revoked(w.ctx, "", []string{string(u.ID)}, w.now().Add(-time.Second)); err != nil || !dead {
		t.Errorf("the user's tokens live on: %v", err)
	}
	if err := w.DeleteUser(w.ctx, super, u.ID); err != nil {
		t.Fatal(err)
	}
	if err := w.login("a", "x", ""); !errors.Is(err, &fault.NotAuthorized) {
		t.Errorf("got %v", err)
	}
}

func TestPasswordChange(t *testing.T) {
	w := newWorld(t)
	u, err := w.CreateUser(w.ctx, super, identity.NewUser{Name: "a", Password: "x"})
	if err != nil {
		t.Fatal(err)
	}
	a := &apim.Actor{UserID: u.ID, Tenant: super}
	for name, c := range map[string]struct {
		current, next string
		want          error
	}{
		"wrong current": {"y", "z", &fault.PasswordCurrent},
		"empty new":     {"x", "", &fault.PasswordPattern},
		"huge new":      {"x", strings.Repeat("z", 5000), &fault.PasswordPattern},
	} {
		if err := w.ChangePassword(w.ctx, a, c.current, c.next); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := w.ChangePassword(w.ctx, a, "x", "new"); err != nil {
		t.Fatal(err)
	}
	if w.login("a", "x", "") == nil || w.login("a", "new", "") != nil {
		t.Error("the old password works or the new one does not")
	}
}
