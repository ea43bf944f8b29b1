package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
)

// Client speaks to the management surfaces of one node as one user.
type Client struct {
	Base  string // https://host:port
	User  string
	Pass  string
	Token string
}

// Scopes that the tools of the original ask for; what the user's roles do not
// carry is dropped by the server.
const Scopes = "apim:admin apim:tier_view apim:tier_manage apim:api_view apim:api_create apim:api_publish apim:api_delete apim:api_manage apim:subscription_manage apim:subscription_view apim:api_generate_key apim:shared_scope_manage apim:environment_manage apim:environment_read apim:app_manage apim:sub_manage apim:subscribe apim:api_key apim:store_settings apim:publisher_settings openid"

// Answer is a status with its headers and body.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// JSON decodes the body.
func (a *Answer) JSON(out any) error {
	if err := json.Unmarshal(a.Body, out); err != nil {
		return fmt.Errorf("decode answer %d %.300q: %w", a.Status, a.Body, err)
	}
	return nil
}

// Login registers a client (dynamic registration v0.17) and gets a token by the
// password grant, as the command line tool of the original does.
func Login(ctx context.Context, base, user, pass string) (*Client, error) {
	c := &Client{Base: base, User: user, Pass: pass}
	body, err := json.Marshal(map[string]any{
		"clientName": "rest_api_e2e_" + strings.ReplaceAll(user, "@", "_"), "owner": user,
		"grantType": "password refresh_token client_credentials", "saasApp": true, "callbackUrl": "www.example.org",
	})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/client-registration/v0.17/register", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth(user, pass)
	a, err := send(req)
	if err != nil {
		return nil, err
	}
	var reg struct{ ClientID, ClientSecret string }
	if err := a.JSON(&reg); err != nil || a.Status != http.StatusOK {
		return nil, fmt.Errorf("register client: status %d: %s (%w)", a.Status, a.Body, err)
	}
	tok, err := c.Grant(ctx, reg.ClientID, reg.ClientSecret, url.Values{
		"grant_type": {"password"}, "username": {user}, "password": {pass}, "scope": {Scopes},
	})
	if err != nil {
		return nil, err
	}
	c.Token = tok
	return c, nil
}

// Grant asks the token endpoint and returns the access token.
func (c *Client) Grant(ctx context.Context, id, secret string, form url.Values) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Base+"/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(id, secret)
	a, err := send(req)
	if err != nil {
		return "", err
	}
	var tok struct {
		AccessToken string `json:"access_token"`
	}
	if err := a.JSON(&tok); err != nil || a.Status != http.StatusOK || tok.AccessToken == "" {
		return "", fmt.Errorf("token: status %d: %s (%w)", a.Status, a.Body, err)
	}
	return tok.AccessToken, nil
}

// Do sends a JSON request (body nil: none) to a path below Base.
func (c *Client) Do(ctx context.Context, method, path string, body any) (*Answer, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, r)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	return send(req)
}

// Must is Do with an expected status and a decoded answer (out may be nil).
func (c *Client) Must(ctx context.Context, status int, method, path string, body, out any) error {
	a, err := c.Do(ctx, method, path, body)
	if err != nil {
		return err
	}
	if a.Status != status {
		return fmt.Errorf("%s %s: status %d, want %d: %.600s", method, path, a.Status, status, a.Body)
	}
	if out == nil {
		return nil
	}
	return a.JSON(out)
}

// Part is one part of a multipart upload; with File it is sent as a file.
type Part struct {
	Name, File string
	Data       []byte
}

// Upload sends a multipart form.
func (c *Client) Upload(ctx context.Context, method, path string, parts ...Part) (*Answer, error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range parts {
		var pw io.Writer
		var err error
		if p.File != "" {
			pw, err = w.CreateFormFile(p.Name, p.File)
		} else {
			pw, err = w.CreateFormField(p.Name)
		}
		if err != nil {
			return nil, err
		}
		if _, err := pw.Write(p.Data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, &b)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	req.Header.Set("Authorization", "Bearer "+c.Token)
	return send(req)
}

func send(req *http.Request) (*Answer, error) {
	res, err := Insecure.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("read answer of %s %s: %w", req.Method, req.URL.Path, err)
	}
	return &Answer{Status: res.StatusCode, Header: res.Header, Body: b}, nil
}

// Call sends one request to a gateway with a bearer token (empty: none).
func Call(ctx context.Context, method, target, token string, body []byte) (*Answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return send(req)
}

// NewUser adds a user with roles; c is an administrator of the platform.
func (c *Client) NewUser(ctx context.Context, name, pass string, roles ...string) error {
	return c.Must(ctx, http.StatusCreated, http.MethodPost, "/api/cardea/v1/users", map[string]any{"name": name, "password": pass, "roles": roles}, nil)
}

// Paths of the management surfaces.
const (
	Publisher = "/api/am/publisher/v4"
	Devportal = "/api/am/devportal/v3"
	Admin     = "/api/am/admin/v4"
)

