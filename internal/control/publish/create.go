package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/definition"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Create makes an API in the state CREATED out of what the caller gave, with
// defaults for the rest. Doc is its definition, or nil to have one made.
func (s *Service) Create(ctx context.Context, api *apim.API, doc *definition.Doc) (*apim.API, error) {
	a := apim.ActorFrom(ctx)
	api.Meta = apim.Meta{Tenant: a.Tenant}
	api.ID, api.State, api.Workflow, api.RevisionCount = apim.APIID(newID()), apim.Created, "", 0
	api.Provider = a.User
	api.History = []apim.Transition{{API: api.ID, To: apim.Created, User: a.User, At: s.Now()}}
	if err := checkName(api.Name); err != nil {
		return nil, err
	}
	if err := checkVersion(api.Version); err != nil {
		return nil, err
	}
	var err error
	if api.Context, api.ContextTemplate, err = normalContext(a.Tenant, api.Context); err != nil {
		return nil, err
	}
	if api.Type == "ASYNC" && !advertised(api.Advertise) {
		return nil, fault.BadRequest.With("ASYNC type APIs only can be created as third party APIs")
	}
	s.fill(api)
	if api.Endpoint, err = s.seal(api.Endpoint, nil); err != nil {
		return nil, err
	}
	if api.Websub, err = s.seal(api.Websub, nil); err != nil {
		return nil, err
	}
	if err := s.adoptScopes(ctx, api); err != nil {
		return nil, err
	}
	if err := s.checkAll(ctx, api, nil); err != nil {
		return nil, err
	}
	if err := s.storeDefinition(ctx, api, doc); err != nil {
		return nil, err
	}
	err = s.retry(ctx, func(ctx context.Context) error {
		if err := s.collide(ctx, api); err != nil {
			return err
		}
		if err := s.APIs.Create(ctx, apim.In(api.Tenant), api); err != nil {
			if errors.Is(err, &fault.Exists) {
				return taken(err, api)
			}
			return fmt.Errorf("create api: %w", err)
		}
		return s.oneDefault(ctx, api)
	})
	if err != nil {
		return nil, err
	}
	s.checkLater(api)
	return api, nil
}

func advertised(raw json.RawMessage) bool {
	var v struct {
		Advertised bool `json:"advertised"`
	}
	return json.Unmarshal(raw, &v) == nil && v.Advertised
}

// storeDefinition keeps the bytes of doc, or of a document made for the API.
func (s *Service) storeDefinition(ctx context.Context, api *apim.API, doc *definition.Doc) error {
	var b []byte
	format := definition.JSON
	if doc != nil {
		b, format = doc.Bytes, doc.Format
	} else {
		var err error
		if b, err = definition.New(api.Name, api.Version, api.Description, specs(api.Operations), scopeSpecs(api.Scopes)); err != nil {
			return fmt.Errorf("make definition: %w", err)
		}
	}
	ref, err := s.Blobs.Put(ctx, b)
	if err != nil {
		return fmt.Errorf("store definition: %w", err)
	}
	if ref != api.Definition {
		api.Findings = nil
	}
	api.Definition, api.DefinitionType = ref, format
	return nil
}

func specs(ops []apim.Operation) []definition.Operation {
	out := make([]definition.Operation, 0, len(ops))
	for _, o := range ops {
		out = append(out, definition.Operation{Path: o.Target, Verb: o.Verb, Tier: o.Policy, Auth: o.Auth, Scopes: o.Scopes})
	}
	return out
}

func scopeSpecs(scopes []apim.APIScope) []definition.Scope {
	out := make([]definition.Scope, 0, len(scopes))
	for _, s := range scopes {
		out = append(out, definition.Scope{Name: s.Name, Description: s.Description, Roles: s.Roles})
	}
	return out
}

// adoptScopes marks scopes that are shared in the tenant and takes their
// wording and roles from there.
func (s *Service) adoptScopes(ctx context.Context, api *apim.API) error {
	seen := map[string]bool{}
	for i := range api.Scopes {
		sc := &api.Scopes[i]
		if sc.Name == "" || len(sc.Name) > 255 || hasControl(sc.Name) {
			return fault.BadRequest.Withf("scopes[%d]: the name is missing or malformed", i)
		}
		if seen[sc.Name] {
			return fault.BadRequest.Withf("scopes[%d]: %s occurs twice", i, printable(sc.Name))
		}
		seen[sc.Name] = true
		shared, err := s.Scopes.First(ctx, apim.In(api.Tenant), apim.Where("name", sc.Name))
		switch {
		case missing(err) && sc.Shared:
			return fault.ScopeNotFound.Withf("Shared scope %s does not exist", printable(sc.Name))
		case missing(err):
			if sc.ID == "" {
				sc.ID = newID()
			}
			if sc.DisplayName == "" {
				sc.DisplayName = sc.Name
			}
		case err != nil:
			return fmt.Errorf("look for shared scope: %w", err)
		default:
			*sc = apim.APIScope{Shared: true, ID: shared.ID, Name: shared.Name, DisplayName: shared.DisplayName, Description: shared.Description, Roles: shared.Roles}
		}
	}
	return nil
}

