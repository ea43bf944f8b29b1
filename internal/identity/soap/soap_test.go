package soap

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/identity"
	"github.com/cardea-apim/cardea/internal/store"
)

// world is the services over a directory with the platform's own tenant.
type world struct {
	t   *testing.T
	dir *identity.Directory
	db  *store.DB
	srv *Server
}

// clientsOf stores clients without the key manager's part.
type clientsOf struct {
	*store.Table[apim.Client, apim.ClientID]
}

func (c clientsOf) Client(ctx context.Context, s apim.Scope, id apim.ClientID) (*apim.Client, error) {
	return c.Get(ctx, s, id)
}

func (c clientsOf) CreateClient(ctx context.Context, s apim.Scope, cl *apim.Client) (string, error) {
	cl.Tenant = s.Tenant()
	return "the-secret", c.Create(ctx, s, cl)
}

func (c clientsOf) UpdateClient(ctx context.Context, s apim.Scope, cl *apim.Client) error {
	return c.Update(ctx, s, cl)
}

func (c clientsOf) DeleteClient(ctx context.Context, s apim.Scope, id apim.ClientID) error {
	return c.Delete(ctx, s, id)
}

func (c clientsOf) Secret(ctx context.Context, s apim.Scope, id apim.ClientID) (string, error) {
	_, err := c.Get(ctx, s, id)
	return "the-secret", err
}

func (c clientsOf) RegenerateSecret(ctx context.Context, s apim.Scope, id apim.ClientID) (string, error) {
	_, err := c.Get(ctx, s, id)
	return "new-secret", err
}

func (clientsOf) Offered() []string { return []string{"client_credentials"} }

func newWorld(t *testing.T) *world {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "db"), store.Options{Sweep: -1})
	must(t, err)
	t.Cleanup(func() { db.Close() })
	w := &world{t: t, db: db}
	w.dir, err = identity.New(identity.Options{
		Tenants: db.Tenants, Confs: db.TenantConfs, Users: db.Users, Roles: db.Roles, Tokens: db.Tokens,
		InTx: db.InTx, Hashing: identity.Hashing{Memory: 64, Time: 1, Threads: 1},
	})
	must(t, err)
	must(t, w.dir.Bootstrap(t.Context(), identity.BootstrapOptions{AdminPassword: "admin"}))
	w.srv, err = New(Options{
		Directory: w.dir, Clients: clientsOf{db.Clients}, Table: db.Clients, Version: "test",
		Authenticate: func(ctx context.Context, r *http.Request) (*apim.Actor, error) {
			name, password, ok := r.BasicAuth()
			if !ok {
				return nil, &fault.NotAuthorized
			}
			u, err := w.dir.Authenticate(ctx, name, apim.SuperTenant, password, "192.0.2.1")
			if err != nil {
				return nil, err
			}
			return &apim.Actor{User: identity.ShowName(u.Name, u.Tenant), UserID: u.ID, Tenant: u.Tenant, Roles: w.dir.RolesOf(u)}, nil
		},
	})
	must(t, err)
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const admin = "admin:admin"

// spaces are the namespaces that clients send, P for the operation.
var spaces = map[string]string{
	"TenantMgtAdminService":         "http://services.mgt.tenant.carbon.wso2.org",
	"RemoteUserStoreManagerService": "http://service.ws.um.carbon.wso2.org",
	"UserAdmin":                     "http://org.apache.axis2/xsd",
	"OAuthAdminService":             "http://org.apache.axis2/xsd",
}

func envelope(space, body string) string {
	return `<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:P="` + space +
		`" xmlns:b="http://beans.common.stratos.carbon.wso2.org/xsd"><soapenv:Header/><soapenv:Body>` + body + `</soapenv:Body></soapenv:Envelope>`
}

// post sends body to a path with a SOAPAction.
func (w *world) post(who, path, action, body string) (int, string) {
	w.t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	if name, password, ok := strings.Cut(who, ":"); ok {
		r.SetBasicAuth(name, password)
	}
	r.Header.Set("Content-Type", "text/xml;charset=UTF-8")
	if action != "" {
		r.Header.Set("SOAPAction", action)
	}
	rec := httptest.NewRecorder()
	w.srv.ServeHTTP(rec, r)
	b, _ := io.ReadAll(rec.Body)
	return rec.Code, string(b)
}

