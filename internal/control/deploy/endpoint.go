package deploy

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/seal"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// endpoints is what a gateway must know of an endpointConfig.
type endpoints struct {
	mode       string
	production []snapshot.Endpoint
	sandbox    []snapshot.Endpoint
}

// number is a JSON number, or one in a string: portals of different releases
// send both.
type number float64

func (n *number) UnmarshalJSON(b []byte) error {
	s := strings.TrimSpace(strings.Trim(string(b), `"`))
	if s == "" || s == "null" {
		return nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return fmt.Errorf("%q is not a number", s)
	}
	*n = number(f)
	return nil
}

// millis is a duration in whole milliseconds, never negative.
func (n number) millis() time.Duration {
	if n <= 0 || n > 1e12 {
		return 0
	}
	return time.Duration(n) * time.Millisecond
}

// flexBool is true, "true" and "True".
type flexBool bool

func (v *flexBool) UnmarshalJSON(b []byte) error {
	*v = flexBool(strings.EqualFold(strings.Trim(string(b), `"`), "true"))
	return nil
}

type endpointDTO struct {
	URL    string          `json:"url"`
	Config json.RawMessage `json:"config"`
}

type endpointSettings struct {
	ActionSelect    string `json:"actionSelect"`
	ActionDuration  number `json:"actionDuration"`
	Retries         number `json:"retryTimeOut"`
	RetryDelay      number `json:"retryDelay"`
	SuspendDuration number `json:"suspendDuration"`
	SuspendMax      number `json:"suspendMaxDuration"`
	Factor          number `json:"factor"`
}

type endpointConfig struct {
	Type                string                     `json:"endpoint_type"`
	Production          json.RawMessage            `json:"production_endpoints"`
	Sandbox             json.RawMessage            `json:"sandbox_endpoints"`
	ProductionFailovers json.RawMessage            `json:"production_failovers"`
	SandboxFailovers    json.RawMessage            `json:"sandbox_failovers"`
	Security            map[string]json.RawMessage `json:"endpoint_security"`
}

// parseEndpoints reads an endpointConfig whose secrets are sealed.
func parseEndpoints(raw json.RawMessage, box *seal.Box) (endpoints, error) {
	var out endpoints
	if len(raw) == 0 || string(raw) == "null" {
		return out, nil
	}
	var c endpointConfig
	if err := json.Unmarshal(raw, &c); err != nil {
		return out, fmt.Errorf("read endpointConfig: %w", err)
	}
	switch strings.ToLower(c.Type) {
	case "default", "awslambda", "sequence_backend":
		return out, nil // the target is chosen by a policy, or is no URL
	case "load_balance":
		out.mode = "load_balance"
	case "failover":
		out.mode = "failover"
	}
	var err error
	if out.production, err = oneSide(c.Production, c.ProductionFailovers, c.Security["production"], box); err != nil {
		return endpoints{}, fmt.Errorf("read endpointConfig: production: %w", err)
	}
	if out.sandbox, err = oneSide(c.Sandbox, c.SandboxFailovers, c.Security["sandbox"], box); err != nil {
		return endpoints{}, fmt.Errorf("read endpointConfig: sandbox: %w", err)
	}
	return out, nil
}

func oneSide(first, more, security json.RawMessage, box *seal.Box) ([]snapshot.Endpoint, error) {
	sealed, err := sealSecurity(security, box)
	if err != nil {
		return nil, err
	}
	var out []snapshot.Endpoint
	for _, raw := range []json.RawMessage{first, more} {
		list, err := endpointList(raw)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			if e.URL == "" {
				continue
			}
			to, err := oneEndpoint(e)
			if err != nil {
				return nil, err
			}
			to.Sealed = sealed
			out = append(out, to)
		}
	}
	return out, nil
}

