package gateway

import (
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/cardea-apim/cardea/internal/gateway/auth"
	"github.com/cardea-apim/cardea/internal/gateway/proxy"
	"github.com/cardea-apim/cardea/internal/gateway/report"
	"github.com/cardea-apim/cardea/internal/throttle"
)

// Limiter decides and counts. *throttle.Limiter is one.
type Limiter interface {
	Admit(now time.Time, checks []throttle.Check) throttle.Decision
	Charge(now time.Time, checks []throttle.Check, kind throttle.Kind, n int64)
}

// resetter is an ability of limiters: to forget what was counted under a key
// up to a moment. It may be told the same again.
type resetter interface {
	Reset(now time.Time, key throttle.Key, at time.Time)
}

// Reporter takes what happened. *report.Reporter is one; Report must not block
// and must not keep r.
type Reporter interface {
	Report(r *report.Record)
}

// Opener opens what the master key sealed. *seal.Box is one.
type Opener interface {
	Open(sealed string) ([]byte, error)
}

// CORS is how the gateway answers browsers where an API says nothing.
type CORS struct {
	Enabled     bool
	Origins     []string // exact, "*", or with "*" inside
	Methods     []string
	Headers     []string
	Expose      []string
	Credentials bool
}

// DefaultCORS is the product's default.
func DefaultCORS() CORS {
	return CORS{
		Enabled: true,
		Origins: []string{"*"},
		Methods: []string{"GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"},
		Headers: []string{"authorization", "Access-Control-Allow-Origin", "Content-Type", "SOAPAction", "apikey", "Internal-Key"},
	}
}

// Options of New. The zero value of every field but those marked required has
// a default that works.
type Options struct {
	Log         *slog.Logger // required
	Name        string       // node name, in decision ids and reports; required
	DecisionKey []byte       // seals decision ids; 16 bytes or more; required
	Limiter     Limiter      // required
	Reporter    Reporter     // nil: nothing is reported
	Box         Opener       // nil: APIs with sealed endpoint secrets do not compile

	Directory auth.Directory // nil: nobody is let in by a password
	Tokens    auth.Tokens    // nil: nobody is let in by an opaque token

	Environments []string // labels this gateway serves; empty: whatever it is given
	CORS         *CORS    // nil: DefaultCORS

	AuthHeader         string // default Authorization
	OutboundAuthHeader bool   // forward the auth header to backends
	RequireTokenType   bool   // accept only tokens of type at+jwt
	TokenSkew          time.Duration
	TokenMaxLength     int           // bytes; default token.DefaultMaxLength
	TokenCacheSize     int           // verified tokens; default of package token
	TokenCacheTTL      time.Duration // after it a token is verified anew; 0: at its end

	HeaderConditions bool // conditional limits by header, off as in the original
	QueryConditions  bool // by query parameter
	ClaimConditions  bool // by claim

	TrustedProxies []netip.Prefix // believed in X-Forwarded-*; nil: loopback
	PublicHTTP     string         // http://host:port of this gateway, for Location; empty: from the request
	PublicHTTPS    string

	Upstream        proxy.Upstream // nil: one over the network
	ConnectTimeout  time.Duration  // default 10 s
	ResponseTimeout time.Duration  // until the head of the answer, and between its bytes; default 120 s
	UpstreamRoots   *x509.CertPool // whom backends must be certified by; nil: the system's
	UpstreamNames   string         // whether their certificates must name the host: "" always, localhost: not on this machine, any: nowhere
	MaxPerHost      int            // connections to one backend host; 0: no bound
	RefusedPorts    []int          // our own loopback ports that backends may not name (bus, database)

	MaxConcurrent int64 // calls in progress before others are refused with 503; 0: DefaultConcurrent

	NoRateLimitHeaders bool             // leave out RateLimit and RateLimit-Policy
	Now                func() time.Time // nil: time.Now
	clock              bool             // Now was given
}

// DefaultConcurrent bounds the calls in progress: each holds some 20 KB.
const DefaultConcurrent = 20_000

func (o *Options) validate() error {
	var errs []error
	if o.Log == nil {
		errs = append(errs, errors.New("gateway: no logger"))
	}
	if o.Name == "" {
		errs = append(errs, errors.New("gateway: no node name"))
	}
	if len(o.DecisionKey) < 16 {
		errs = append(errs, errors.New("gateway: decision key is shorter than 16 bytes"))
	}
	if o.Limiter == nil {
		errs = append(errs, errors.New("gateway: no limiter"))
	}
	if o.CORS == nil {
		c := DefaultCORS()
		o.CORS = &c
	}
	if o.AuthHeader == "" {
		o.AuthHeader = "Authorization"
	}
	if o.TrustedProxies == nil {
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	if o.ConnectTimeout <= 0 {
		o.ConnectTimeout = 10 * time.Second
	}
	if o.ResponseTimeout <= 0 {
		o.ResponseTimeout = 120 * time.Second
	}
	if o.MaxConcurrent <= 0 {
		o.MaxConcurrent = DefaultConcurrent
	}
	if o.clock = o.Now != nil; !o.clock {
		o.Now = time.Now
	}
	return errors.Join(errs...)
}
