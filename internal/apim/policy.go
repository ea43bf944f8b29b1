package apim

import (
	"encoding/json"
	"time"
)

// Limit is defaultLimit of a throttling policy, kept as it was sent: units are
// stored verbatim (reference: traffic §5).
type Limit struct {
	Type     string // REQUESTCOUNTLIMIT, BANDWIDTHLIMIT, EVENTCOUNTLIMIT, AIAPIQUOTALIMIT
	Count    int64  // requests or events
	Data     int64  // dataAmount
	DataUnit string // KB, MB
	TimeUnit string // sec, min, hour, days, months
	UnitTime int
	AI       json.RawMessage // aiApiQuota
}

// Unlimited is the count that means no limit.
const Unlimited = 2147483647

// PolicyLevel says where a throttling policy applies.
type PolicyLevel string

// The levels.
const (
	AppLevel PolicyLevel = "application"
	SubLevel PolicyLevel = "subscription"
	APILevel PolicyLevel = "api" // advanced
)

// ThrottlePolicy is an application, subscription or advanced throttling policy.
// Names are unique per tenant and level.
type ThrottlePolicy struct {
	Meta
	ID          string
	Level       PolicyLevel
	Name        string
	DisplayName string
	Description string
	Deployed    bool
	Hidden      bool // not offered to publishers (Unauthenticated)
	Limit       Limit
	Quota       string // requestCount, bandwidth, eventCount, aiApiQuota

	BurstCount                      int64  // rateLimitCount; -1: none
	BurstUnit                       string // sec, min, NA
	StopOnQuota                     bool
	BillingPlan                     string // FREE, COMMERCIAL
	GraphQLDepth, GraphQLComplexity int
	SubscriberCount                 int
	CustomAttributes                json.RawMessage
	Monetization                    json.RawMessage
	PermissionType                  string // "", ALLOW, DENY
	PermissionRoles                 []string
	PerUser                         bool
	Groups                          json.RawMessage // conditionalGroups of advanced policies
}

// VHost is a virtual host of an environment.
type VHost struct {
	Host                                                                  string
	HTTPContext                                                           string
	HTTPPort, HTTPSPort, WSPort, WSSPort, WebsubHTTPPort, WebsubHTTPSPort int
}

// Environment is a named set of gateways.
type Environment struct {
	Meta
	ID              string
	Name            string
	DisplayName     string
	Description     string
	Provider        string
	Type            string // hybrid, production, sandbox
	GatewayType     string
	ReadOnly        bool // of the configuration or the installation
	NoConsole       bool // not offered where APIs are tried
	VHosts          []VHost
	PermissionType  string
	PermissionRoles []string
	Properties      map[string]string
}

// KeyManager is an issuer of tokens. The resident one is made at first start
// (reference: admin §4).
type KeyManager struct {
	Meta
	ID               string
	Name             string
	DisplayName      string
	Description      string
	Type             string // default for the resident one
	Enabled          bool
	Global           bool
	TokenType        string // DIRECT, EXCHANGED, BOTH
	Issuer           string
	Endpoints        map[string]string // tokenEndpoint, revokeEndpoint, ... by their wire names
	Grants           []string
	ConsumerKeyClaim string
	ScopesClaim      string
	JWKSURL          string
	Certificates     json.RawMessage
	Properties       map[string]string
	Secrets          map[string]Sealed
	Extra            json.RawMessage
	CreatesClients   bool   // enableOAuthAppCreation: keys may be generated
	MapsClients      bool   // enableMapOAuthConsumerApps: clients made elsewhere may be mapped
	GivesTokens      bool   // enableTokenGeneration: the portal may ask for a test token
	PermissionType   string // PUBLIC (or empty), ALLOW, DENY
	PermissionRoles  []string
}

// ResidentKM is the name of the built-in key manager.
const ResidentKM = "Resident Key Manager"

// GatewayNode is a gateway that has joined, as the admin surface lists it.
type GatewayNode struct {
	ID       string
	Labels   []string // environments
	Version  string   // snapshot version it runs
	Ready    bool
	Failed   []string
	Warnings []string // parts that are not well, as "part: cause"
	LastSeen int64    // Unix milliseconds
	Local    bool
}

// Member is a node that joined with a token. Its certificates carry the id,
// which is another one when it joins again.
type Member struct {
	ID     string
	Node   string // name
	Roles  []string
	Joined time.Time
}