// oneDefault takes the mark of the default version from the other versions.
func (s *Service) oneDefault(ctx context.Context, api *apim.API) error {
	if !api.Default {
		return nil
	}
	others, err := s.APIs.List(ctx, apim.In(api.Tenant), apim.Where("name", api.Name).And("default", true))
	if err != nil {
		return fmt.Errorf("look for the default version: %w", err)
	}
	for _, o := range others.Items {
		if o.ID == api.ID {
			continue
		}
		o.Default = false
		if err := s.save(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// Update replaces the working copy by in, except for what never changes: name,
// version, context, provider, type, state. Guard, if not nil, may refuse the
// copy that is about to be replaced.
func (s *Service) Update(ctx context.Context, id apim.APIID, in *apim.API, guard func(*apim.API) error) (*apim.API, error) {
	var redefined bool
	out, err := s.mutate(ctx, id, func(ctx context.Context, api *apim.API) error {
		if guard != nil {
			if err := guard(api); err != nil {
				return err
			}
		}
		old, n := *api, *in
		n.Meta, n.ID, n.Name, n.Version, n.Context, n.ContextTemplate = old.Meta, old.ID, old.Name, old.Version, old.Context, old.ContextTemplate
		n.Provider, n.Type, n.State, n.Workflow = old.Provider, old.Type, old.State, old.Workflow
		n.Definition, n.DefinitionType, n.Findings = old.Definition, old.DefinitionType, old.Findings
		n.Thumbnail, n.ThumbnailType, n.RevisionCount, n.History = old.Thumbnail, old.ThumbnailType, old.RevisionCount, old.History
		n.Operations, n.Scopes = slices.Clone(in.Operations), slices.Clone(in.Scopes)
		keepOperationIDs(&n, &old)
		if len(n.Security) == 0 {
			n.Security = old.Security
		}
		if n.CORS == nil {
			n.CORS = old.CORS
		}
		if len(n.Advertise) == 0 {
			n.Advertise = old.Advertise
		}
		if len(n.Plans) == 0 && n.State == apim.Published && !advertised(n.Advertise) {
			n.Plans = []string{subscriptionless(n.Type)}
		}
		s.fill(&n)
		var err error
		if n.Endpoint, err = s.seal(n.Endpoint, old.Endpoint); err != nil {
			return err
		}
		if n.Websub, err = s.seal(n.Websub, old.Websub); err != nil {
			return err
		}
		if err := s.adoptScopes(ctx, &n); err != nil {
			return err
		}
		if err := s.checkAll(ctx, &n, &old); err != nil {
			return err
		}
		if redefined, err = s.syncDefinition(ctx, &n, &old); err != nil {
			return err
		}
		*api = n
		return s.oneDefault(ctx, api)
	})
	if err == nil && redefined {
		s.checkLater(out)
	}
	return out, err
}

func subscriptionless(kind string) string {
	switch kind {
	case "WS", "SSE", "WEBSUB", "WEBHOOK", "ASYNC":
		return "AsyncDefaultSubscriptionless"
	}
	return "DefaultSubscriptionless"
}

func keepOperationIDs(n, old *apim.API) {
	ids := map[[2]string]string{}
	for _, o := range old.Operations {
		ids[[2]string{o.Target, o.Verb}] = o.ID
	}
	for i := range n.Operations {
		o := &n.Operations[i]
		o.ID = ids[[2]string{o.Target, o.Verb}]
	}
}

// syncDefinition carries changed operations and scopes into the definition,
// and leaves its bytes alone when there is no change.
func (s *Service) syncDefinition(ctx context.Context, n, old *apim.API) (bool, error) {
	same := slices.EqualFunc(n.Operations, old.Operations, func(a, b apim.Operation) bool {
		return a.Target == b.Target && a.Verb == b.Verb && a.Auth == b.Auth && a.Policy == b.Policy && slices.Equal(a.Scopes, b.Scopes)
	}) && slices.EqualFunc(n.Scopes, old.Scopes, func(a, b apim.APIScope) bool {
		return a.Name == b.Name && a.Description == b.Description && slices.Equal(a.Roles, b.Roles)
	})
	if same || n.Definition == "" {
		return false, nil
	}
	doc, err := s.readDefinition(ctx, old.Definition)
	if err != nil {
		return false, err
	}
	b, err := doc.Sync(specs(old.Operations), specs(n.Operations), scopeSpecs(old.Scopes), scopeSpecs(n.Scopes))
	if err != nil {
		return false, fmt.Errorf("edit definition: %w", err)
	}
	ref, err := s.Blobs.Put(ctx, b)
	if err != nil {
		return false, fmt.Errorf("store definition: %w", err)
	}
	changed := ref != n.Definition
	n.Definition = ref
	return changed, nil
}

func (s *Service) readDefinition(ctx context.Context, ref apim.BlobRef) (*definition.Doc, error) {
	b, err := s.Blobs.Get(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("load definition: %w", err)
	}
	doc, err := definition.Read(b)
	if err != nil && !errors.Is(err, &fault.OpenAPINoPaths) {
		return nil, fmt.Errorf("read stored definition: %w", err)
	}
	return doc, nil
}

// Delete removes an API with its revisions and deployments; not while somebody
// is subscribed.
func (s *Service) Delete(ctx context.Context, id apim.APIID, guard func(*apim.API) error) error {
	return s.retry(ctx, func(ctx context.Context) error {
		api, err := s.load(ctx, id)
		if err != nil {
			return err
		}
		if guard != nil {
			if err := guard(api); err != nil {
				return err
			}
		}
		sc, mine := apim.In(api.Tenant), apim.Where("api", string(id))
		n, err := s.Subscriptions.Count(ctx, apim.Across(apim.CrossTenant), mine)
		if err != nil {
			return fmt.Errorf("count subscriptions: %w", err)
		}
		if n > 0 {
			return fault.Exists.Withf("Cannot remove the API %s as active subscriptions exist", id)
		}
		if err := deleteAll(ctx, s.Deployments, sc, mine, func(d *apim.Deployment) apim.DeploymentID { return d.ID }); err != nil {
			return fmt.Errorf("delete deployments: %w", err)
		}
		if err := deleteAll(ctx, s.Revisions, sc, mine, func(r *apim.Revision) apim.RevisionID { return r.ID }); err != nil {
			return fmt.Errorf("delete revisions: %w", err)
		}
		if err := deleteAll(ctx, s.APIKeys, sc, mine, func(k *apim.APIKey) string { return k.ID }); err != nil {
			return fmt.Errorf("delete API keys: %w", err)
		}
		if err := s.APIs.Delete(ctx, sc, id); err != nil {
			if missing(err) {
				return notFound(id)
			}
			return fmt.Errorf("delete api: %w", err)
		}
		return nil
	})
}

func deleteAll[T any, ID ~string](ctx context.Context, t Table[T, ID], sc apim.Scope, q apim.Query, id func(*T) ID) error {
	p, err := t.List(ctx, sc, q)
	if err != nil {
		return err
	}
	for _, v := range p.Items {
		if err := t.Delete(ctx, sc, id(v)); err != nil && !missing(err) {
			return err
		}
	}
	return nil
}

// Copy makes a new version of an API, in the state CREATED, that shares nothing
// with the original.
func (s *Service) Copy(ctx context.Context, id apim.APIID, version string, asDefault bool) (*apim.API, error) {
	if err := checkVersion(version); err != nil {
		return nil, err
	}
	src, err := s.load(ctx, id)
	if err != nil {
		return nil, err
	}
	same, err := s.APIs.List(ctx, apim.In(src.Tenant), apim.Where("name", src.Name).And("version", version))
	if err != nil {
		return nil, fmt.Errorf("look for the version: %w", err)
	}
	if len(same.Items) > 0 {
		return nil, fault.APIVersionExists.Withf("API Version with name:%s version:%s already exists", src.Name, version)
	}
	a, c := apim.ActorFrom(ctx), *src
	c.Meta = apim.Meta{Tenant: src.Tenant}
	c.ID, c.Version, c.State, c.Default, c.Workflow, c.RevisionCount = apim.APIID(newID()), version, apim.Created, asDefault, "", 0
	c.History = []apim.Transition{{API: c.ID, To: apim.Created, User: a.User, At: s.Now()}}
	c.Operations = slices.Clone(src.Operations)
	for i := range c.Operations {
		c.Operations[i].ID = newID()
	}
	err = s.retry(ctx, func(ctx context.Context) error {
		if err := s.APIs.Create(ctx, apim.In(c.Tenant), &c); err != nil {
			if errors.Is(err, &fault.Exists) {
				return fault.APIVersionExists.Withf("API Version with name:%s version:%s already exists", src.Name, version)
			}
			return fmt.Errorf("create api: %w", err)
		}
		return s.oneDefault(ctx, &c)
	})
	return &c, err
}