// call performs an operation of a service; args are its children.
func (w *world) call(who, service, op, args string) (int, string) {
	w.t.Helper()
	return w.post(who, "/services/"+service, "urn:"+op, envelope(spaces[service], "<P:"+op+">"+args+"</P:"+op+">"))
}

// want performs an operation of the administrator and looks for parts of the answer.
func (w *world) want(status int, service, op, args string, parts ...string) {
	w.t.Helper()
	code, body := w.call(admin, service, op, args)
	if code != status {
		w.t.Errorf("%s.%s: %d %s, want %d", service, op, code, body, status)
	}
	for _, p := range parts {
		if !strings.Contains(body, p) {
			w.t.Errorf("%s.%s: %s lacks %s", service, op, body, p)
		}
	}
}

func tenant(domain string) string {
	return `<P:tenantInfoBean><b:active>true</b:active><b:admin>sam</b:admin><b:adminPassword>sam pass</b:adminPassword><b:email>sam@` + "shop.example" +
		`</b:email><b:firstname>S</b:firstname><b:lastname>M</b:lastname><b:tenantDomain>` + domain + `</b:tenantDomain></P:tenantInfoBean>`
}

const (
	tenantsName = "TenantMgtAdminService"
	usersName   = "RemoteUserStoreManagerService"
)

func TestTenantsAsAutomationMakesThem(t *testing.T) {
	w := newWorld(t)
	w.want(200, tenantsName, "getTenant", "<P:tenantDomain>shop.example</P:tenantDomain>", ":tenantId>0</")
	// The body says addSkeletonTenant, the SOAPAction addTenant: the action decides.
	code, body := w.post(admin, "/services/TenantMgtAdminService.TenantMgtAdminServiceHttpsSoap11Endpoint/", "urn:addTenant",
		envelope(spaces[tenantsName], "<P:addSkeletonTenant>"+tenant("shop.example")+"</P:addSkeletonTenant>"))
	if code != 200 || !strings.Contains(body, "<ns:addTenantResponse") || !strings.Contains(body, "<ns:return>") {
		t.Fatalf("%d %s", code, body)
	}
	if _, err := w.dir.Authenticate(t.Context(), "sam@shop.example", apim.SuperTenant, "sam pass", ""); err != nil {
		t.Errorf("the tenant's administrator cannot sign in: %v", err)
	}
	code, body = w.call(admin, tenantsName, "getTenant", "<P:tenantDomain>shop.example</P:tenantDomain>")
	if code != 200 || strings.Contains(body, ">0</") || !strings.Contains(body, ":tenantDomain>shop.example</") || strings.Contains(body, "sam pass") {
		t.Errorf("%d %s", code, body)
	}
	w.want(200, tenantsName, "retrieveTenants", "", ":tenantDomain>shop.example</")
	w.want(200, tenantsName, "retrievePaginatedTenants", "<P:pageNumber>0</P:pageNumber>", ":numberOfPages>1</", ":tenantDomain>shop.example</")
	w.want(200, tenantsName, "checkDomainAvailability", "<P:domainName>shop.example</P:domainName>", "<ns:return>false</ns:return>")
	w.want(200, tenantsName, "checkDomainAvailability", "<P:domainName>free.example</P:domainName>", "<ns:return>true</ns:return>")
	w.want(500, tenantsName, "addTenant", tenant("shop.example"), "A tenant with same domain already exist")
	w.want(500, tenantsName, "addTenant", tenant("Abc.com"), "Abc.com contains one or more illegal characters")
	w.want(500, tenantsName, "addTenant", strings.Replace(tenant("x.example"), "sam@shop.example", "nobody", 1), "Invalid email is provided.")
	w.want(500, tenantsName, "addTenant", "", "<faultcode>soapenv:Server</faultcode>")
	w.want(200, tenantsName, "deactivateTenant", "<P:tenantDomain>shop.example</P:tenantDomain>", "deactivateTenantResponse")
	if _, err := w.dir.Authenticate(t.Context(), "sam@shop.example", apim.SuperTenant, "sam pass", ""); err == nil {
		t.Error("users of an inactive tenant sign in")
	}
	w.want(200, tenantsName, "activateTenant", "<P:tenantDomain>shop.example</P:tenantDomain>")
	w.want(200, tenantsName, "updateTenant", strings.Replace(tenant("shop.example"), "sam pass", "other", 1))
	if _, err := w.dir.Authenticate(t.Context(), "sam@shop.example", apim.SuperTenant, "other", ""); err != nil {
		t.Errorf("the new password does not work: %v", err)
	}
	w.want(500, tenantsName, "updateTenant", tenant("carbon.super"))
	w.want(500, tenantsName, "deactivateTenant", "<P:tenantDomain>carbon.super</P:tenantDomain>")
	w.want(500, tenantsName, "deleteTenant", "<P:tenantDomain>shop.example</P:tenantDomain>", "disabled")
}

