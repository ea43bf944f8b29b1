package govern

import (
	"context"
	"encoding/base64"
	"errors"
	"regexp"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/token"
)

// Discoverer reads discovery documents. *connector.Connector is one.
type Discoverer interface {
	Discover(ctx context.Context, address, kind string) (km *apim.KeyManager, ok bool, err error)
}

// Discover is what the discovery document at an address says of a key manager
// of the type; ok is false when there is none.
func (s *Service) Discover(ctx context.Context, address, kind string) (km *apim.KeyManager, ok bool, err error) {
	address = strings.TrimSpace(address)
	switch {
	case s.Discovery == nil:
		return nil, false, fault.BadRequest.With("This process reads no discovery documents")
	case address == "" || len(address) > 2048:
		return nil, false, fault.BadRequest.With("url must be the address of a discovery document")
	}
	km, ok, err = s.Discovery.Discover(ctx, address, kind)
	return km, ok, wrap("discover key manager", err)
}

// demands are what a type asks for beyond its required fields.
func demands(km *apim.KeyManager) error {
	if km.Type != "WSO2-IS-7" || km.TokenType == "EXCHANGED" {
		return nil
	}
	if km.Properties["Authentication"] == "MutualTLS" {
		for _, name := range []string{"MutualTLSOptions", "IdentityUser"} {
			if km.Properties[name] == "" {
				return fault.KMConnector.Withf("Key Manager configuration %s is required", name)
			}
		}
	}
	return nil
}

// maxRules bounds the rules and the mapped claims of a key manager.
const maxRules = 200

// validation checks the members that gateways act on: token rules and claim
// mappings.
func validation(km *apim.KeyManager) error {
	x, err := km.Foreign()
	if err != nil {
		return fault.BadRequest.With("claimMapping or tokenValidation are not of the form they must have")
	}
	if len(x.Rules) > maxRules || len(x.Claims) > maxRules {
		return fault.BadRequest.Withf("A key manager has at most %d token rules and claim mappings", maxRules)
	}
	for _, c := range x.Claims {
		if c.Remote == "" || c.Local == "" {
			return fault.BadRequest.With("A claim mapping has a remoteClaim and a localClaim")
		}
	}
	for _, r := range x.Rules {
		if !r.Enable {
			continue
		}
		switch r.Type {
		case "REFERENCE", "REGEX":
			if _, err := regexp.Compile(r.Text()); err != nil || len(r.Text()) > 1024 {
				return fault.BadRequest.Withf("'%.100s' is no regular expression", r.Text())
			}
		case "JWT":
			want, err := r.Wanted()
			if err != nil {
				return fault.BadRequest.With("The value of a token rule of type JWT is an object of claims and what they match")
			}
			for _, v := range want {
				if _, err := regexp.Compile(v); err != nil || len(v) > 1024 {
					return fault.BadRequest.Withf("'%.100s' is no regular expression", v)
				}
			}
		default:
			return fault.BadRequest.Withf("Token rules of type '%.100s' cannot be enforced; use REFERENCE, REGEX or JWT", r.Type)
		}
	}
	return nil
}

// checkPEM reads a certificate or public key, as it is or in base64. None is
// no mistake: a key manager for exchange may come without.
func checkPEM(text string) error {
	if text = strings.TrimSpace(text); text == "" {
		return nil
	}
	if !strings.Contains(text, "-----BEGIN") {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return errors.New("neither PEM nor base64 of it")
		}
		text = string(raw)
	}
	_, err := token.ParsePEM([]byte(text), "")
	return err
}
