package deploy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/seal"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// errUntranslatable marks what no retry can help: the noun itself is bad. Its
// item stays as it was, and the change counts as translated, because one bad
// noun must not stop the others.
var errUntranslatable = errors.New("cannot be translated for gateways")

// translator makes items of the present state of the nouns that a change
// touched: so a change translated late, or twice, does no harm.
type translator struct {
	src Source
	box *seal.Box
	log *slog.Logger
	idx *index
}

// unit names what has to be made anew for a change, so that a batch of changes
// makes each thing once. It is empty for changes that gateways need not know.
func unit(c apim.Change) string {
	switch c.Kind {
	case "api":
		return "api:" + c.Object
	case "deployment":
		id, _, _ := strings.Cut(c.Object, "/")
		return "api:" + id
	case "subscription", "keymapping", "apikey", "policy", "environment":
		return c.Kind + ":" + string(c.Tenant) + ":" + c.Parent + ":" + c.Object
	case "application", "keymanager", "tenant", "revocation":
		return c.Kind + ":" + c.Object
	case "signingkey":
		return c.Kind + ":" + string(c.Tenant)
	}
	return ""
}

// items are what follows from the change.
func (t *translator) items(ctx context.Context, c apim.Change) ([]snapshot.Item, error) {
	var out []snapshot.Item
	var err error
	switch c.Kind {
	case "api", "deployment":
		id, _, _ := strings.Cut(c.Object, "/")
		env := ""
		if c.Kind == "deployment" {
			_, env, _ = strings.Cut(c.Object, "/")
		}
		out, err = t.api(ctx, apim.APIID(id), env)
	case "subscription":
		out, err = t.subscription(ctx, c)
	case "keymapping":
		out, err = t.keyMapping(ctx, c)
	case "apikey":
		out, err = t.apiKeyItems(ctx, c)
	case "policy":
		out, err = t.policy(ctx, c)
	case "environment":
		out, err = t.environment(ctx, c)
	case "application":
		out, err = one(t.application(ctx, apim.AppID(c.Object)))
	case "keymanager":
		out, err = one(t.keyManager(ctx, c.Object))
	case "signingkey":
		out, err = t.signingKey(ctx, c.Tenant)
	case "tenant":
		out, err = one(t.tenant(ctx, apim.TenantID(c.Object)))
	case "revocation":
		out, err = one(t.revocation(ctx, c.Object))
	}
	if errors.Is(err, errUntranslatable) {
		t.log.ErrorContext(ctx, "gateways keep the former state", "kind", c.Kind, "object", c.Object, "err", err)
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("translate change %d (%s %s %s): %w", c.ID, c.Op, c.Kind, c.Object, err)
	}
	return out, nil
}

func one(it snapshot.Item, err error) ([]snapshot.Item, error) {
	if err != nil {
		return nil, err
	}
	return []snapshot.Item{it}, nil
}

func gone(k snapshot.Key) snapshot.Item { return snapshot.Item{Key: k, Deleted: true} }

func missing(err error) bool { return errors.Is(err, fault.Missing.With("")) }

