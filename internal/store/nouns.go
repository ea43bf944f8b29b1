package store

import (
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
)

// form is how a searchable column is stored.
type form uint8

const (
	text   form = iota
	folded      // text with a second column for comparisons that ignore case
	lower       // text in lower case, compared with lower case
	number      // also truth values, and times in Unix microseconds
	list        // texts
	foldedList
)

func (f form) lists() bool { return f == list || f == foldedList }
func (f form) folds() bool { return f == folded || f == foldedList }

// column is a searchable column of a noun.
type column[T any] struct {
	name string
	form form
	of   func(*T) any // string, int64, bool, time.Time or []string
}

// noun describes how the type T is stored.
type noun[T any, ID ~string] struct {
	table     string
	kind      string // apim.Change.Kind
	versioned bool
	id        func(*T) *ID
	fallback  func(*T) ID             // id of a noun that came without one; nil: a random UUID
	tenant    func(*T) apim.TenantID  // when the noun itself says it
	parent    func(*T) string         // apim.Change.Parent of a noun that is not apim.Parented
	blobs     func(*T) []apim.BlobRef // documents it holds
	columns   []column[T]
}

// nouns makes the tables. Parents are what a consumer of the change log needs
// to find a noun's item once the noun is gone; apim.Parented nouns say theirs.
func (d *DB) nouns() {
	d.Tenants = table(d, noun[apim.Tenant, apim.TenantID]{
		table: "tenants", kind: "tenant", versioned: true,
		id:     func(v *apim.Tenant) *apim.TenantID { return &v.Domain },
		tenant: func(v *apim.Tenant) apim.TenantID { return v.Domain },
		columns: []column[apim.Tenant]{
			{"domain", folded, func(v *apim.Tenant) any { return string(v.Domain) }},
			{"active", number, func(v *apim.Tenant) any { return v.Active }},
			{"number", number, func(v *apim.Tenant) any { return v.Number }},
		},
	})
	d.TenantConfs = table(d, noun[apim.TenantConf, apim.TenantID]{
		table: "tenant_confs", kind: "tenantconf", versioned: true,
		id:       func(v *apim.TenantConf) *apim.TenantID { return &v.ID },
		fallback: func(v *apim.TenantConf) apim.TenantID { return v.Tenant },
	})
	d.Users = table(d, noun[apim.User, apim.UserID]{
		table: "users", kind: "user",
		id:     func(v *apim.User) *apim.UserID { return &v.ID },
		parent: func(v *apim.User) string { return v.Name },
		columns: []column[apim.User]{
			{"name", folded, func(v *apim.User) any { return v.Name }},
			{"role", list, func(v *apim.User) any { return v.Roles }},
		},
	})
	d.Roles = table(d, noun[apim.Role, apim.RoleID]{
		table: "roles", kind: "role", versioned: true,
		id:      func(v *apim.Role) *apim.RoleID { return &v.ID },
		parent:  func(v *apim.Role) string { return v.Name },
		columns: []column[apim.Role]{{"name", folded, func(v *apim.Role) any { return v.Name }}},
	})
	d.Clients = table(d, noun[apim.Client, apim.ClientID]{
		table: "clients", kind: "client",
		id: func(v *apim.Client) *apim.ClientID { return &v.ID },
		columns: []column[apim.Client]{
			{"name", folded, func(v *apim.Client) any { return v.Name }},
			{"owner", folded, func(v *apim.Client) any { return v.Owner }},
		},
	})
	d.SigningKeys = table(d, noun[apim.SigningKey, apim.KeyID]{
		table: "signing_keys", kind: "signingkey",
		id:      func(v *apim.SigningKey) *apim.KeyID { return &v.ID },
		columns: []column[apim.SigningKey]{{"algorithm", text, func(v *apim.SigningKey) any { return v.Algorithm }}},
	})
	d.apiNouns()
	d.consumerNouns()
	d.policyNouns()
}