func TestUsersAsAutomationMakesThem(t *testing.T) {
	w := newWorld(t)
	user := "<P:userName>anna</P:userName>"
	w.want(202, usersName, "addUser", user+"<P:credential> pass </P:credential><P:roleList>Internal/subscriber</P:roleList><P:roleList>Internal/creator</P:roleList><P:requirePasswordChange>false</P:requirePasswordChange>")
	login := func(password string) error {
		_, err := w.dir.Authenticate(t.Context(), "anna", apim.SuperTenant, password, "")
		return err
	}
	if err := login(" pass "); err != nil {
		t.Fatalf("the password does not work: %v", err)
	}
	w.want(202, usersName, "addUser", user+"<P:credential>other</P:credential>") // a duplicate is only logged
	w.want(200, usersName, "isExistingUser", user, "<ns:return>true</ns:return>")
	w.want(200, usersName, "isExistingUser", "<P:userName>nobody</P:userName>", "<ns:return>false</ns:return>")
	w.want(200, usersName, "isExistingUser", "<P:userName>PRIMARY/anna</P:userName>", "<ns:return>true</ns:return>")
	w.want(500, usersName, "isExistingUser", "<P:userName>SECONDARY.COM/anna</P:userName>", "Invalid Domain Name")
	w.want(200, usersName, "getRoleListOfUser", user, "<ns:return>Internal/creator</ns:return>", "<ns:return>Internal/everyone</ns:return>")
	w.want(200, usersName, "getRoleListOfUser", "<P:userName>nobody</P:userName>", "<ns:return>Internal/everyone</ns:return>")
	w.want(200, usersName, "listUsers", "<P:filter>*</P:filter><P:maxItemLimit>-1</P:maxItemLimit>", "<ns:return>admin</ns:return><ns:return>anna</ns:return>")
	if _, body := w.call(admin, usersName, "listUsers", "<P:filter>ad*n</P:filter><P:maxItemLimit>1</P:maxItemLimit>"); strings.Contains(body, "anna") || !strings.Contains(body, "admin") {
		t.Errorf("filter: %s", body)
	}
	perm := "<P:permissions><P:action>ui.execute</P:action><P:resourceId>/permission/admin/login</P:resourceId></P:permissions>"
	w.want(202, usersName, "addRole", "<P:roleName>bakers</P:roleName><P:userList>anna</P:userList>"+perm)
	w.want(202, usersName, "addRole", "<P:roleName>bakers</P:roleName>")
	w.want(200, usersName, "getUserListOfRole", "<P:roleName>bakers</P:roleName>", "<ns:return>anna</ns:return>")
	w.want(200, usersName, "isExistingRole", "<P:roleName>bakers</P:roleName>", "<ns:return>true</ns:return>")
	w.want(200, usersName, "getRoleNames", "", "<ns:return>bakers</ns:return>")
	w.want(202, usersName, "updateRoleListOfUser", user+"<P:deletedRoles>bakers</P:deletedRoles><P:newRoles>Internal/publisher</P:newRoles>")
	w.want(202, usersName, "updateUserListOfRole", "<P:roleName>bakers</P:roleName><P:newUsers>anna</P:newUsers>")
	u, err := w.dir.User(t.Context(), apim.SuperTenant, "anna")
	must(t, err)
	if got := strings.Join(u.Roles, " "); got != "Internal/subscriber Internal/creator Internal/publisher bakers" {
		t.Errorf("roles %s", got)
	}
	w.want(202, usersName, "setUserClaimValue", user+"<P:claimURI>http://wso2.org/claims/emailaddress</P:claimURI><P:claimValue>a&amp;b@example.org</P:claimValue><P:profileName>default</P:profileName>")
	w.want(200, usersName, "getUserClaimValue", user+"<P:claim>http://wso2.org/claims/emailaddress</P:claim>", "<ns:return>a&amp;b@example.org</ns:return>")
	w.want(202, usersName, "setUserClaimValues", user+`<P:claims><claimURI>http://wso2.org/claims/country</claimURI><value>Poland</value></P:claims>`)
	w.want(200, usersName, "getUserClaimValues", user, ":value>Poland</")
	w.want(202, usersName, "updateCredentialByAdmin", user+"<P:newCredential>next</P:newCredential>")
	if login(" pass ") == nil || login("next") != nil {
		t.Error("the password was not changed")
	}
	w.want(200, usersName, "authenticate", user+"<P:credential>next</P:credential>", "<ns:return>true</ns:return>")
	w.want(200, usersName, "authenticate", user+"<P:credential>wrong</P:credential>", "<ns:return>false</ns:return>")
	lock := "<P:claimURI>http://wso2.org/claims/identity/accountLocked</P:claimURI><P:claimValue>true</P:claimValue>"
	w.want(202, usersName, "setUserClaimValue", user+lock)
	if login("next") == nil {
		t.Error("a locked user signs in")
	}
	w.want(202, usersName, "setUserClaimValue", user+strings.Replace(lock, ">true<", ">false<", 1))
	if err := login("next"); err != nil {
		t.Error(err)
	}
	w.want(202, usersName, "deleteRole", "<P:roleName>bakers</P:roleName>")
	w.want(202, usersName, "deleteUser", user)
	w.want(200, usersName, "isExistingUser", user, "<ns:return>false</ns:return>")
}

