package snapshot

import (
	"encoding/json"
	"time"
)

// API is a deployed revision in one environment (KindAPI).
type API struct {
	ID             string              `json:"id"`
	Revision       string              `json:"revision"`   // revision id
	RevisionNo     int                 `json:"revisionNo"` // 1, 2, ...
	Tenant         string              `json:"tenant"`
	Name           string              `json:"name"`
	Version        string              `json:"version"`
	Provider       string              `json:"provider"`
	Type           string              `json:"type"`              // HTTP, ...
	State          string              `json:"state"`             // lifecycle state, upper case: CREATED, PUBLISHED, ...
	Context        string              `json:"context"`           // full invocation context with version, /t/{tenant} included; what routes and throttle keys use
	BaseContext    string              `json:"baseContext"`       // without version, as the publisher shows it
	Default        bool                `json:"default,omitempty"` // also served at DefaultContext
	DefaultContext string              `json:"defaultContext,omitempty"`
	VHosts         []string            `json:"vhosts,omitempty"` // host names; empty: any
	Transports     []string            `json:"transports"`       // http, https
	Security       Security            `json:"security"`
	Policies       []string            `json:"policies"`            // business plans it offers
	APIPolicy      string              `json:"apiPolicy,omitempty"` // API-level policy; empty: per operation
	Audiences      []string            `json:"audiences,omitempty"`
	KeyManagers    []string            `json:"keyManagers"`    // names; "all"
	CORS           *CORS               `json:"cors,omitempty"` // nil: the gateway's defaults
	Production     []Endpoint          `json:"production,omitempty"`
	Sandbox        []Endpoint          `json:"sandbox,omitempty"`
	EndpointMode   string              `json:"endpointMode,omitempty"` // "", failover, load_balance
	MaxTPS         *MaxTPS             `json:"maxTps,omitempty"`
	Operations     []Operation         `json:"operations"`
	ScopeRoles     map[string][]string `json:"scopeRoles,omitempty"` // scope name to roles, for Basic authentication
	Properties     map[string]string   `json:"properties,omitempty"`
}

// Security says what an API accepts as credentials.
type Security struct {
	OAuth2             bool   `json:"oauth2,omitempty"`
	APIKey             bool   `json:"apiKey,omitempty"`
	Basic              bool   `json:"basic,omitempty"`
	MutualTLS          bool   `json:"mutualTls,omitempty"`
	MutualTLSMandatory bool   `json:"mutualTlsMandatory,omitempty"`
	AppMandatory       bool   `json:"appMandatory,omitempty"`     // oauth_basic_auth_api_key_mandatory
	AuthHeader         string `json:"authHeader,omitempty"`       // empty: the gateway's
	APIKeyHeader       string `json:"apiKeyHeader,omitempty"`     // empty: apikey
	Subscriptionless   bool   `json:"subscriptionless,omitempty"` // any keyed application may call
}

// Operation is one resource and verb. Auth is "Any", "Application",
// "Application User" or "None".
type Operation struct {
	Target string   `json:"t"` // URI template
	Verb   string   `json:"v"`
	Auth   string   `json:"a"`
	Policy string   `json:"p,omitempty"` // throttling policy; empty or Unlimited: none
	Scopes []string `json:"s,omitempty"` // any one suffices
}

// CORS is an API's own configuration.
type CORS struct {
	Enabled     bool     `json:"enabled"`
	Origins     []string `json:"origins"`
	Credentials bool     `json:"credentials"`
	Headers     []string `json:"headers"`
	Methods     []string `json:"methods"`
	Expose      []string `json:"expose,omitempty"`
}

// Endpoint is one backend URL with its settings. Security is sealed by the
// master key: its plaintext is JSON of EndpointSecurity.
type Endpoint struct {
	URL           string        `json:"url"`
	Timeout       time.Duration `json:"timeout,omitempty"`   // 0: the gateway's default
	OnTimeout     string        `json:"onTimeout,omitempty"` // fault, discard
	Retries       int           `json:"retries,omitempty"`
	RetryDelay    time.Duration `json:"retryDelay,omitempty"`
	Suspend       time.Duration `json:"suspend,omitempty"`
	SuspendMax    time.Duration `json:"suspendMax,omitempty"`
	SuspendFactor float64       `json:"suspendFactor,omitempty"`
	Sealed        string        `json:"sealed,omitempty"`
}

// EndpointSecurity is the plaintext of Endpoint.Sealed.
type EndpointSecurity struct {
	Type     string          `json:"type"` // BASIC, OAUTH, APIKEY
	Username string          `json:"username,omitempty"`
	Password string          `json:"password,omitempty"`
	KeyName  string          `json:"keyName,omitempty"`
	KeyIn    string          `json:"keyIn,omitempty"` // HEADER, QUERY_PARAMETER
	KeyValue string          `json:"keyValue,omitempty"`
	Extra    json.RawMessage `json:"extra,omitempty"`
}

// MaxTPS is the backend throughput limit, per node.
type MaxTPS struct {
	Production     int64  `json:"production,omitempty"`
	ProductionUnit string `json:"productionUnit,omitempty"` // SECOND, MINUTE, HOUR
	Sandbox        int64  `json:"sandbox,omitempty"`
	SandboxUnit    string `json:"sandboxUnit,omitempty"`
}

// Application (KindApplication).
type Application struct {
	ID         string            `json:"id"`
	Tenant     string            `json:"tenant"`
	Name       string            `json:"name"`
	Owner      string            `json:"owner"`
	Policy     string            `json:"policy"` // application throttling policy
	TokenType  string            `json:"tokenType"`
	Attributes map[string]string `json:"attributes,omitempty"`
	// ResetAt says per user when their application quota was last reset: what was
	// counted for them before does not count.
	ResetAt map[string]time.Time `json:"resetAt,omitempty"`
}

