package soap

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/identity"
)

const clientBean = "http://dto.oauth.identity.carbon.wso2.org/xsd"

func appOp(what string, run func(*call) ([]any, error)) operation {
	return operation{run: run, permission: identity.PermApps + what, scope: "internal_application_mgt_" + what}
}

var oauthService = &service{
	space: axis,
	ops: map[string]operation{
		"getOAuthApplicationData":          appOp("view", getClient),
		"getOAuthApplicationDataByAppName": appOp("view", getClientByName),
		"getAllOAuthApplicationData":       appOp("view", listClients),
		"getOauthApplicationState":         appOp("view", clientState),
		"getAllowedGrantTypes":             appOp("view", func(c *call) ([]any, error) { return each(c.s.o.Clients.Offered()), nil }),
		"registerOAuthApplicationData":     appOp("create", addClient),
		"updateConsumerApplication":        appOp("update", updateClient),
		"updateConsumerAppState":           appOp("update", setClientState),
		"updateOauthSecretKey":             appOp("update", newSecret),
		"removeOAuthApplicationData":       appOp("delete", removeClient),
	},
}

func (c *call) scope() apim.Scope { return apim.In(c.desk.Tenant()) }

func (c *call) client(key string) (*apim.Client, error) {
	cl, err := c.s.o.Clients.Client(c.ctx, c.scope(), apim.ClientID(key))
	if key == "" || errors.Is(err, &fault.Missing) {
		return nil, fault.Missing.With("Error while retrieving the app information using consumer key. A valid OAuth client could not be found for client_id: " + clip(key))
	}
	return cl, err
}

func clip(s string) string { return s[:min(len(s), 255)] }

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// clientInfo renders a client; its secret only where the call is about it.
func clientInfo(cl *apim.Client, secret string) *bean {
	state := "ACTIVE"
	if cl.Inactive {
		state = "REVOKED"
	}
	return &bean{clientBean, "OAuthConsumerAppDTO", []field{
		{"OAuthVersion", "OAuth-2.0"},
		{"applicationAccessTokenExpiryTime", seconds(cl.AppExpiry)},
		{"applicationName", cl.Name},
		{"audiences", cl.Audiences},
		{"bypassClientCredentials", cl.Public},
		{"callbackUrl", orNil(cl.Callback)},
		{"grantTypes", strings.Join(cl.Grants, " ")},
		{"idTokenExpiryTime", seconds(cl.IDExpiry)},
		{"oauthConsumerKey", string(cl.ID)},
		{"oauthConsumerSecret", orNil(secret)},
		{"pkceMandatory", cl.PKCEMandatory},
		{"pkceSupportPlain", cl.PKCEPlain},
		{"refreshTokenExpiryTime", seconds(cl.RefreshExpiry)},
		{"state", state},
		{"tokenType", orNil(cl.TokenType)},
		{"userAccessTokenExpiryTime", seconds(cl.UserExpiry)},
		{"username", cl.Owner},
	}}
}

// withSecret renders a client with its secret, when the caller may see it.
func (c *call) withSecret(cl *apim.Client) (*bean, error) {
	secret := ""
	if c.owns(cl) {
		var err error
		if secret, err = c.s.o.Clients.Secret(c.ctx, c.scope(), cl.ID); err != nil && !errors.Is(err, &fault.Missing) {
			return nil, err
		}
	}
	return clientInfo(cl, secret), nil
}

// owns reports whether the caller is the client's owner or the tenant's administrator.
func (c *call) owns(cl *apim.Client) bool {
	if cl.OwnerID == c.desk.Actor().UserID {
		return true
	}
	ok, err := c.desk.Permitted(c.ctx, identity.PermAll, "internal_application_mgt_view")
	return err == nil && ok
}

func (c *call) own(key string) (*apim.Client, error) {
	cl, err := c.client(key)
	if err == nil && !c.owns(cl) {
		return nil, fault.NotPermitted.With("Access Denied. The application belongs to another user")
	}
	return cl, err
}

func getClient(c *call) ([]any, error) {
	cl, err := c.client(c.in.str("consumerKey"))
	if err != nil {
		return nil, err
	}
	b, err := c.withSecret(cl)
	return []any{b}, err
}

func getClientByName(c *call) ([]any, error) {
	cl, err := c.s.o.Table.First(c.ctx, c.scope(), apim.Where("name", c.in.str("appName")))
	if errors.Is(err, &fault.Missing) {
		return nil, fault.Missing.With("Error while retrieving the app information by app name: " + clip(c.in.str("appName")))
	}
	if err != nil {
		return nil, err
	}
	b, err := c.withSecret(cl)
	return []any{b}, err
}

