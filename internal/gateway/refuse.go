package gateway

import (
	"encoding/xml"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cardea-apim/cardea/internal/gateway/exchange"
	"github.com/cardea-apim/cardea/internal/usage"
)

const (
	accessTime = "2006-Jan-02 15:04:05-0700"
	httpDate   = "Mon, 02 Jan 2006 15:04:05 GMT"

	// DecisionHeader carries the decision id of every refusal.
	DecisionHeader = "Cardea-Decision"
)

// refuse renders a refusal into the reply (reference: gateway §5, traffic §2).
// CORS headers are there already.
func (c *call) refuse(r *exchange.Refusal) {
	c.refusal = r
	status := r.Fault.Status()
	if c.Reply.Body != nil {
		c.Reply.Body.Close()
	}
	c.id = c.seal(status, r)
	h := &c.Reply.Header
	h.Add(DecisionHeader, c.id)
	if status == 401 && c.api != nil {
		h.Add("WWW-Authenticate", c.api.rules.Challenge)
	}
	fields := bodyOf(r)
	if !r.Retry.IsZero() {
		h.Add("Retry-After", r.Retry.UTC().Format(httpDate))
	}
	switch {
	case r.Shape == exchange.WrongKey:
		c.Reply.Plain(status, "application/xml; charset=UTF-8", "<error><message>"+escapeXML(r.Fault.Detail)+"</message></error>")
	case c.soap():
		c.Reply.Plain(status, "text/xml; charset=UTF-8", soapFault(r))
	case c.xml():
		c.Reply.Plain(status, "application/xml; charset=UTF-8", xmlBody(fields))
	default:
		c.Reply.Plain(status, "application/json; charset=UTF-8", jsonBody(fields))
	}
}

func (c *call) seal(status int, r *exchange.Refusal) string {
	f := usage.DecisionFacts{Time: c.now, Gateway: c.g.o.Name, Status: status, Code: r.Fault.Code, Rule: r.Rule}
	if c.api != nil {
		f.API, f.Tenant = c.api.id, c.api.tenant
	}
	return usage.SealDecision(c.g.o.DecisionKey, f)
}

type member struct{ name, value string }

// bodyOf lists the members of a refusal's body in their order.
func bodyOf(r *exchange.Refusal) []member {
	code := member{"code", strconv.Itoa(r.Fault.Code)}
	message := member{"message", r.Fault.Msg}
	description := member{"description", r.Fault.Detail}
	switch r.Shape {
	case exchange.Auth, exchange.Threat:
		return []member{code, message, description}
	case exchange.Blocked:
		return []member{code, {"type", r.Fault.Msg}, description}
	case exchange.Throttle:
		if r.Retry.IsZero() {
			return []member{code, message, description}
		}
		at := r.Retry.UTC().Format(accessTime) + " UTC"
		description.value += " .You can access API after " + at
		return []member{code, message, description, {"nextAccessTime", at}}
	}
	return []member{code, {"type", "Status report"}, message, description}
}

// writes reports whether the method is one whose refusals follow the type of
// the request's body.
func (c *call) writes() bool {
	return c.Method == "POST" || c.Method == "PUT" || c.Method == "PATCH"
}

func (c *call) xml() bool {
	if !c.writes() {
		return false
	}
	t := mediaType(c.Header.Get("Content-Type"))
	return t == "application/xml" || t == "text/xml" || strings.HasSuffix(t, "+xml")
}

func (c *call) soap() bool {
	return c.api != nil && (c.api.kind == "SOAP" || c.api.kind == "SOAPTOREST" && c.Header.Has("SOAPAction")) && c.xml()
}

func mediaType(s string) string {
	s, _, _ = strings.Cut(s, ";")
	return strings.ToLower(strings.TrimSpace(s))
}

func jsonBody(fields []member) string {
	b := make([]byte, 0, 256)
	for i, f := range fields {
		sep := byte(',')
		if i == 0 {
			sep = '{'
		}
		b = append(b, sep, '"')
		b = append(b, f.name...)
		b = append(b, '"', ':')
		b = appendJSON(b, f.value)
	}
	return string(append(b, '}'))
}

// appendJSON quotes s without escaping what HTML would need.
func appendJSON(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20 || r == 0x7f:
			b = append(b, '\\', 'u', '0', '0', "0123456789abcdef"[r>>4], "0123456789abcdef"[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

func xmlBody(fields []member) string {
	var b strings.Builder
	b.WriteString("<jsonObject>")
	for _, f := range fields {
		b.WriteString("<" + f.name + ">" + escapeXML(f.value) + "</" + f.name + ">")
	}
	b.WriteString("</jsonObject>")
	return b.String()
}

// soapFault is a SOAP 1.1 fault: what is wrong with credentials is the client's.
func soapFault(r *exchange.Refusal) string {
	who, reason, detail := "Server", r.Fault.Msg, r.Fault.Detail
	if r.Shape == exchange.Auth {
		who, reason, detail = "Client", "Authentication Failure", r.Fault.Msg
	}
	return `<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body><soapenv:Fault>` +
		"<faultcode>soapenv:" + who + "</faultcode><faultstring>" + escapeXML(reason) + "</faultstring><detail>" + escapeXML(detail) +
		"</detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>"
}

func escapeXML(s string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		return ""
	}
	return b.String()
}
