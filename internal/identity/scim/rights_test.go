package scim_test

import (
	"testing"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/identity"
)

func TestTenantsDoNotSeeOneAnother(t *testing.T) {
	w := newWorld(t)
	anna := w.user("anna")
	group := w.ok(201, "POST", "/scim2/Groups", `{"displayName":"bakers","members":[{"value":"`+anna+`"}]}`)["id"].(string)
	patch := `{"Operations":[{"op":"add","path":"externalId","value":"x"}]}`
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/scim2/Users/" + anna, "", 404},
		{"PUT", "/scim2/Users/" + anna, `{"userName":"anna"}`, 404},
		{"PATCH", "/scim2/Users/" + anna, patch, 404},
		{"DELETE", "/scim2/Users/" + anna, "", 404},
		{"GET", "/scim2/Groups/" + group, "", 404},
		{"PUT", "/scim2/Groups/" + group, `{"displayName":"bakers"}`, 404},
		{"PATCH", "/scim2/Roles/" + group, `{"Operations":[{"op":"remove","path":"users"}]}`, 404},
		{"DELETE", "/scim2/Groups/" + group, "", 404},
		{"POST", "/scim2/Groups", `{"displayName":"thieves","members":[{"value":"` + anna + `"}]}`, 400},
		{"GET", "/t/carbon.super/scim2/Users", "", 401},
		{"POST", "/t/carbon.super/scim2/Users", `{"userName":"x","password":"x"}`, 401},
	} {
		if code, d := w.as(shop, c.method, c.path, c.body); code != c.want {
			t.Errorf("%s %s: %d %v, want %d", c.method, c.path, code, d, c.want)
		}
	}
	if code, _ := w.as(admin, "GET", "/t/shop.example/scim2/Users", ""); code != 401 {
		t.Errorf("another tenant's administrator is let in: %d", code)
	}
	code, d := w.as(shop, "GET", "/t/shop.example/scim2/Users", "")
	if code != 200 || d["totalResults"] != 1.0 || at(d, "Resources", 0, "meta", "location") == nil {
		t.Errorf("%d %v", code, d)
	}
	if code, d := w.as(shop, "POST", "/t/shop.example/scim2/Users", `{"userName":"anna","password":"other"}`); code != 201 {
		t.Errorf("the name of another tenant's user is taken: %d %v", code, d)
	}
}

func TestOnlyWhoMay(t *testing.T) {
	w := newWorld(t)
	anna := w.user("anna") // has no role
	create := `{"userName":"x","password":"x"}`
	for _, c := range []struct {
		who, method, path, body string
		want                    int
	}{
		{"", "GET", "/scim2/Users", "", 401},
		{"admin:wrong", "GET", "/scim2/Users", "", 401},
		{"anna:margherita", "GET", "/scim2/Users", "", 403},
		{"anna:margherita", "POST", "/scim2/Users", create, 403},
		{"anna:margherita", "GET", "/scim2/Groups", "", 403},
		{"anna:margherita", "DELETE", "/scim2/Users/" + anna, "", 403},
		// A scope opens nothing that the user's roles do not.
		{"anna:margherita:internal_user_mgt_list apim:admin", "GET", "/scim2/Users", "", 403},
		// And a token opens nothing that its scopes do not.
		{"admin:admin:openid", "GET", "/scim2/Users", "", 403},
		{"admin:admin:internal_user_mgt_list", "GET", "/scim2/Users", "", 200},
		{"admin:admin:internal_user_mgt_list", "POST", "/scim2/Users", create, 403},
		{"admin:admin:apim:admin", "GET", "/scim2/Groups", "", 200},
		{"admin:admin:internal_user_mgt_create", "POST", "/scim2/Bulk", `{"Operations":[{"method":"DELETE","path":"/Users/x"}]}`, 403},
		// Everybody has Me, but not the state of the account.
		{"anna:margherita", "GET", "/scim2/Me", "", 200},
		{"anna:margherita", "PATCH", "/scim2/Me", `{"Operations":[{"op":"replace","path":"nickName","value":"An"}]}`, 200},
		{"anna:margherita", "PATCH", "/scim2/Me", `{"Operations":[{"op":"replace","path":"active","value":false}]}`, 403},
		{"anna:margherita:internal_login", "PATCH", "/scim2/Me", `{"Operations":[{"op":"replace","path":"password","value":"stolen"}]}`, 403},
		{"anna:margherita:other", "GET", "/scim2/Me", "", 403},
		{"anna:margherita", "DELETE", "/scim2/Me", "", 405},
	} {
		if code, d := w.as(c.who, c.method, c.path, c.body); code != c.want {
			t.Errorf("%s %s %s: %d %v, want %d", c.who, c.method, c.path, code, d, c.want)
		}
	}
	u, err := w.dir.User(t.Context(), apim.SuperTenant, "admin")
	must(t, err)
	w.ok(400, "DELETE", "/scim2/Users/"+string(u.ID), "")
}

// Who may manage users is not by that an administrator.
func TestNobodyRisesAboveThemselves(t *testing.T) {
	w := newWorld(t)
	_, err := w.dir.CreateRole(t.Context(), apim.SuperTenant, "desk", []string{identity.PermUsers[:len(identity.PermUsers)-1], identity.PermRoles[:len(identity.PermRoles)-1]})
	must(t, err)
	_, err = w.dir.CreateUser(t.Context(), apim.SuperTenant, identity.NewUser{Name: "dora", Password: "dora", Roles: []string{"desk"}})
	must(t, err)
	root, err := w.dir.User(t.Context(), apim.SuperTenant, "admin")
	must(t, err)
	dora, err := w.dir.User(t.Context(), apim.SuperTenant, "dora")
	must(t, err)
	role, err := w.dir.Role(t.Context(), apim.SuperTenant, "admin")
	must(t, err)
	own, err := w.dir.Role(t.Context(), apim.SuperTenant, "desk")
	must(t, err)
	const who = "dora:dora"
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"PATCH", "/scim2/Users/" + string(root.ID), `{"Operations":[{"op":"replace","path":"password","value":"mine"}]}`, 403},
		{"DELETE", "/scim2/Users/" + string(root.ID), "", 403},
		{"PATCH", "/scim2/Groups/" + string(role.ID), `{"Operations":[{"op":"add","path":"members","value":[{"value":"` + string(dora.ID) + `"}]}]}`, 403},
		{"PATCH", "/scim2/Roles/" + string(own.ID), `{"Operations":[{"op":"add","path":"permissions","value":["/permission"]}]}`, 403},
		{"POST", "/scim2/Roles", `{"displayName":"queen","permissions":["/permission/admin/manage"],"users":[{"value":"` + string(dora.ID) + `"}]}`, 403},
		{"POST", "/scim2/Users", `{"userName":"helper","password":"helper"}`, 201},
		{"POST", "/scim2/Groups", `{"displayName":"guests"}`, 201},
	} {
		if code, d := w.as(who, c.method, c.path, c.body); code != c.want {
			t.Errorf("%s %s: %d %v, want %d", c.method, c.path, code, d, c.want)
		}
	}
	if _, err := w.dir.Authenticate(t.Context(), "admin", apim.SuperTenant, "admin", ""); err != nil {
		t.Errorf("the administrator's password changed: %v", err)
	}
}
