package config

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Role is a part of the product that a process runs.
type Role string

// The roles.
const (
	Control   Role = "control"
	Identity  Role = "identity"
	Gateway   Role = "gateway"
	Traffic   Role = "traffic"
	Analytics Role = "analytics"
	Stream    Role = "stream"
)

// AllRoles is what a process runs when nothing is said.
var AllRoles = []Role{Control, Identity, Gateway, Traffic, Analytics}

// profiles are the original's names for sets of roles.
var profiles = map[string][]Role{
	"default":                    AllRoles,
	"control-plane":              {Control, Identity, Analytics},
	"gateway-worker":             {Gateway},
	"traffic-manager":            {Traffic},
	"api-key-manager-deprecated": {Identity},
	"api-key-manager":            {Identity},
	"api-publisher":              {Control},
	"api-devportal":              {Control},
}

// Config is everything a process needs to know before it starts.
type Config struct {
	Home     string
	File     string // the file that was read; empty: none
	Binary   string // version of the binary, set by whoever loads: messages and the audit name it
	Warnings []string

	Hostname string
	BaseURL  string // root of the OAuth endpoints and the portals, no slash at the end
	Offset   int
	Roles    []Role
	Demo     bool

	Admin    Admin
	Database Database
	Listen   Listen
	Node     Node
	Bus      Bus
	Analytic AnalyticsStore
	Log      Log
	Audit    Audit

	MasterKey       Secret // hex; empty: a file in home
	Certificate     Certificate
	Truststore      Keystore // whom backends and client certificates are certified by, besides the system's; no File: nobody
	Users           UserRules
	OAuth           OAuth
	Portals         Portals
	AccessLog       bool   // each request of the management side is logged
	TraceHeader     string // names a management answer
	TrustedProxies  []netip.Prefix
	Environments    []Environment
	Labels          []string // environments this gateway serves
	ShutdownTimeout time.Duration
	DefinitionLimit int64          // bytes
	FetchAllow      []netip.Prefix // private networks that design-time fetches may reach
	CORS            CORS
	AuthHeader      string
	ForwardAuth     bool // the access token goes on to the backend
	StrictTokenType bool
	TokenCacheTTL   time.Duration // 0: verified tokens are not remembered
	TokenSkew       time.Duration // tolerance for the times in tokens
	SocketTimeout   time.Duration
	Upstream        Upstream
	MaxConcurrent   int  // calls a gateway serves at a time; 0: its default
	CountAlone      bool // this gateway does not exchange counts with others
	UnlimitedTier   bool
	Throttle        ThrottleConditions
	RateHeaders     bool
}

// Admin is the first administrator.
type Admin struct {
	Username string
	Password Secret
	Role     string
	Explicit bool // the operator chose the password
	Create   bool
}

// Listen says where each listener binds. Ports include the offset; 0 switches
// a listener off.
type Listen struct {
	Hosts           []string // management
	GatewayHosts    []string
	Management      int // https
	ManagementHTTP  int
	GatewayHTTPS    int
	GatewayHTTP     int
	Node            int
	NodeHosts       []string // empty: closed
	ClientAuth      string   // none, optional, require at 8243
	ManagementProxy int      // port seen outside; 0: the same
	MaxHeader       int      // bytes of a request head on the management side; 0: the default
	TLS             TLSRange // management
	GatewayTLS      TLSRange
}

// TLSRange is the versions of TLS a listener speaks, as crypto/tls numbers
// them; Max 0 is the newest.
type TLSRange struct{ Min, Max uint16 }

// Upstream is how the gateway reaches backends.
type Upstream struct {
	MaxPerHost int    // connections to one host; 0: no bound
	Names      string // whether a certificate must name the host: strict, localhost (not there), any (nowhere)
}

// UserRules are what names and passwords must match; nil: the product's own bounds.
type UserRules struct {
	Name, Role, Password *regexp.Regexp
	Email                bool // a name may hold one @ of its own
}

// OAuth is what the key manager issues.
type OAuth struct {
	Issuer       string // empty: from BaseURL
	Algorithm    string // of signatures: RS256, ES256
	NamePattern  string // of client names; empty: the product's own
	AppLife      time.Duration
	UserLife     time.Duration
	RefreshLife  time.Duration
	IDLife       time.Duration
	RefusedGrant []string // grant types that are switched off
	FreeScopes   []string // patterns of scopes that need no role
}

// Portals are settings of the management side.
type Portals struct {
	DevportalURL    string
	Anonymous       bool // the developer portal shows its catalogue to everybody
	PasswordChange  bool
	NoDefaultApp    bool     // a new subscriber gets no DefaultApplication
	GatewayTypes    []string // as the settings of the portals list them
	PublisherOrigin []string // web origins that may call the REST interfaces
	DevportalOrigin []string
	AdminOrigin     []string
}

// Node is this process among others.
type Node struct {
	Name       string
	ControlURL string // a control node to follow; empty: this process
	JoinToken  Secret
	Hosts      []string // further names of this node
}