func (d *DB) apiNouns() {
	d.APIs = table(d, noun[apim.API, apim.APIID]{
		table: "apis", kind: "api", versioned: true,
		id:     func(v *apim.API) *apim.APIID { return &v.ID },
		parent: func(v *apim.API) string { return v.Name },
		blobs:  func(v *apim.API) []apim.BlobRef { return []apim.BlobRef{v.Definition, v.Thumbnail} },
		columns: []column[apim.API]{
			{"name", folded, func(v *apim.API) any { return v.Name }},
			{"name_folded", lower, func(v *apim.API) any { return strings.ToLower(v.Name) }},
			{"version", folded, func(v *apim.API) any { return v.Version }},
			{"context", folded, func(v *apim.API) any { return v.Context }},
			{"context_template", text, func(v *apim.API) any { return v.ContextTemplate }},
			{"provider", folded, func(v *apim.API) any { return v.Provider }},
			{"state", text, func(v *apim.API) any { return string(v.State) }},
			{"type", text, func(v *apim.API) any { return v.Type }},
			{"tag", foldedList, func(v *apim.API) any { return v.Tags }},
			{"category", foldedList, func(v *apim.API) any { return v.Categories }},
			{"description", folded, func(v *apim.API) any { return v.Description }},
			{"default", number, func(v *apim.API) any { return v.Default }},
			{"visibility", text, func(v *apim.API) any { return v.Visibility }},
			{"display_name", folded, func(v *apim.API) any { return v.DisplayName }},
			{"plan", list, func(v *apim.API) any { return v.Plans }},
			{"api_policy", text, func(v *apim.API) any { return v.APIPolicy }},
			{"op_policy", list, func(v *apim.API) any { return operationPolicies(v) }},
			{"editors", lower, func(v *apim.API) any { return v.Editors() }},
		},
	})
	d.Revisions = table(d, noun[apim.Revision, apim.RevisionID]{
		table: "revisions", kind: "revision",
		id:     func(v *apim.Revision) *apim.RevisionID { return &v.ID },
		parent: func(v *apim.Revision) string { return string(v.API) },
		blobs:  func(v *apim.Revision) []apim.BlobRef { return []apim.BlobRef{v.Copy.Definition, v.Copy.Thumbnail} },
		columns: []column[apim.Revision]{
			{"api", text, func(v *apim.Revision) any { return string(v.API) }},
			{"number", number, func(v *apim.Revision) any { return int64(v.Number) }},
		},
	})
	d.Deployments = table(d, noun[apim.Deployment, apim.DeploymentID]{
		table: "deployments", kind: "deployment", versioned: true,
		id: func(v *apim.Deployment) *apim.DeploymentID { return &v.ID },
		fallback: func(v *apim.Deployment) apim.DeploymentID {
			return apim.DeploymentID(string(v.API) + "/" + v.Environment)
		},
		parent: func(v *apim.Deployment) string { return string(v.API) },
		columns: []column[apim.Deployment]{
			{"api", text, func(v *apim.Deployment) any { return string(v.API) }},
			{"revision", text, func(v *apim.Deployment) any { return string(v.Revision) }},
			{"environment", text, func(v *apim.Deployment) any { return v.Environment }},
			{"deployed", number, func(v *apim.Deployment) any { return v.DeployedAt }},
		},
	})
	d.SharedScopes = table(d, noun[apim.SharedScope, string]{
		table: "shared_scopes", kind: "scope", versioned: true,
		id:      func(v *apim.SharedScope) *string { return &v.ID },
		parent:  func(v *apim.SharedScope) string { return v.Name },
		columns: []column[apim.SharedScope]{{"name", folded, func(v *apim.SharedScope) any { return v.Name }}},
	})
}

