package subscribe

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// listed are the states a portal list shows; readable adds those found by id.
var (
	listed   = []string{string(apim.Published), string(apim.Prototyped)}
	readable = []apim.State{apim.Published, apim.Prototyped, apim.Deprecated, apim.Blocked}
)

// Addressed is the tenant whose catalogue a call is about: the one it names,
// the caller's own, or the super tenant for somebody unknown.
func (s *Service) Addressed(ctx context.Context, named string) (apim.TenantID, error) {
	a := apim.ActorFrom(ctx)
	t := apim.TenantID(strings.TrimSpace(named))
	switch {
	case t == "" && a.Tenant != "":
		return a.Tenant, nil
	case t == "":
		return apim.SuperTenant, nil
	case t == a.Tenant || t == apim.SuperTenant:
		return t, nil
	}
	tn, err := s.Tenants.Get(ctx, apim.Across(apim.Platform), t)
	if missing(err) || (err == nil && !tn.Active) {
		return "", fault.Missing.Withf("Tenant '%s' not found", t)
	}
	return t, wrap("find tenant", err)
}

// bypasses reports whether the caller sees every API of the tenant: those who
// design or publish are not narrowed by portal visibility.
func bypasses(a *apim.Actor, t apim.TenantID) bool {
	return a.Tenant == t && (holds(a, "admin") || holds(a, "Internal/creator") || holds(a, "Internal/publisher"))
}

// sees applies the visibility of an API in the portal.
func sees(a *apim.Actor, api *apim.API) bool {
	if bypasses(a, api.Tenant) {
		return true
	}
	switch strings.ToUpper(api.Visibility) {
	case "RESTRICTED":
		return a.Tenant == api.Tenant && slices.ContainsFunc(api.VisibleRoles, func(r string) bool { return holds(a, r) })
	case "PRIVATE":
		return a.Tenant == api.Tenant
	case "CONTROLLED":
		return a.Tenant == api.Tenant || slices.Contains(api.VisibleTenants, string(a.Tenant))
	}
	return true
}

// visible is the condition that narrows a query over a tenant's APIs to those
// the caller may see.
func (s *Service) visible(ctx context.Context, t apim.TenantID) ([][]apim.Cond, error) {
	a := apim.ActorFrom(ctx)
	if bypasses(a, t) {
		return nil, nil
	}
	open := []string{"PUBLIC"}
	if a.Tenant == t {
		open = append(open, "PRIVATE")
	}
	narrow, err := s.APIs.List(ctx, apim.In(t), apim.Query{Where: []apim.Cond{
		{Col: "visibility", Op: apim.OneOf, Value: []string{"RESTRICTED", "CONTROLLED"}},
		{Col: "state", Op: apim.OneOf, Value: listed},
	}})
	if err != nil {
		return nil, fmt.Errorf("list restricted apis: %w", err)
	}
	group := []apim.Cond{{Col: "visibility", Op: apim.OneOf, Value: open}}
	var ids []string
	for _, api := range narrow.Items {
		if sees(a, api) {
			ids = append(ids, string(api.ID))
		}
	}
	if len(ids) > 0 {
		group = append(group, apim.Cond{Col: "id", Op: apim.OneOf, Value: ids})
	}
	return [][]apim.Cond{group}, nil
}

// ListAPIs searches the catalogue of tenant t. The total counts all hits.
func (s *Service) ListAPIs(ctx context.Context, t apim.TenantID, search string, offset, limit int) (apim.Page[apim.API], error) {
	q, ok := parseSearch(search)
	if !ok {
		return apim.Page[apim.API]{}, nil
	}
	see, err := s.visible(ctx, t)
	if err != nil {
		return apim.Page[apim.API]{}, err
	}
	q.Any = append(q.Any, see...)
	q.Where = append(q.Where, apim.Cond{Col: "state", Op: apim.OneOf, Value: listed})
	q.Sort, q.Desc, q.Offset, q.Limit = "name", false, offset, limit
	page, err := s.APIs.List(ctx, apim.In(t), q)
	return page, wrap("list apis", err)
}