func TestUserAdmin(t *testing.T) {
	w := newWorld(t)
	w.want(200, "UserAdmin", "addUser", "<P:userName>bert</P:userName><P:password>bert</P:password><P:roles>Internal/publisher</P:roles><P:roles>Internal/creator</P:roles>", "addUserResponse")
	w.want(500, "UserAdmin", "addUser", "<P:userName>bert</P:userName><P:password>bert</P:password>", "already")
	w.want(500, "UserAdmin", "addUser", "<P:userName>SECONDARY/x</P:userName><P:password>x</P:password>", "Invalid Domain Name")
	w.want(500, "UserAdmin", "addUser", "<P:userName>carl</P:userName><P:password>x</P:password><P:roles>none</P:roles>")
	w.want(200, "UserAdmin", "listUsers", "<P:filter>b*</P:filter><P:maxLimit>10</P:maxLimit>", "<ns:return>bert</ns:return>")
	w.want(200, "UserAdmin", "listAllUsers", "<P:filter>*</P:filter><P:maxLimit>10</P:maxLimit>", ":itemName>bert</")
	w.want(200, "UserAdmin", "getRolesOfUser", "<P:userName>bert</P:userName><P:filter>*</P:filter><P:limit>-1</P:limit>", ":itemName>Internal/creator</")
	w.want(200, "UserAdmin", "addRole", "<P:roleName>cooks</P:roleName><P:userList>bert</P:userList><P:permissions>/permission/admin/login</P:permissions><P:isSharedRole>false</P:isSharedRole>")
	w.want(500, "UserAdmin", "addRole", "<P:roleName>cooks</P:roleName>", "already")
	w.want(200, "UserAdmin", "deleteRole", "<P:roleName>cooks</P:roleName>")
	if code, body := w.call("bert:bert", "UserAdmin", "changePasswordByUser", "<P:userName>bert</P:userName><P:oldPassword>bert</P:oldPassword><P:newPassword>next</P:newPassword>"); code != 200 {
		t.Errorf("%d %s", code, body)
	}
	if code, body := w.call("bert:next", "UserAdmin", "changePasswordByUser", "<P:userName>admin</P:userName><P:oldPassword>admin</P:oldPassword><P:newPassword>mine</P:newPassword>"); code != 500 {
		t.Errorf("another's password: %d %s", code, body)
	}
	w.want(200, "UserAdmin", "deleteUser", "<P:userName>bert</P:userName>")
}