func listClients(c *call) ([]any, error) {
	name, _ := identity.SplitName(c.desk.Actor().User, apim.SuperTenant)
	page, err := c.s.o.Table.List(c.ctx, c.scope(), apim.Query{
		Sort: "name", Limit: maxNames, Where: []apim.Cond{{Col: "owner", Op: apim.EqFold, Value: name}},
	})
	if err != nil {
		return nil, err
	}
	var out []any
	for _, cl := range page.Items {
		out = append(out, clientInfo(cl, ""))
	}
	return out, nil
}

func clientState(c *call) ([]any, error) {
	cl, err := c.client(c.in.str("consumerKey"))
	if err != nil {
		return nil, err
	}
	if cl.Inactive {
		return []any{"REVOKED"}, nil
	}
	return []any{"ACTIVE"}, nil
}

// fill takes from a bean what it says.
func fill(cl *apim.Client, b *node) error {
	if b.kid("callbackUrl") != nil {
		cl.Callback = b.str("callbackUrl")
	}
	if b.kid("grantTypes") != nil {
		cl.Grants = strings.Fields(b.str("grantTypes"))
		for _, g := range cl.Grants {
			if len(g) > 255 {
				return fault.BadRequest.With("the name of a grant type is too long")
			}
		}
	}
	for name, to := range map[string]*bool{"pkceMandatory": &cl.PKCEMandatory, "pkceSupportPlain": &cl.PKCEPlain, "bypassClientCredentials": &cl.Public} {
		switch strings.ToLower(b.str(name)) {
		case "true", "1":
			*to = true
		case "false", "0":
			*to = false
		}
	}
	for name, to := range map[string]*time.Duration{
		"applicationAccessTokenExpiryTime": &cl.AppExpiry, "userAccessTokenExpiryTime": &cl.UserExpiry,
		"refreshTokenExpiryTime": &cl.RefreshExpiry, "idTokenExpiryTime": &cl.IDExpiry,
	} {
		if s := b.str(name); s != "" {
			n, err := strconv.ParseInt(s, 10, 32)
			if err != nil || n < 0 {
				return fault.BadRequest.Withf("%s is a number of seconds", name)
			}
			*to = time.Duration(n) * time.Second
		}
	}
	if a := b.list("audiences"); a != nil {
		cl.Audiences = a
	}
	if len(cl.Callback) > 2048 || len(cl.Grants) > 50 || len(cl.Audiences) > 50 {
		return fault.BadRequest.With("the application data is too long")
	}
	return nil
}

func addClient(c *call) ([]any, error) {
	b := c.in.kid("application")
	name := b.str("applicationName")
	if err := identity.CheckName(name); err != nil {
		return nil, err
	}
	owner, _ := identity.SplitName(c.desk.Actor().User, apim.SuperTenant)
	cl := &apim.Client{Name: name, Owner: owner, OwnerID: c.desk.Actor().UserID, Origin: "dcr"}
	if err := fill(cl, b); err != nil {
		return nil, err
	}
	secret, err := c.s.o.Clients.CreateClient(c.ctx, c.scope(), cl)
	if err != nil {
		return nil, err
	}
	return []any{clientInfo(cl, secret)}, nil
}

func updateClient(c *call) ([]any, error) {
	b := c.in.kid("consumerAppDTO")
	cl, err := c.own(b.str("oauthConsumerKey"))
	if err != nil {
		return nil, err
	}
	next := *cl
	if err := fill(&next, b); err != nil {
		return nil, err
	}
	return nil, c.s.o.Clients.UpdateClient(c.ctx, c.scope(), &next)
}

func setClientState(c *call) ([]any, error) {
	cl, err := c.own(c.in.str("consumerKey"))
	if err != nil {
		return nil, err
	}
	next := *cl
	switch c.in.str("newState") {
	case "ACTIVE":
		next.Inactive = false
	case "REVOKED", "INACTIVE":
		next.Inactive = true
	default:
		return nil, fault.BadRequest.With("newState is ACTIVE or REVOKED")
	}
	return nil, c.s.o.Clients.UpdateClient(c.ctx, c.scope(), &next)
}

func newSecret(c *call) ([]any, error) {
	cl, err := c.own(c.in.str("consumerKey"))
	if err != nil {
		return nil, err
	}
	secret, err := c.s.o.Clients.RegenerateSecret(c.ctx, c.scope(), cl.ID)
	if err != nil {
		return nil, err
	}
	return []any{clientInfo(cl, secret)}, nil
}

func removeClient(c *call) ([]any, error) {
	cl, err := c.own(c.in.str("consumerKey"))
	if err != nil {
		return nil, err
	}
	return nil, c.s.o.Clients.DeleteClient(c.ctx, c.scope(), cl.ID)
}