// Bus is the event bus: embedded unless URL is set.
type Bus struct {
	URL    string
	Listen string // host:port for other nodes; empty: in process only
}

// AnalyticsStore bounds what the analytics role keeps; 0 is its own default.
type AnalyticsStore struct {
	Enabled     bool // gateways report what was called
	Path        string
	KeepCalls   time.Duration
	KeepMinutes time.Duration
	KeepHours   time.Duration
	KeepDays    time.Duration
	MaxBytes    int64
}

// Audit is the record of who changed what.
type Audit struct {
	Keep time.Duration // 0: the store's default
}

// Log is where and how the process logs: Format text or json ("" decides by terminal).
type Log struct{ Format, Level string }

// Certificate is a server certificate of one's own; empty: from home's CA. It is
// a PEM file with its KeyFile, or a Keystore.
type Certificate struct {
	File, KeyFile string
	Keystore      Keystore
	Hosts         string // directory of certificates for virtual hosts; empty: in home
}

// Keystore is a file of type PKCS12, JKS or PEM.
type Keystore struct {
	File, Type, Alias     string // Alias "": the only key there is
	Password, KeyPassword Secret
}

// Environment is a gateway environment of the file, read-only in Admin.
type Environment struct {
	Name, DisplayName, Description, Type, GatewayType, Provider string
	ShowInConsole                                               bool
	VHosts                                                      []VHost
	Properties                                                  map[string]string
	Roles                                                       []string // that may deploy; none: everybody
}

// VHost is one virtual host of an environment.
type VHost struct {
	Host, Context                                 string
	HTTP, HTTPS, WS, WSS, WebSubHTTP, WebSubHTTPS int // ports; 0: none
}

// CORS is the gateway's default.
type CORS struct {
	Enabled, Credentials              bool
	Origins, Methods, Headers, Expose []string
}

// ThrottleConditions says which conditions of advanced policies count.
type ThrottleConditions struct{ Header, Claim, Query bool }

// Has reports whether the process runs the role.
func (c *Config) Has(r Role) bool { return slices.Contains(c.Roles, r) }

// Loopback reports whether every listener is bound to this machine only.
func (c *Config) Loopback() bool {
	for _, h := range slices.Concat(c.Listen.Hosts, c.Listen.GatewayHosts, c.Listen.NodeHosts) {
		if !isLoopback(h) {
			return false
		}
	}
	if c.Bus.Listen != "" {
		if h, _, err := net.SplitHostPort(c.Bus.Listen); err != nil || !isLoopback(h) {
			return false
		}
	}
	return true
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// PortalURL is the root of the portals as a browser sees it.
func (c *Config) PortalURL() string { return c.BaseURL }

// GatewayURL is the root of the APIs over https.
func (c *Config) GatewayURL() string {
	return "https://" + net.JoinHostPort(c.Hostname, strconv.Itoa(c.Listen.GatewayHTTPS))
}

var defaults = map[string]any{
	"server.hostname":                      "localhost",
	"server.base_path":                     "${carbon.protocol}://${carbon.host}:${carbon.management.port}",
	"server.offset":                        int64(0),
	"super_admin.username":                 "admin",
	"super_admin.password":                 "admin",
	"super_admin.admin_role":               "admin",
	"keystore.primary.file_name":           "wso2carbon.jks",
	"keystore.primary.type":                "JKS",
	"keystore.primary.password":            "wso2carbon",
	"keystore.primary.alias":               "wso2carbon",
	"keystore.primary.key_password":        "wso2carbon",
	"keystore.tls.file_name":               "$ref{keystore.primary.file_name}",
	"keystore.tls.type":                    "$ref{keystore.primary.type}",
	"keystore.tls.password":                "$ref{keystore.primary.password}",
	"keystore.tls.alias":                   "$ref{keystore.primary.alias}",
	"keystore.tls.key_password":            "$ref{keystore.primary.key_password}",
	"keystore.internal.file_name":          "$ref{keystore.primary.file_name}",
	"keystore.internal.type":               "$ref{keystore.primary.type}",
	"keystore.internal.password":           "$ref{keystore.primary.password}",
	"keystore.internal.alias":              "$ref{keystore.primary.alias}",
	"keystore.internal.key_password":       "$ref{keystore.primary.key_password}",
	"transport.https.properties.port":      int64(9443),
	"transport.http.properties.port":       int64(9763),
	"transport.http.listener.secured_port": int64(8243),
	"transport.http.listener.port":         int64(8280),
}

// parseRoles reads a comma list of roles or profiles.
func parseRoles(list []string) ([]Role, error) {
	var out []Role
	for _, name := range list {
		if p, ok := profiles[name]; ok {
			out = append(out, p...)
			continue
		}
		r := Role(name)
		switch {
		case r == Stream:
			return nil, fmt.Errorf("the stream role is not part of this version; choose among %s", roleNames())
		case slices.Contains(AllRoles, r):
			out = append(out, r)
		default:
			return nil, fmt.Errorf("unknown role %q; choose among %s", name, roleNames())
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func roleNames() string {
	names := make([]string, len(AllRoles))
	for i, r := range AllRoles {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}
