package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// PortalAPI is an API as consumers see it.
type PortalAPI struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Version   string `json:"version"`
	Context   string `json:"context"`
	Tiers     []tier `json:"tiers"`
	Endpoints []struct {
		Environment string `json:"environmentName"`
		URLs        struct {
			HTTP  string `json:"http"`
			HTTPS string `json:"https"`
		} `json:"URLs"`
	} `json:"endpointURLs"`
}

type tier struct {
	Name string `json:"tierName"`
}

// URL is where the API is called: https where it is offered.
func (a *PortalAPI) URL() string {
	for _, e := range a.Endpoints {
		if e.URLs.HTTPS != "" {
			return e.URLs.HTTPS
		}
		if e.URLs.HTTP != "" {
			return e.URLs.HTTP
		}
	}
	return ""
}

// API finds a published API by id or by name; without a version the newest wins.
func (c *Client) API(ctx context.Context, name, version string) (*PortalAPI, error) {
	var hits list[PortalAPI]
	if err := c.Do(ctx, http.MethodGet, Devportal+"/apis?limit=200&query="+url.QueryEscape(fmt.Sprintf("name:%q", name)), nil, &hits); err != nil {
		return nil, fmt.Errorf("look for %s: %w", name, err)
	}
	id, best := "", ""
	for _, a := range hits.List {
		if strings.EqualFold(a.Name, name) && (version == "" || a.Version == version) && a.Version >= best {
			id, best = a.ID, a.Version
		}
	}
	if id == "" {
		id = name
	}
	var api PortalAPI
	if err := c.Do(ctx, http.MethodGet, Devportal+"/apis/"+url.PathEscape(id), nil, &api); err != nil {
		if IsStatus(err, http.StatusNotFound) || IsStatus(err, http.StatusForbidden) {
			return nil, fmt.Errorf("no published API is called %q", strings.TrimSpace(name+" "+version))
		}
		return nil, fmt.Errorf("read API: %w", err)
	}
	return &api, nil
}

type application struct {
	ID   string `json:"applicationId"`
	Name string `json:"name"`
}

// Application gives the id of the caller's application of that name, which is
// made when it is missing.
func (c *Client) Application(ctx context.Context, name, plan string) (string, error) {
	var hits list[application]
	if err := c.Do(ctx, http.MethodGet, Devportal+"/applications?limit=200&query="+url.QueryEscape(name), nil, &hits); err != nil {
		return "", fmt.Errorf("list applications: %w", err)
	}
	for _, a := range hits.List {
		if a.Name == name {
			return a.ID, nil
		}
	}
	c.say("creating application %s", name)
	var app application
	err := c.Do(ctx, http.MethodPost, Devportal+"/applications", map[string]any{
		"name": name, "throttlingPolicy": plan, "description": "", "tokenType": "JWT",
	}, &app)
	if err != nil {
		return "", fmt.Errorf("create application: %w", err)
	}
	return app.ID, nil
}

// Subscribe makes sure that the application may call the API. An empty plan
// takes the first that the API offers.
func (c *Client) Subscribe(ctx context.Context, app string, api *PortalAPI, plan string) error {
	if plan == "" {
		if len(api.Tiers) == 0 {
			return fmt.Errorf("subscribe: %s offers no plan", api.Name)
		}
		plan = api.Tiers[0].Name
	}
	err := c.Do(ctx, http.MethodPost, Devportal+"/subscriptions", map[string]string{
		"applicationId": app, "apiId": api.ID, "throttlingPolicy": plan,
	}, nil)
	if err != nil && !IsStatus(err, http.StatusConflict) {
		return fmt.Errorf("subscribe: %w", err)
	}
	if err == nil {
		c.say("subscribed to %s %s with plan %s", api.Name, api.Version, plan)
	}
	return nil
}

// Keys are an application's OAuth client.
type Keys struct {
	MappingID string `json:"keyMappingId"`
	Key       string `json:"consumerKey"`
	Secret    string `json:"consumerSecret"`
	KeyType   string `json:"keyType"`
	Manager   string `json:"keyManager"`
}

// Keys gives the application's production keys, generating them when there are none.
func (c *Client) Keys(ctx context.Context, app string) (*Keys, error) {
	var have list[Keys]
	if err := c.Do(ctx, http.MethodGet, Devportal+"/applications/"+app+"/oauth-keys", nil, &have); err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	for _, k := range have.List {
		if k.KeyType == "PRODUCTION" && k.Secret != "" {
			return &k, nil
		}
	}
	c.say("generating keys")
	var k Keys
	err := c.Do(ctx, http.MethodPost, Devportal+"/applications/"+app+"/generate-keys", map[string]any{
		"keyType": "PRODUCTION", "grantTypesToBeSupported": []string{"client_credentials"}, "callbackUrl": "",
		"scopes": []string{"default"}, "validityTime": "3600", "additionalProperties": map[string]any{},
	}, &k)
	if IsStatus(err, http.StatusConflict) {
		return nil, errors.New("the application has keys whose secret is no longer shown; use another application (--app)")
	}
	if err != nil {
		return nil, fmt.Errorf("generate keys: %w", err)
	}
	return &k, nil
}

// AccessToken gets a token of the application by client credentials.
func (c *Client) AccessToken(ctx context.Context, k *Keys) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Base+"/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	own := &Client{Base: c.Base, HTTP: c.HTTP, Authorize: func(r *http.Request) { r.SetBasicAuth(k.Key, k.Secret) }}
	var t Token
	if err := own.send(req, &t); err != nil {
		return "", fmt.Errorf("get token: %w", err)
	}
	return t.Access, nil
}