// API is one API of tenant t as the caller may read it: 404 when invisible,
// 403 when its state keeps it out of the portal.
func (s *Service) API(ctx context.Context, t apim.TenantID, id apim.APIID) (*apim.API, error) {
	api, err := s.APIs.Get(ctx, apim.In(t), id)
	if missing(err) {
		return nil, apiNotFound(id)
	}
	if err != nil {
		return nil, fmt.Errorf("get api: %w", err)
	}
	a := apim.ActorFrom(ctx)
	if !sees(a, api) {
		return nil, apiNotFound(id)
	}
	if !slices.Contains(readable, api.State) {
		return nil, fault.NoReadRight.Withf("User is not authorized to access the API %s", id)
	}
	return api, nil
}

func apiNotFound(id apim.APIID) error {
	return fault.APINotFound.Withf("Requested API with id '%s' not found", id)
}

// Tag is a word and how many visible APIs carry it.
type Tag struct {
	Value string
	Count int
}

// Tags counts the tags of the APIs the caller sees in tenant t, by name. Tags
// that differ in case or blanks are different tags.
func (s *Service) Tags(ctx context.Context, t apim.TenantID) ([]Tag, error) {
	page, err := s.ListAPIs(ctx, t, "", 0, 0)
	if err != nil {
		return nil, err
	}
	n := map[string]int{}
	for _, api := range page.Items {
		for _, tag := range api.Tags {
			n[tag]++
		}
	}
	tags := make([]Tag, 0, len(n))
	for v, c := range n {
		tags = append(tags, Tag{v, c})
	}
	sort.Slice(tags, func(i, j int) bool { return tags[i].Value < tags[j].Value })
	return tags, nil
}

// TenantsList names the active (or inactive) tenants.
func (s *Service) TenantsList(ctx context.Context, active bool, offset, limit int) (apim.Page[apim.Tenant], error) {
	page, err := s.Tenants.List(ctx, apim.Across(apim.Platform),
		apim.Query{Where: []apim.Cond{{Col: "active", Op: apim.Eq, Value: active}}, Sort: "domain", Offset: offset, Limit: limit})
	return page, wrap("list tenants", err)
}

// parseSearch turns the portal's search language into a query. Blank separated
// terms: prefix:value, or a bare word that is part of a name. The same prefix
// again widens the search, another one narrows it; quotes ask for the exact
// value. It answers false when nothing can match.
func parseSearch(in string) (apim.Query, bool) {
	groups := map[string][]apim.Cond{}
	var order []string
	for _, term := range searchTerms(in) {
		key, val, found := strings.Cut(term, ":")
		if !found {
			key, val = "name", term
		}
		key = strings.ToLower(strings.TrimSpace(key))
		exact := len(val) >= 2 && val[0] == '"' && val[len(val)-1] == '"'
		val = strings.Trim(strings.Trim(val, `"`), "*")
		if val == "" {
			continue
		}
		if key == "tag" || key == "api-category" {
			key += "s"
		}
		cond, ok := searchCond(key, val, exact)
		if !ok {
			return apim.Query{}, false
		}
		if _, seen := groups[key]; !seen {
			order = append(order, key)
		}
		groups[key] = append(groups[key], cond)
	}
	var q apim.Query
	for _, key := range order {
		q.Any = append(q.Any, groups[key])
	}
	return q, true
}

func searchCond(key, val string, exact bool) (apim.Cond, bool) {
	op := apim.Contains
	if exact {
		op = apim.EqFold
	}
	switch key {
	case "name", "version", "context", "provider", "description":
		return apim.Cond{Col: key, Op: op, Value: val}, true
	case "status":
		return apim.Cond{Col: "state", Op: apim.EqFold, Value: val}, true
	case "type":
		return apim.Cond{Col: "type", Op: apim.EqFold, Value: val}, true
	case "tags":
		return apim.Cond{Col: "tag", Op: apim.Has, Value: val}, true
	case "api-categorys", "api-categories":
		return apim.Cond{Col: "category", Op: apim.Has, Value: val}, true
	}
	return apim.Cond{}, false
}

// searchTerms splits on blanks outside quotes.
func searchTerms(in string) []string {
	var terms []string
	var b strings.Builder
	quoted := false
	for _, r := range in {
		switch {
		case r == '"':
			quoted = !quoted
			b.WriteRune(r)
		case (r == ' ' || r == '\t') && !quoted:
			if b.Len() > 0 {
				terms = append(terms, b.String())
				b.Reset()
			}
		default:
			b.WriteRune(r)
		}
	}
	if b.Len() > 0 {
		terms = append(terms, b.String())
	}
	return terms
}