// api makes the items of an API in all its environments, and of the versions
// of its name that lose or win the default path by it.
func (t *translator) api(ctx context.Context, id apim.APIID, env string) ([]snapshot.Item, error) {
	envs := map[string]*apim.Deployment{}
	for _, e := range t.idx.environments(id) {
		envs[e] = nil
	}
	if env != "" {
		envs[env] = nil
	}
	for d, err := range each(ctx, t.src.Deployments, apim.Where("api", string(id))) {
		if err != nil {
			return nil, err
		}
		envs[d.Environment] = d
	}
	if len(envs) == 0 {
		return nil, nil
	}
	work, err := t.src.APIs.Get(ctx, platform, id)
	if missing(err) {
		work, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []snapshot.Item
	var bad error
	for e, d := range envs {
		its, err := t.apiIn(ctx, work, id, e, d)
		if errors.Is(err, errUntranslatable) {
			bad = errors.Join(bad, err)
		} else if err != nil {
			return nil, err
		}
		out = append(out, its...)
	}
	if bad != nil {
		t.log.ErrorContext(ctx, "gateways keep the former state", "kind", "api", "object", string(id), "err", bad)
	}
	return out, nil
}

func (t *translator) apiIn(ctx context.Context, work *apim.API, id apim.APIID, env string, d *apim.Deployment) ([]snapshot.Item, error) {
	var name nameKey
	var holder apim.APIID
	var err error
	if work != nil {
		name = nameKey{work.Tenant, work.Name, env}
		if holder, err = t.holder(ctx, name); err != nil {
			return nil, err
		}
	} else {
		name, _ = t.idx.nameOf(id, env)
		if name.name != "" {
			if holder, err = t.holder(ctx, name); err != nil {
				return nil, err
			}
		}
	}
	it, err := t.deployed(ctx, work, id, env, d, holder == id)
	if err != nil {
		return nil, err
	}
	out := []snapshot.Item{it}
	// Who held the default path so far loses it, who gets it gains it.
	for _, other := range []apim.APIID{t.idx.defaults[name], holder} {
		if other == "" || other == id || (other == holder && t.idx.defaults[name] == holder) {
			continue
		}
		w, err := t.src.APIs.Get(ctx, platform, other)
		if missing(err) {
			w, err = nil, nil
		}
		if err != nil {
			return nil, err
		}
		od, err := t.src.Deployments.Get(ctx, platform, apim.DeploymentID(string(other)+"/"+env))
		if missing(err) {
			od, err = nil, nil
		}
		if err != nil {
			return nil, err
		}
		it, err := t.deployed(ctx, w, other, env, od, holder == other)
		if errors.Is(err, errUntranslatable) {
			t.log.ErrorContext(ctx, "gateways keep the former state", "kind", "api", "object", string(other), "err", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, it)
	}
	return out, nil
}

// deployed is the item of an API in an environment, or its end.
func (t *translator) deployed(ctx context.Context, work *apim.API, id apim.APIID, env string, d *apim.Deployment, isDefault bool) (snapshot.Item, error) {
	key := apiKey(id, env)
	if work == nil || d == nil || work.State == apim.Retired {
		return gone(key), nil
	}
	rev, err := t.src.Revisions.Get(ctx, platform, d.Revision)
	if missing(err) {
		return gone(key), nil
	}
	if err != nil {
		return snapshot.Item{}, err
	}
	vhosts, err := t.vhosts(ctx, work.Tenant, d)
	if err != nil {
		return snapshot.Item{}, err
	}
	return apiItem(work, rev, d, vhosts, isDefault, t.box)
}

// vhosts are the hosts an API answers on. On the first virtual host of its
// environment it answers whatever the client called the gateway, and so it does
// when its own was taken from the environment.
func (t *translator) vhosts(ctx context.Context, tenant apim.TenantID, d *apim.Deployment) ([]string, error) {
	if d.VHost == "" {
		return nil, nil
	}
	env, err := t.env(ctx, tenant, d.Environment)
	if err != nil {
		return nil, err
	}
	if env == nil {
		return nil, nil
	}
	for i, v := range env.VHosts {
		if strings.EqualFold(v.Host, d.VHost) && i > 0 {
			return []string{d.VHost}, nil
		}
	}
	return nil, nil
}

// env finds an environment of the tenant, or one of the installation.
func (t *translator) env(ctx context.Context, tenant apim.TenantID, name string) (*apim.Environment, error) {
	for _, owner := range []apim.TenantID{tenant, apim.SuperTenant} {
		env, err := t.src.Environments.First(ctx, apim.In(owner), apim.Where("name", name))
		if err == nil {
			return env, nil
		}
		if !missing(err) {
			return nil, err
		}
	}
	return nil, nil
}

// holder is the version that has the default path of a name in an environment.
// A newly flagged version gets it once it is deployed and published; until then
// the version that has it keeps it.
func (t *translator) holder(ctx context.Context, n nameKey) (apim.APIID, error) {
	flagged, err := t.src.APIs.First(ctx, apim.In(n.tenant), apim.Where("name", n.name).And("default", true))
	if missing(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if ok, err := t.serves(ctx, flagged, n.env); ok || err != nil {
		return flagged.ID, err
	}
	former := t.idx.defaults[n]
	if former == "" || former == flagged.ID {
		return "", nil
	}
	w, err := t.src.APIs.Get(ctx, platform, former)
	if missing(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	ok, err := t.serves(ctx, w, n.env)
	if !ok || err != nil {
		return "", err
	}
	return former, nil
}

// serves reports whether an API is published in the sense of the default path,
// and deployed in the environment.
func (t *translator) serves(ctx context.Context, a *apim.API, env string) (bool, error) {
	if a.State == apim.Created || a.State == apim.Retired {
		return false, nil
	}
	_, err := t.src.Deployments.Get(ctx, platform, apim.DeploymentID(string(a.ID)+"/"+env))
	if missing(err) {
		return false, nil
	}
	return err == nil, err
}
