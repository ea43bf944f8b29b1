package config

import (
	"fmt"
	"net"
	"net/netip"
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

// Config is everything a process needs to know before it starts. Values gives
// components the rest of the keys.
type Config struct {
	Home     string
	File     string // the file that was read; empty: none
	Warnings []string
	Values   Values

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

	MasterKey       Secret // hex; empty: a file in home
	Certificate     Certificate
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
	TokenCacheTTL   time.Duration
	SocketTimeout   time.Duration
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
}

// Node is this process among others.
type Node struct {
	Name       string
	ControlURL string // a control node to follow; empty: this process
	JoinToken  Secret
}

// Bus is the event bus: embedded unless URL is set.
type Bus struct {
	URL    string
	Listen string // host:port for other nodes; empty: in process only
}

// AnalyticsStore bounds what the analytics role keeps; 0 is its own default.
type AnalyticsStore struct {
	Path        string
	KeepCalls   time.Duration
	KeepMinutes time.Duration
	KeepHours   time.Duration
	KeepDays    time.Duration
	MaxBytes    int64
}

// Log is where and how the process logs: Format text or json ("" decides by terminal).
type Log struct{ Format, Level string }

// Certificate is a server certificate of one's own (PEM); empty: from home's CA.
type Certificate struct{ File, KeyFile string }

// Environment is a gateway environment of the file, read-only in Admin.
type Environment struct {
	Name, DisplayName, Description, Type, GatewayType, Provider string
	ShowInConsole                                               bool
	VHosts                                                      []VHost
}

// VHost is one virtual host of an environment, as URLs.
type VHost struct{ HTTP, HTTPS, WS, WSS, WebSubHTTP, WebSubHTTPS string }

// CORS is the gateway's default.
type CORS struct {
	Enabled, Credentials              bool
	Origins, Methods, Headers, Expose []string
}

// ThrottleConditions says which conditions of advanced policies count.
type ThrottleConditions struct{ Header, Claim, Query, Deny bool }

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