// NewAPI says what to publish.
type NewAPI struct {
	Definition []byte
	File       string // name of the upload, swagger.json by default
	Name       string
	Version    string
	Context    string
	Backend    string
	Plans      []string // business plans; Unlimited by default
	Extra      map[string]any
}

// Import creates an API from its definition and returns its id.
func (c *Client) Import(ctx context.Context, in NewAPI) (string, error) {
	if in.File == "" {
		in.File = "swagger.json"
	}
	if len(in.Plans) == 0 {
		in.Plans = []string{"Unlimited"}
	}
	props := map[string]any{
		"name": in.Name, "version": in.Version, "context": in.Context, "policies": in.Plans,
		"endpointConfig": map[string]any{
			"endpoint_type": "http", "production_endpoints": map[string]any{"url": in.Backend}, "sandbox_endpoints": map[string]any{"url": in.Backend},
		},
	}
	for k, v := range in.Extra {
		props[k] = v
	}
	pj, err := json.Marshal(props)
	if err != nil {
		return "", err
	}
	a, err := c.Upload(ctx, http.MethodPost, Publisher+"/apis/import-openapi",
		Part{Name: "file", File: in.File, Data: in.Definition}, Part{Name: "additionalProperties", Data: pj})
	if err != nil {
		return "", err
	}
	if a.Status != http.StatusCreated {
		return "", fmt.Errorf("import: status %d: %.800s", a.Status, a.Body)
	}
	var out struct{ ID string }
	if err := a.JSON(&out); err != nil {
		return "", err
	}
	return out.ID, nil
}

// Deploy makes a revision and deploys it to the Default environment; it returns
// the revision's id and the answer of the deployment.
func (c *Client) Deploy(ctx context.Context, api string) (string, *Answer, error) {
	var rev struct{ ID string }
	if err := c.Must(ctx, http.StatusCreated, http.MethodPost, Publisher+"/apis/"+api+"/revisions", map[string]string{"description": "e2e"}, &rev); err != nil {
		return "", nil, err
	}
	a, err := c.Do(ctx, http.MethodPost, Publisher+"/apis/"+api+"/deploy-revision?revisionId="+rev.ID,
		[]map[string]any{{"name": "Default", "vhost": "localhost", "displayOnDevportal": true}})
	if err != nil {
		return "", nil, err
	}
	if a.Status != http.StatusCreated {
		return "", a, fmt.Errorf("deploy: status %d: %s", a.Status, a.Body)
	}
	return rev.ID, a, nil
}

// Publish deploys an API and moves it to Published.
func (c *Client) Publish(ctx context.Context, api string) error {
	if _, _, err := c.Deploy(ctx, api); err != nil {
		return err
	}
	return c.Must(ctx, http.StatusOK, http.MethodPost, Publisher+"/apis/change-lifecycle?action=Publish&apiId="+api, nil, nil)
}

// App is an application with production keys.
type App struct {
	ID, ConsumerKey, ConsumerSecret, Token string
}

// NewApp creates an application and generates its production keys.
func (c *Client) NewApp(ctx context.Context, name, policy string) (*App, error) {
	var app struct {
		ApplicationID string `json:"applicationId"`
	}
	if err := c.Must(ctx, http.StatusCreated, http.MethodPost, Devportal+"/applications",
		map[string]any{"name": name, "throttlingPolicy": policy, "tokenType": "JWT"}, &app); err != nil {
		return nil, err
	}
	var keys struct {
		ConsumerKey, ConsumerSecret string
		Token                       struct{ AccessToken string }
	}
	if err := c.Must(ctx, http.StatusOK, http.MethodPost, Devportal+"/applications/"+app.ApplicationID+"/generate-keys",
		map[string]any{"keyType": "PRODUCTION", "grantTypesToBeSupported": []string{"client_credentials", "password", "refresh_token"}, "validityTime": 3600}, &keys); err != nil {
		return nil, err
	}
	if keys.ConsumerKey == "" || keys.ConsumerSecret == "" {
		return nil, errors.New("generate keys: no consumer key in the answer")
	}
	return &App{ID: app.ApplicationID, ConsumerKey: keys.ConsumerKey, ConsumerSecret: keys.ConsumerSecret, Token: keys.Token.AccessToken}, nil
}

// Subscribe subscribes an application to an API and returns the subscription id.
func (c *Client) Subscribe(ctx context.Context, app, api, plan string) (string, error) {
	var sub struct {
		SubscriptionID string `json:"subscriptionId"`
	}
	err := c.Must(ctx, http.StatusCreated, http.MethodPost, Devportal+"/subscriptions",
		map[string]any{"applicationId": app, "apiId": api, "throttlingPolicy": plan}, &sub)
	return sub.SubscriptionID, err
}

// AppToken gets an application token by client credentials.
func (c *Client) AppToken(ctx context.Context, app *App, scope string) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	if scope != "" {
		form.Set("scope", scope)
	}
	return c.Grant(ctx, app.ConsumerKey, app.ConsumerSecret, form)
}
