package apim

import (
	"encoding/json"
	"strings"
	"time"
)

// Identifiers of what the publisher manages.
type (
	APIID        string
	RevisionID   string
	DeploymentID string // base64url of the environment name on the wire; the store's id is API id + "/" + environment
)

// BlobRef addresses a document by content: hex SHA-256.
type BlobRef string

// State is a lifecycle state, upper case as in the API object.
type State string

// The lifecycle states.
const (
	Created    State = "CREATED"
	Prototyped State = "PROTOTYPED"
	Published  State = "PUBLISHED"
	Blocked    State = "BLOCKED"
	Deprecated State = "DEPRECATED"
	Retired    State = "RETIRED"
)

// API is the working copy of an API. Its definition is a blob whose bytes are
// what was received (reference: publisher §3).
type API struct {
	Meta
	ID              APIID
	Name            string
	DisplayName     string
	Description     string
	Context         string // as returned: /t/{tenant} prefixed, without version unless templated
	ContextTemplate string // with {version} where the creator put it; otherwise Context + "/{version}"
	Version         string
	Provider        string
	Type            string // HTTP, WS, ...
	State           State
	Default         bool // is the default version of its name
	Workflow        string

	Transports               []string
	Tags                     []string
	Categories               []string
	Plans                    []string // business plans ("policies" on the wire)
	APIPolicy                string   // API-level throttling policy; empty: per operation
	AuthHeader               string
	APIKeyHeader             string
	Security                 []string // securityScheme as on the wire
	KeyManagers              []string
	Audience                 string
	Audiences                []string
	Visibility               string // PUBLIC, PRIVATE, RESTRICTED
	VisibleRoles             []string
	VisibleTenants           []string
	VisibleOrganizations     []string
	AccessControl            string // NONE, RESTRICTED
	AccessControlRoles       []string
	SubscriptionAvailability string
	SubscriptionTenants      []string
	SchemaValidation         bool
	SubscriberVerification   bool
	ResponseCaching          bool
	CacheTimeout             int
	EndpointType             string          // endpointImplementationType
	Endpoint                 json.RawMessage // endpointConfig with every secret replaced by its Sealed form; nil: absent
	CORS                     *CORS
	MaxTPS                   json.RawMessage
	Business                 map[string]string
	Properties               []Property
	Scopes                   []APIScope
	Operations               []Operation
	GatewayType              string
	GatewayVendor            string
	Advertise                json.RawMessage
	Websub                   json.RawMessage
	Monetization             json.RawMessage
	APIPolicies              json.RawMessage // API-wide operation policies
	Extra                    json.RawMessage // members of the object that have no rule of their own yet

	Definition     BlobRef   // OpenAPI bytes as received
	DefinitionType string    // json or yaml
	Findings       []Finding // of deep checks; not errors
	Thumbnail      BlobRef
	ThumbnailType  string

	RevisionCount int          // revisions ever made; the next one's number is one more
	History       []Transition // every change of state, oldest first; belongs to the working copy
}

// Property is an additional property; Display shows it in the portal.
type Property struct {
	Name, Value string
	Display     bool
}

// APIScope is a scope attached to an API.
type APIScope struct {
	Shared      bool
	ID          string
	Name        string
	DisplayName string
	Description string
	Roles       []string
}

// Operation is one resource and verb.
type Operation struct {
	ID       string
	Target   string
	Verb     string
	Auth     string // "Application & Application User" (default), "Application User", "Application", "None"
	Policy   string
	Scopes   []string
	Policies json.RawMessage // operationPolicies
	Payload  string
	Extra    json.RawMessage
}

// CORS is corsConfiguration.
type CORS struct {
	Enabled     bool
	Origins     []string
	Credentials bool
	Headers     []string
	Methods     []string
	Expose      []string
}

// Finding is what a check of a document found; it never stops an import.
type Finding struct {
	Severity string // error, warning, info
	Path     string // JSON pointer
	Line     int
	Message  string
}

// Revision is an immutable copy of an API.
type Revision struct {
	Meta
	ID          RevisionID
	API         APIID
	Number      int
	Description string
	Copy        API
}

// Deployment puts a revision on the gateways of an environment. There is at
// most one per API and environment.
type Deployment struct {
	Meta
	ID          DeploymentID
	API         APIID
	Revision    RevisionID
	Environment string
	VHost       string
	OnDevportal bool
	DeployedAt  time.Time
}

// Transition is a step of an API's history.
type Transition struct {
	API  APIID
	From State
	To   State
	User string
	At   time.Time
}

// SharedScope is a tenant-wide scope that APIs may attach.
type SharedScope struct {
	Meta
	ID          string
	Name        string
	DisplayName string
	Description string
	Roles       []string
}

// EveryEditor is the line of Editors that admits everybody.
const EveryEditor = "\n*\n"

// Editors says who may see the API in the publisher, besides its provider and
// administrators: a line for each role, in lower case, between line ends.
func (a *API) Editors() string {
	if a.AccessControl != "RESTRICTED" {
		return EveryEditor
	}
	out := "\n"
	for _, r := range a.AccessControlRoles {
		out += strings.ToLower(r) + "\n"
	}
	return out
}
