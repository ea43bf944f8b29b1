package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
)

// Publication says what to publish. Empty fields are taken from the document.
type Publication struct {
	Document []byte
	File     string // its name, for the server to know JSON from YAML
	Source   string // where it came from, to resolve a relative server URL
	Name     string
	Version  string
	Context  string
	Endpoint string
	Plans    []string // default Unlimited

	sample string
}

// Published is the outcome.
type Published struct {
	ID       string
	Name     string
	Version  string
	Context  string
	Revision string
	Updated  bool   // the API existed: its definition was replaced
	Sample   string // a path to try
}

type apiInfo struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Version string `json:"version"`
	Context string `json:"context"`
	State   string `json:"lifeCycleStatus"`
}

type list[T any] struct {
	List []T `json:"list"`
}

// Publish imports the document, deploys a revision of it and publishes the
// API. An API of that name and version gets the new definition instead.
func (c *Client) Publish(ctx context.Context, p Publication) (*Published, error) {
	if err := p.fill(); err != nil {
		return nil, err
	}
	api, err := c.findAPI(ctx, p.Name, p.Version)
	if err != nil {
		return nil, err
	}
	out := &Published{Name: p.Name, Version: p.Version, Updated: api != nil, Sample: p.sample}
	if api == nil {
		c.say("importing %s %s", p.Name, p.Version)
		if api, err = c.importAPI(ctx, p); err != nil {
			return nil, err
		}
	} else {
		c.say("%s %s exists: replacing its definition", p.Name, p.Version)
		err := c.upload(ctx, http.MethodPut, Publisher+"/apis/"+api.ID+"/swagger", nil, part{name: "apiDefinition", data: p.Document})
		if err != nil {
			return nil, fmt.Errorf("replace definition: %w", err)
		}
	}
	out.ID, out.Context = api.ID, api.Context
	c.say("deploying a revision")
	if out.Revision, err = c.deploy(ctx, api.ID); err != nil {
		return nil, err
	}
	if api.State != "PUBLISHED" {
		c.say("publishing")
		if err := c.Do(ctx, http.MethodPost, Publisher+"/apis/change-lifecycle?action=Publish&apiId="+url.QueryEscape(api.ID), nil, nil); err != nil {
			return nil, fmt.Errorf("publish: %w", err)
		}
	}
	return out, nil
}

func (c *Client) importAPI(ctx context.Context, p Publication) (*apiInfo, error) {
	props, err := json.Marshal(map[string]any{
		"name": p.Name, "version": p.Version, "context": p.Context, "policies": p.Plans,
		"endpointConfig": map[string]any{
			"endpoint_type":        "http",
			"production_endpoints": map[string]string{"url": p.Endpoint},
			"sandbox_endpoints":    map[string]string{"url": p.Endpoint},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("encode properties: %w", err)
	}
	var api apiInfo
	err = c.upload(ctx, http.MethodPost, Publisher+"/apis/import-openapi", &api,
		part{name: "file", file: p.File, data: p.Document}, part{name: "additionalProperties", data: props})
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	return &api, nil
}

func (c *Client) findAPI(ctx context.Context, name, version string) (*apiInfo, error) {
	var found list[apiInfo]
	q := fmt.Sprintf("name:%q version:%q", name, version)
	if err := c.Do(ctx, http.MethodGet, Publisher+"/apis?limit=100&query="+url.QueryEscape(q), nil, &found); err != nil {
		return nil, fmt.Errorf("look for %s: %w", name, err)
	}
	for _, a := range found.List {
		if strings.EqualFold(a.Name, name) && a.Version == version {
			return &a, nil
		}
	}
	return nil, nil
}

type revision struct {
	ID          string       `json:"id"`
	Number      int          `json:"revisionNumber"`
	Deployments []deployment `json:"deploymentInfo"`
}

type deployment struct {
	Name             string `json:"name"`
	VHost            string `json:"vhost,omitempty"`
	DisplayOnPortal  bool   `json:"displayOnDevportal"`
	RevisionUUIDHint string `json:"revisionUuid,omitempty"`
}

// deploy makes a revision and puts it on every environment. At the bound of
// revisions, the oldest that is deployed nowhere goes.
func (c *Client) deploy(ctx context.Context, id string) (string, error) {
	base := Publisher + "/apis/" + id
	var rev revision
	err := c.Do(ctx, http.MethodPost, base+"/revisions", map[string]string{"description": "published from the command line"}, &rev)
	if r, ok := errors.AsType[*Refusal](err); ok && r.Code == "900351" {
		if err = c.dropRevision(ctx, base); err == nil {
			err = c.Do(ctx, http.MethodPost, base+"/revisions", map[string]string{}, &rev)
		}
	}
	if err != nil {
		return "", fmt.Errorf("make revision: %w", err)
	}
	var settings struct {
		Environment []struct {
			Name   string `json:"name"`
			VHosts []struct {
				Host string `json:"host"`
			} `json:"vhosts"`
		} `json:"environment"`
	}
	if err := c.Do(ctx, http.MethodGet, Publisher+"/settings", nil, &settings); err != nil {
		return "", fmt.Errorf("ask for environments: %w", err)
	}
	var to []deployment
	for _, e := range settings.Environment {
		d := deployment{Name: e.Name, DisplayOnPortal: true}
		if len(e.VHosts) > 0 {
			d.VHost = e.VHosts[0].Host
		}
		to = append(to, d)
	}
	if len(to) == 0 {
		to = []deployment{{Name: "Default", VHost: "localhost", DisplayOnPortal: true}}
	}
	if err := c.Do(ctx, http.MethodPost, base+"/deploy-revision?revisionId="+url.QueryEscape(rev.ID), to, nil); err != nil {
		return "", fmt.Errorf("deploy revision: %w", err)
	}
	return rev.ID, nil
}

func (c *Client) dropRevision(ctx context.Context, base string) error {
	var revs list[revision]
	if err := c.Do(ctx, http.MethodGet, base+"/revisions", nil, &revs); err != nil {
		return err
	}
	oldest := -1
	for i, r := range revs.List {
		if len(r.Deployments) == 0 && (oldest < 0 || r.Number < revs.List[oldest].Number) {
			oldest = i
		}
	}
	if oldest < 0 {
		return errors.New("every revision is deployed; undeploy one first")
	}
	return c.Do(ctx, http.MethodDelete, base+"/revisions/"+revs.List[oldest].ID, nil, nil)
}

// fill takes what is missing from the document.
func (p *Publication) fill() error {
	d, err := outline(p.Document)
	if err != nil {
		return err
	}
	p.sample = d.sample()
	if p.Name == "" {
		p.Name = cleanName(d.Info.Title)
	}
	if p.Version == "" {
		p.Version = cleanVersion(d.Info.Version)
	}
	if p.Name == "" {
		return errors.New("the document has no title: give --name")
	}
	if p.Version == "" {
		p.Version = "1.0.0"
	}
	if p.Context == "" {
		p.Context = "/" + strings.ToLower(p.Name)
	}
	if p.Endpoint == "" {
		p.Endpoint = d.server(p.Source)
	}
	if p.Endpoint == "" {
		return errors.New("the document names no server by a full URL: give --endpoint")
	}
	if len(p.Plans) == 0 {
		p.Plans = []string{"Unlimited"}
	}
	if p.File == "" {
		p.File = "definition.json"
		if !isJSON(p.Document) {
			p.File = "definition.yaml"
		}
	}
	p.File = path.Base(p.File)
	return nil
}