// KeyMapping maps a consumer key of a key manager to an application (KindKey).
type KeyMapping struct {
	ConsumerKey string `json:"consumerKey"`
	KeyManager  string `json:"keyManager"` // id
	Application string `json:"application"`
	KeyType     string `json:"keyType"` // PRODUCTION, SANDBOX
}

// Subscription (KindSubscription).
type Subscription struct {
	ID          string `json:"id"`
	Tenant      string `json:"tenant"`
	Application string `json:"application"`
	API         string `json:"api"`
	Policy      string `json:"policy"`
	State       string `json:"state"` // UNBLOCKED, BLOCKED, PROD_ONLY_BLOCKED, ON_HOLD, REJECTED, TIER_UPDATE_PENDING, DELETE_PENDING
}

// APIKey is an opaque key bound to one API (KindAPIKey), found by its hash.
type APIKey struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	API         string    `json:"api"`
	Application string    `json:"application,omitempty"` // associated application; required where subscriptions are
	KeyType     string    `json:"keyType"`
	User        string    `json:"user"`
	Expires     time.Time `json:"expires,omitzero"`   // zero: never
	IPs         []string  `json:"ips,omitempty"`      // addresses and CIDRs
	Referers    []string  `json:"referers,omitempty"` // patterns with *
}

// Policy is a throttling policy (KindAppPolicy, KindSubPolicy, KindAPIPolicy).
type Policy struct {
	Tenant      string           `json:"tenant"`
	Name        string           `json:"name"`
	Limit       Limit            `json:"limit"`
	StopOnQuota bool             `json:"stopOnQuota"`          // false: over quota passes and is marked
	BurstCount  int64            `json:"burstCount,omitempty"` // 0: none
	BurstUnit   string           `json:"burstUnit,omitempty"`  // sec, min
	PerUser     bool             `json:"perUser,omitempty"`    // advanced policies at user level
	Groups      []ConditionGroup `json:"groups,omitempty"`     // advanced policies
}

// Limit is a quota per window. Count is requests (or events), Bytes for
// bandwidth; both 0 means unlimited.
type Limit struct {
	Count     int64         `json:"count,omitempty"`
	Bytes     int64         `json:"bytes,omitempty"`
	Window    time.Duration `json:"window,omitempty"`
	Unlimited bool          `json:"unlimited,omitempty"`
}

// ConditionGroup narrows an advanced policy to requests that match all its conditions.
type ConditionGroup struct {
	Conditions []Condition `json:"conditions"`
	Limit      Limit       `json:"limit"`
}

// Condition is one test of a request: Type is IP, IPRANGE, HEADER, QUERY or CLAIM.
type Condition struct {
	Type   string `json:"type"`
	Name   string `json:"name,omitempty"`
	Value  string `json:"value,omitempty"` // or the first address of a range
	To     string `json:"to,omitempty"`    // last address of a range
	Invert bool   `json:"invert,omitempty"`
}

// KeyManager is an issuer whose tokens are accepted (KindKeyManager).
type KeyManager struct {
	ID               string          `json:"id"`
	Tenant           string          `json:"tenant"` // owner; tokens are accepted in every tenant when Global
	Global           bool            `json:"global,omitempty"`
	Name             string          `json:"name"`
	Enabled          bool            `json:"enabled"`
	Issuer           string          `json:"issuer"`
	JWKS             json.RawMessage `json:"jwks,omitempty"`             // the key set itself
	JWKSURL          string          `json:"jwksUrl,omitempty"`          // or where to fetch it
	ConsumerKeyClaim string          `json:"consumerKeyClaim,omitempty"` // default azp
	ScopesClaim      string          `json:"scopesClaim,omitempty"`      // default scope
	Resident         bool            `json:"resident,omitempty"`

	// Of key managers that are not our own.
	Exchanged     bool              `json:"exchanged,omitempty"` // its tokens are for exchange only, not for calls
	Online        bool              `json:"online,omitempty"`    // every token is introspected, JWTs too
	Introspection *Introspection    `json:"introspection,omitempty"`
	Claims        map[string]string `json:"claims,omitempty"` // claim of its tokens to the name it has here
	Rules         []TokenRule       `json:"rules,omitempty"`  // of which one must hold; none: any token
}

// Introspection is where and as whom tokens are looked up (RFC 7662).
type Introspection struct {
	URL    string `json:"url"`
	User   string `json:"user,omitempty"`
	Sealed string `json:"sealed,omitempty"` // the password, sealed by the master key
	Client bool   `json:"client,omitempty"` // they are a client's, which RFC 6749 has form-encoded
}

// TokenRule holds for tokens whose whole text matches Match, or whose claims
// match all of Claims. The values are regular expressions.
type TokenRule struct {
	Match  string            `json:"match,omitempty"`
	Claims map[string]string `json:"claims,omitempty"`
}

// Revocation refuses one token (by jti), or with NotBefore everything of an
// entity (user id or consumer key) that was issued earlier. Kept until Expires.
type Revocation struct {
	JTI       string    `json:"jti,omitempty"`
	Entity    string    `json:"entity,omitempty"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	Expires   time.Time `json:"expires"`
}

// Tenant (KindTenant).
type Tenant struct {
	Domain string `json:"domain"`
	Active bool   `json:"active"`
}

// Environment (KindEnvironment): Type hybrid, production or sandbox.
type Environment struct {
	Name   string   `json:"name"`
	Type   string   `json:"type"`
	VHosts []string `json:"vhosts,omitempty"` // host names
}