func TestOAuthApplications(t *testing.T) {
	w := newWorld(t)
	root, err := w.dir.User(t.Context(), apim.SuperTenant, "admin")
	must(t, err)
	cl := &apim.Client{ID: "key1", Name: "shop", Owner: "admin", OwnerID: root.ID, Grants: []string{"client_credentials"}}
	cl.Tenant = apim.SuperTenant
	must(t, w.db.Clients.Create(t.Context(), apim.In(apim.SuperTenant), cl))
	const svc, key = "OAuthAdminService", "<P:consumerKey>key1</P:consumerKey>"
	w.want(200, svc, "getOAuthApplicationData", key, ":applicationName>shop</", ":oauthConsumerSecret>the-secret</")
	w.want(200, svc, "getOAuthApplicationDataByAppName", "<P:appName>shop</P:appName>", ":oauthConsumerKey>key1</")
	w.want(200, svc, "getAllOAuthApplicationData", "", ":oauthConsumerKey>key1</")
	w.want(200, svc, "updateConsumerAppState", key+"<P:newState>REVOKED</P:newState>")
	w.want(200, svc, "getOauthApplicationState", key, "<ns:return>REVOKED</ns:return>")
	w.want(200, svc, "updateConsumerAppState", key+"<P:newState>ACTIVE</P:newState>")
	w.want(200, svc, "updateOauthSecretKey", key, "new-secret")
	w.want(500, svc, "updateConsumerAppState", key+"<P:newState>x</P:newState>")
	w.want(500, svc, "getOAuthApplicationData", "<P:consumerKey>none</P:consumerKey>")
	w.want(200, svc, "registerOAuthApplicationData", "<P:application><applicationName>made</applicationName><grantTypes>client_credentials</grantTypes><userAccessTokenExpiryTime>60</userAccessTokenExpiryTime></P:application>", ":userAccessTokenExpiryTime>60</")
	w.want(200, svc, "updateConsumerApplication", "<P:consumerAppDTO><oauthConsumerKey>key1</oauthConsumerKey><callbackUrl>https://x.example/cb</callbackUrl></P:consumerAppDTO>")
	w.want(200, svc, "getOAuthApplicationData", key, ":callbackUrl>https://x.example/cb</")
	w.want(200, tenantsName, "addTenant", tenant("shop.example"))
	for _, op := range []string{"getOAuthApplicationData", "updateOauthSecretKey", "removeOAuthApplicationData"} {
		if code, body := w.call("sam@shop.example:sam pass", svc, op, key); code != 500 || strings.Contains(body, "shop<") || strings.Contains(body, "secret<") {
			t.Errorf("%s of another tenant: %d %s", op, code, body)
		}
	}
	w.want(200, svc, "removeOAuthApplicationData", key)
	w.want(500, svc, "getOAuthApplicationData", key)
}

