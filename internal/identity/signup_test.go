package identity_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/identity"
)

func TestSignUpFollowsTheTenantsConfiguration(t *testing.T) {
	w := newWorld(t)
	doc, err := w.Conf(w.ctx, super)
	if err != nil {
		t.Fatal(err)
	}
	const shipped = `"SignUpRoles":["Internal/subscriber"]`
	for i, c := range []struct {
		conf  string
		roles string
		want  error
	}{
		{doc, "Internal/subscriber Internal/selfsignup", nil},
		{strings.Replace(doc, shipped, `"SignUpRoles":["Internal/publisher","none"]`, 1), "Internal/publisher Internal/selfsignup", nil},
		{strings.Replace(doc, shipped, `"SignUpRoles":["admin"]`, 1), "Internal/selfsignup", nil}, // never an administrator
		{strings.Replace(doc, shipped, `"EnableSignup":false,`+shipped, 1), "", &fault.NotPermitted},
		{strings.Replace(doc, `"SelfSignUp"`, `"Other"`, 1), "", &fault.NotPermitted},
	} {
		if i > 0 && c.conf == doc {
			t.Fatal("the shipped configuration of sign-up changed")
		}
		if err := w.SetConf(w.ctx, super, c.conf); err != nil {
			t.Fatal(err)
		}
		u, err := w.SignUp(w.ctx, super, identity.NewUser{Name: "user" + string(rune('a'+i)), Password: "pass"})
		if c.want != nil {
			if !errors.Is(err, c.want) {
				t.Errorf("%d: %v, want %v", i, err, c.want)
			}
			continue
		}
		if err != nil || strings.Join(u.Roles, " ") != c.roles {
			t.Errorf("%d: %+v, %v, want %s", i, u, err, c.roles)
		}
	}
}
