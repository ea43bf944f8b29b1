package gateway

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/gateway/exchange"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// cors is an API's or the gateway's answer to browsers, compiled.
type cors struct {
	enabled     bool
	any         bool
	exact       []string
	patterns    []*regexp.Regexp
	methods     []string
	headers     string
	expose      string
	credentials bool
}

func compileCORS(c CORS) (*cors, error) {
	out := &cors{
		enabled: c.Enabled, methods: c.Methods, credentials: c.Credentials,
		headers: strings.Join(c.Headers, ","), expose: strings.Join(c.Expose, ","),
	}
	for _, o := range c.Origins {
		switch {
		case o == "*":
			out.any = true
		case strings.Contains(o, "*"):
			parts := strings.Split(o, "*")
			for i := range parts {
				parts[i] = regexp.QuoteMeta(parts[i])
			}
			re, err := regexp.Compile("^" + strings.Join(parts, ".*") + "$")
			if err != nil {
				return nil, fmt.Errorf("allowed origin: %w", err)
			}
			out.patterns = append(out.patterns, re)
		default:
			out.exact = append(out.exact, o)
		}
	}
	return out, nil
}

// compileCORS gives an API without a configuration of its own the gateway's.
func (g *Gateway) compileCORS(c *snapshot.CORS) (*cors, error) {
	if c == nil || !c.Enabled {
		return g.cors, nil
	}
	own := CORS{Enabled: true, Origins: c.Origins, Methods: c.Methods, Headers: c.Headers, Expose: c.Expose, Credentials: c.Credentials}
	return compileCORS(own)
}

// origin is what Access-Control-Allow-Origin says, or "".
func (s *cors) origin(from string) string {
	switch {
	case s.any:
		return "*"
	case from == "":
		return ""
	case slices.Contains(s.exact, from), slices.ContainsFunc(s.patterns, func(re *regexp.Regexp) bool { return re.MatchString(from) }):
		return from
	}
	return ""
}

// mark puts what every answer carries into the reply.
func (s *cors) mark(x *exchange.Exchange) {
	if !s.enabled {
		return
	}
	if !s.any {
		x.Reply.Header.Add("Vary", "Origin")
	}
	o := s.origin(x.Header.Get("Origin"))
	if o == "" {
		return
	}
	x.Reply.Header.Add("Access-Control-Allow-Origin", o)
	if s.credentials && o != "*" {
		x.Reply.Header.Add("Access-Control-Allow-Credentials", "true")
	}
}

// preflight answers OPTIONS where the resource does not declare it. The verbs
// are those of the template that the asked verb belongs to.
func (c *call) preflight() error {
	s := c.api.cors
	asked := c.Header.Get("Access-Control-Request-Method")
	if !s.enabled || asked == "" {
		return refuseMethod()
	}
	if err := c.find(asked); err != nil {
		return err
	}
	var allowed []string
	for i := range c.api.ops {
		o := &c.api.ops[i]
		if o.target == c.op.target && slices.Contains(s.methods, o.verb) && !slices.Contains(allowed, o.verb) {
			allowed = append(allowed, o.verb)
		}
	}
	h := &c.Reply.Header
	h.Add("Access-Control-Allow-Methods", strings.Join(allowed, ","))
	if s.headers != "" {
		h.Add("Access-Control-Allow-Headers", s.headers)
	}
	if s.expose != "" {
		h.Add("Access-Control-Expose-Headers", s.expose)
	}
	c.Reply.Status, c.Reply.HasText, c.Reply.Len = 200, true, 0
	return nil
}

func refuseMethod() error {
	return exchange.Refuse(exchange.Fault, fault.GwMethod.With("Method not allowed for given API resource"), "method")
}