func TestWhoIsLetIn(t *testing.T) {
	w := newWorld(t)
	w.want(200, tenantsName, "addTenant", tenant("shop.example"))
	w.want(202, usersName, "addUser", "<P:userName>anna</P:userName><P:credential>anna</P:credential>")
	const sam = "sam@shop.example:sam pass"
	for _, c := range []struct {
		who, service, op, args string
		want                   int
		text                   string
	}{
		{"", usersName, "listUsers", "", 401, ""},
		{"admin:wrong", usersName, "listUsers", "", 401, ""},
		{"anna:anna", usersName, "listUsers", "", 500, "Access Denied"},
		{"anna:anna", usersName, "addUser", "<P:userName>x</P:userName><P:credential>x</P:credential>", 500, "Access Denied"},
		{"anna:anna", tenantsName, "retrieveTenants", "", 500, "Access Denied"},
		{sam, tenantsName, "retrieveTenants", "", 500, "Invalid data."},
		{sam, tenantsName, "addTenant", tenant("y.example"), 500, "Invalid data."},
		{sam, usersName, "isExistingUser", "<P:userName>anna</P:userName>", 200, ">false<"},
		{sam, usersName, "deleteUser", "<P:userName>anna</P:userName>", 202, ""},
		{sam, usersName, "listUsers", "<P:filter>*</P:filter>", 200, "<ns:return>sam</ns:return></ns:"},
	} {
		code, body := w.call(c.who, c.service, c.op, c.args)
		if code != c.want || !strings.Contains(body, c.text) {
			t.Errorf("%s %s.%s: %d %s, want %d %s", c.who, c.service, c.op, code, body, c.want, c.text)
		}
	}
	w.want(200, usersName, "isExistingUser", "<P:userName>anna</P:userName>", ">true<")
	list := envelope(spaces[usersName], "<P:listUsers/>")
	for path, want := range map[string]int{"/t/shop.example/services/" + usersName: 200, "/t/carbon.super/services/" + usersName: 401} {
		if code, body := w.post(sam, path, "urn:listUsers", list); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, body, want)
		}
	}
}

func TestMalformedEnvelopes(t *testing.T) {
	w := newWorld(t)
	space := spaces[usersName]
	for name, body := range map[string]string{
		"nothing":         "",
		"no XML":          "{}",
		"unclosed":        "<a>",
		"two roots":       "<a/><b/>",
		"no envelope":     "<a/>",
		"empty body":      envelope(space, ""),
		"document type":   `<!DOCTYPE x [<!ENTITY e "boom">]>` + envelope(space, "<P:listUsers><P:filter>&e;</P:filter></P:listUsers>")[21:],
		"external entity": `<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>`,
		"unknown entity":  envelope(space, "<P:listUsers><P:filter>&e;</P:filter></P:listUsers>"),
		"depth":           envelope(space, strings.Repeat("<a>", 100)+strings.Repeat("</a>", 100)),
		"elements":        envelope(space, "<P:listUsers>"+strings.Repeat("<a/>", maxNodes)+"</P:listUsers>"),
		"namespace":       envelope("http://org.apache.axis2/xsd", "<P:listUsers/>"),
		"operation":       envelope(space, "<P:nothing/>"),
		"encoding":        `<?xml version="1.0" encoding="UTF-7"?><a/>`,
	} {
		code, answer := w.post(admin, "/services/"+usersName, "", body)
		if code != 500 || !strings.Contains(answer, "<soapenv:Fault>") || strings.Contains(answer, "boom") {
			t.Errorf("%s: %d %s", name, code, answer)
		}
	}
	if code, _ := w.post(admin, "/services/"+usersName, "urn:listUsers", envelope(space, "<P:listUsers>"+strings.Repeat(" ", maxBody)+"</P:listUsers>")); code != 413 {
		t.Errorf("too large: %d", code)
	}
	if code, body := w.post(admin, "/services/"+usersName, "", envelope("http://org.apache.axis2/xsd", "<P:listUsers/>")); !strings.Contains(body, "namespace mismatch require "+space) {
		t.Errorf("%d %s", code, body)
	}
	if code, _ := w.post(admin, "/services/WebappAdmin", "urn:x", envelope(space, "<P:x/>")); code != 404 {
		t.Errorf("unknown service: %d", code)
	}
	r := httptest.NewRequest(http.MethodPost, "/services/"+usersName, strings.NewReader(envelope(space, "<P:listUsers/>")))
	r.SetBasicAuth("admin", "admin")
	r.Header.Set("Content-Type", "text/plain") // what a form of another site can send
	rec := httptest.NewRecorder()
	w.srv.ServeHTTP(rec, r)
	if rec.Code != 415 {
		t.Errorf("text/plain: %d", rec.Code)
	}
	rec = httptest.NewRecorder()
	w.srv.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/services/Version", nil))
	if rec.Code != 200 {
		t.Errorf("Version: %d", rec.Code)
	}
}