// endpointList reads one endpoint or an array of them; a bare string is a URL.
func endpointList(raw json.RawMessage) ([]endpointDTO, error) {
	switch s := strings.TrimSpace(string(raw)); {
	case s == "" || s == "null" || s == `""`:
		return nil, nil
	case s[0] == '[':
		var parts []json.RawMessage
		if err := json.Unmarshal(raw, &parts); err != nil {
			return nil, err
		}
		var out []endpointDTO
		for _, p := range parts {
			one, err := endpointList(p)
			if err != nil {
				return nil, err
			}
			out = append(out, one...)
		}
		return out, nil
	case s[0] == '"':
		var u string
		if err := json.Unmarshal(raw, &u); err != nil {
			return nil, err
		}
		return []endpointDTO{{URL: u}}, nil
	}
	var e endpointDTO
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, err
	}
	return []endpointDTO{e}, nil
}

func oneEndpoint(e endpointDTO) (snapshot.Endpoint, error) {
	out := snapshot.Endpoint{URL: strings.TrimSpace(e.URL)}
	if len(e.Config) == 0 || e.Config[0] != '{' {
		return out, nil // older clients send "" or null
	}
	var s endpointSettings
	if err := json.Unmarshal(e.Config, &s); err != nil {
		return out, fmt.Errorf("config of %s: %w", out.URL, err)
	}
	out.Timeout = s.ActionDuration.millis()
	switch strings.ToLower(s.ActionSelect) {
	case "discard":
		out.OnTimeout = "discard"
	case "nevertimeout":
		out.Timeout, out.OnTimeout = 0, "never"
	case "fault":
		out.OnTimeout = "fault"
	}
	out.Retries = max(0, min(int(s.Retries), 100))
	out.RetryDelay = s.RetryDelay.millis()
	out.Suspend = s.SuspendDuration.millis()
	out.SuspendMax = s.SuspendMax.millis()
	out.SuspendFactor = max(0, float64(s.Factor))
	return out, nil
}

// sealSecurity makes the one sealed document of an endpoint's credentials. The
// same credentials give the same text, so that an API that did not change has
// the same hash.
func sealSecurity(raw json.RawMessage, box *seal.Box) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	var head struct {
		Enabled  flexBool `json:"enabled"`
		Type     string   `json:"type"`
		Username string   `json:"username"`
		Password string   `json:"password"`
		KeyName  string   `json:"apiKeyIdentifier"`
		KeyIn    string   `json:"apiKeyIdentifierType"`
		KeyValue string   `json:"apiKeyValue"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return "", fmt.Errorf("endpoint_security: %w", err)
	}
	kind := strings.ToUpper(head.Type)
	if !head.Enabled || kind == "" || kind == "NONE" {
		return "", nil
	}
	out := snapshot.EndpointSecurity{Type: kind, Username: head.Username, KeyName: head.KeyName, KeyIn: strings.ToUpper(head.KeyIn)}
	var err error
	if out.Password, err = unseal(head.Password, box); err != nil {
		return "", err
	}
	if out.KeyValue, err = unseal(head.KeyValue, box); err != nil {
		return "", err
	}
	if kind != "BASIC" && kind != "APIKEY" {
		var doc any
		if err := json.Unmarshal(raw, &doc); err != nil {
			return "", fmt.Errorf("endpoint_security: %w", err)
		}
		if doc, err = unsealAll(doc, box); err != nil {
			return "", err
		}
		if out.Extra, err = json.Marshal(doc); err != nil {
			return "", fmt.Errorf("endpoint_security: %w", err)
		}
	}
	plain, err := json.Marshal(out)
	if err != nil {
		return "", fmt.Errorf("endpoint_security: %w", err)
	}
	return box.SealStable(plain), nil
}

func unseal(s string, box *seal.Box) (string, error) {
	if !seal.IsSealed(s) {
		return s, nil
	}
	b, err := box.Open(s)
	return string(b), err
}

func unsealAll(v any, box *seal.Box) (any, error) {
	var err error
	switch x := v.(type) {
	case string:
		return unseal(x, box)
	case map[string]any:
		for k := range x {
			if x[k], err = unsealAll(x[k], box); err != nil {
				return nil, err
			}
		}
	case []any:
		for i := range x {
			if x[i], err = unsealAll(x[i], box); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}
