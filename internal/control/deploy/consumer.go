package deploy

import (
	"context"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

func (t *translator) application(ctx context.Context, id apim.AppID) (snapshot.Item, error) {
	key := snapshot.Key{Kind: snapshot.KindApplication, ID: string(id)}
	a, err := t.src.Applications.Get(ctx, platform, id)
	if missing(err) {
		return gone(key), nil
	}
	if err != nil {
		return snapshot.Item{}, err
	}
	return applicationItem(a)
}

func applicationItem(a *apim.Application) (snapshot.Item, error) {
	key := snapshot.Key{Kind: snapshot.KindApplication, ID: string(a.ID)}
	if a.Status == "CREATED" || a.Status == "REJECTED" { // awaits approval, or did not get it
		return gone(key), nil
	}
	return snapshot.Make(key, snapshot.Application{
		ID: string(a.ID), Tenant: string(a.Tenant), Name: a.Name, Owner: a.Owner,
		Policy: a.Policy, TokenType: a.TokenType, Attributes: a.Attributes, ResetAt: a.ResetAt,
	})
}

func subscriptionKey(app, api string) snapshot.Key {
	return snapshot.Key{Kind: snapshot.KindSubscription, ID: app + "/" + api}
}

func (t *translator) subscription(ctx context.Context, c apim.Change) ([]snapshot.Item, error) {
	app, api, ok := strings.Cut(c.Parent, "/")
	if !ok {
		return nil, errUntranslatable
	}
	// By what it connects, not by its id: it may have been deleted and made again.
	s, err := t.src.Subscriptions.First(ctx, platform, apim.Where("application", app).And("api", api))
	if missing(err) {
		return []snapshot.Item{gone(subscriptionKey(app, api))}, nil
	}
	if err != nil {
		return nil, err
	}
	return one(subscriptionItem(s))
}

func subscriptionItem(s *apim.Subscription) (snapshot.Item, error) {
	return snapshot.Make(subscriptionKey(string(s.Application), string(s.API)), snapshot.Subscription{
		ID: string(s.ID), Tenant: string(s.Tenant), Application: string(s.Application), API: string(s.API),
		Policy: s.Policy, State: s.State,
	})
}

func keyKey(parent string) snapshot.Key { return snapshot.Key{Kind: snapshot.KindKey, ID: parent} }

func (t *translator) keyMapping(ctx context.Context, c apim.Change) ([]snapshot.Item, error) {
	km, consumer, ok := strings.Cut(c.Parent, "/")
	if !ok {
		return nil, errUntranslatable
	}
	var out []snapshot.Item
	m, err := t.src.KeyMappings.First(ctx, platform, apim.Where("key_manager", km).And("consumer_key", consumer))
	switch {
	case missing(err):
		out = append(out, gone(keyKey(c.Parent)))
	case err != nil:
		return nil, err
	default:
		it, err := keyMappingItem(m)
		if err != nil {
			return nil, err
		}
		out = append(out, it)
		// The mapping may have pointed to another consumer key before.
		if was, ok := t.idx.keys[mappingKey{string(m.Application), m.KeyManager, m.KeyType}]; ok && was != it.ID {
			former, consumer, _ := strings.Cut(was, "/")
			_, err := t.src.KeyMappings.First(ctx, platform, apim.Where("key_manager", former).And("consumer_key", consumer))
			if missing(err) {
				out = append(out, gone(keyKey(was)))
			} else if err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func keyMappingItem(m *apim.KeyMapping) (snapshot.Item, error) {
	key := keyKey(m.KeyManager + "/" + string(m.ConsumerKey))
	if m.ConsumerKey == "" || m.State == "CREATED" || m.State == "REJECTED" {
		return gone(key), nil
	}
	return snapshot.Make(key, snapshot.KeyMapping{
		ConsumerKey: string(m.ConsumerKey), KeyManager: m.KeyManager, Application: string(m.Application), KeyType: m.KeyType,
	})
}

func apiKeyKey(hash string) snapshot.Key {
	return snapshot.Key{Kind: snapshot.KindAPIKey, ID: strings.TrimPrefix(hash, "sha256:")}
}

func (t *translator) apiKeyItems(ctx context.Context, c apim.Change) ([]snapshot.Item, error) {
	k, err := t.src.APIKeys.Get(ctx, platform, c.Object)
	var out []snapshot.Item
	switch {
	case missing(err):
		out = append(out, gone(apiKeyKey(c.Parent)))
	case err != nil:
		return nil, err
	default:
		it, err := apiKeyItem(k)
		if err != nil {
			return nil, err
		}
		out = append(out, it)
		if c.Parent != "" && apiKeyKey(c.Parent) != it.Key {
			out = append(out, gone(apiKeyKey(c.Parent)))
		}
	}
	// A regenerated key must not go on working under its former hash.
	if was, ok := t.idx.apiKeys[c.Object]; ok && was != out[0].ID {
		out = append(out, gone(apiKeyKey(was)))
	}
	return out, nil
}

func apiKeyItem(k *apim.APIKey) (snapshot.Item, error) {
	return snapshot.Make(apiKeyKey(string(k.Hash)), snapshot.APIKey{
		ID: k.ID, Name: k.Name, API: string(k.API), Application: string(k.Application), KeyType: k.KeyType,
		User: k.Owner, Expires: k.Expires, IPs: k.IPs, Referers: k.Referers,
	})
}

func (t *translator) policy(ctx context.Context, c apim.Change) ([]snapshot.Item, error) {
	level, name, ok := strings.Cut(c.Parent, "/")
	kind, known := policyKind(apim.PolicyLevel(level))
	if !ok || !known {
		return nil, errUntranslatable
	}
	p, err := t.src.Policies.First(ctx, apim.In(c.Tenant), apim.Where("level", level).And("name", name))
	if missing(err) {
		return []snapshot.Item{gone(policyKey(kind, c.Tenant, name))}, nil
	}
	if err != nil {
		return nil, err
	}
	return one(policyItem(p))
}

func (t *translator) environment(ctx context.Context, c apim.Change) ([]snapshot.Item, error) {
	e, err := t.src.Environments.First(ctx, apim.In(c.Tenant), apim.Where("name", c.Parent))
	var out []snapshot.Item
	switch {
	case missing(err):
		out = append(out, gone(snapshot.Key{Kind: snapshot.KindEnvironment, ID: c.Parent}))
	case err != nil:
		return nil, err
	default:
		if out, err = one(environmentItem(e)); err != nil {
			return nil, err
		}
	}
	// The first virtual host decides on which hosts its APIs answer; what did not
	// change by it keeps its version.
	for d, err := range each(ctx, t.src.Deployments, apim.Where("environment", c.Parent)) {
		if err != nil {
			return nil, err
		}
		if d.VHost == "" || (c.Tenant != apim.SuperTenant && d.Tenant != c.Tenant) {
			continue
		}
		its, err := t.api(ctx, d.API, d.Environment)
		if err != nil {
			return nil, err
		}
		out = append(out, its...)
	}
	return out, nil
}

func environmentItem(e *apim.Environment) (snapshot.Item, error) {
	v := snapshot.Environment{Name: e.Name, Type: e.Type}
	for _, h := range e.VHosts {
		v.VHosts = append(v.VHosts, h.Host)
	}
	return snapshot.Make(snapshot.Key{Kind: snapshot.KindEnvironment, ID: e.Name}, v)
}

func (t *translator) tenant(ctx context.Context, domain apim.TenantID) (snapshot.Item, error) {
	v, err := t.src.Tenants.Get(ctx, platform, domain)
	if missing(err) {
		return gone(snapshot.Key{Kind: snapshot.KindTenant, ID: string(domain)}), nil
	}
	if err != nil {
		return snapshot.Item{}, err
	}
	return tenantItem(v)
}

func tenantItem(v *apim.Tenant) (snapshot.Item, error) {
	return snapshot.Make(snapshot.Key{Kind: snapshot.KindTenant, ID: string(v.Domain)}, snapshot.Tenant{Domain: string(v.Domain), Active: v.Active})
}

func (t *translator) revocation(ctx context.Context, id string) (snapshot.Item, error) {
	r, err := t.src.Revocations.Revocation(ctx, id)
	if missing(err) {
		return gone(snapshot.Key{Kind: snapshot.KindRevocation, ID: id}), nil
	}
	if err != nil {
		return snapshot.Item{}, err
	}
	return revocationItem(r)
}

func revocationItem(r *apim.Revocation) (snapshot.Item, error) {
	return snapshot.Make(snapshot.Key{Kind: snapshot.KindRevocation, ID: r.ID}, snapshot.Revocation{
		JTI: r.JTI, Entity: r.Entity, NotBefore: r.NotBefore, Expires: r.Expires,
	})
}

// each reads a list page by page.
func each[T any, ID ~string](ctx context.Context, r Reader[T, ID], q apim.Query) func(yield func(*T, error) bool) {
	return func(yield func(*T, error) bool) {
		q.Sort, q.Limit = "id", 200
		for {
			page, err := r.List(ctx, platform, q)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, v := range page.Items {
				if !yield(v, nil) {
					return
				}
			}
			if len(page.Items) < q.Limit {
				return
			}
			q.Offset += len(page.Items)
		}
	}
}