// operationPolicies are the throttling policies that operations of an API name.
func operationPolicies(v *apim.API) []string {
	var out []string
	for i := range v.Operations {
		if p := v.Operations[i].Policy; p != "" && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

func (d *DB) consumerNouns() {
	d.Applications = table(d, noun[apim.Application, apim.AppID]{
		table: "applications", kind: "application", versioned: true,
		id:     func(v *apim.Application) *apim.AppID { return &v.ID },
		parent: func(v *apim.Application) string { return v.Name },
		columns: []column[apim.Application]{
			{"name", folded, func(v *apim.Application) any { return v.Name }},
			{"owner", folded, func(v *apim.Application) any { return v.Owner }},
			{"status", text, func(v *apim.Application) any { return v.Status }},
		},
	})
	d.KeyMappings = table(d, noun[apim.KeyMapping, apim.KeyMappingID]{
		table: "key_mappings", kind: "keymapping", versioned: true,
		id: func(v *apim.KeyMapping) *apim.KeyMappingID { return &v.ID },
		columns: []column[apim.KeyMapping]{
			{"application", text, func(v *apim.KeyMapping) any { return string(v.Application) }},
			{"key_manager", text, func(v *apim.KeyMapping) any { return v.KeyManager }},
			{"key_type", text, func(v *apim.KeyMapping) any { return v.KeyType }},
			{"consumer_key", text, func(v *apim.KeyMapping) any { return string(v.ConsumerKey) }},
		},
	})
	d.Subscriptions = table(d, noun[apim.Subscription, apim.SubscriptionID]{
		table: "subscriptions", kind: "subscription", versioned: true,
		id: func(v *apim.Subscription) *apim.SubscriptionID { return &v.ID },
		columns: []column[apim.Subscription]{
			{"application", text, func(v *apim.Subscription) any { return string(v.Application) }},
			{"api", text, func(v *apim.Subscription) any { return string(v.API) }},
			{"state", text, func(v *apim.Subscription) any { return v.State }},
			{"policy", text, func(v *apim.Subscription) any { return v.Policy }},
		},
	})
	d.APIKeys = table(d, noun[apim.APIKey, string]{
		table: "api_keys", kind: "apikey",
		id: func(v *apim.APIKey) *string { return &v.ID },
		columns: []column[apim.APIKey]{
			{"api", text, func(v *apim.APIKey) any { return string(v.API) }},
			{"application", text, func(v *apim.APIKey) any { return string(v.Application) }},
			{"owner", folded, func(v *apim.APIKey) any { return v.Owner }},
			{"hash", text, func(v *apim.APIKey) any { return string(v.Hash) }},
		},
	})
}

func (d *DB) policyNouns() {
	d.Policies = table(d, noun[apim.ThrottlePolicy, string]{
		table: "policies", kind: "policy", versioned: true,
		id: func(v *apim.ThrottlePolicy) *string { return &v.ID },
		columns: []column[apim.ThrottlePolicy]{
			{"level", text, func(v *apim.ThrottlePolicy) any { return string(v.Level) }},
			{"name", folded, func(v *apim.ThrottlePolicy) any { return v.Name }},
		},
	})
	d.Environments = table(d, noun[apim.Environment, string]{
		table: "environments", kind: "environment", versioned: true,
		id:      func(v *apim.Environment) *string { return &v.ID },
		columns: []column[apim.Environment]{{"name", folded, func(v *apim.Environment) any { return v.Name }}},
	})
	d.KeyManagers = table(d, noun[apim.KeyManager, string]{
		table: "key_managers", kind: "keymanager", versioned: true,
		id:     func(v *apim.KeyManager) *string { return &v.ID },
		parent: func(v *apim.KeyManager) string { return v.Name },
		columns: []column[apim.KeyManager]{
			{"name", folded, func(v *apim.KeyManager) any { return v.Name }},
			{"issuer", text, func(v *apim.KeyManager) any { return v.Issuer }},
			{"type", text, func(v *apim.KeyManager) any { return v.Type }},
		},
	})
}
