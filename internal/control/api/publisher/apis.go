package publisher

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/publish"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

type apiInfoDTO struct {
	ID                      string                 `json:"id"`
	Name                    string                 `json:"name"`
	DisplayName             string                 `json:"displayName,omitempty"`
	Description             *string                `json:"description"`
	Context                 string                 `json:"context"`
	AdditionalProperties    []propertyDTO          `json:"additionalProperties"`
	AdditionalPropertiesMap map[string]propertyDTO `json:"additionalPropertiesMap"`
	Version                 string                 `json:"version"`
	Provider                string                 `json:"provider"`
	Type                    string                 `json:"type"`
	Subtype                 string                 `json:"subtype"`
	Audience                string                 `json:"audience"`
	Audiences               []string               `json:"audiences"`
	LifeCycleStatus         string                 `json:"lifeCycleStatus"`
	WorkflowStatus          *string                `json:"workflowStatus"`
	HasThumbnail            bool                   `json:"hasThumbnail"`
	SecurityScheme          []string               `json:"securityScheme"`
	CreatedTime             string                 `json:"createdTime"`
	UpdatedTime             string                 `json:"updatedTime"`
	GatewayVendor           string                 `json:"gatewayVendor"`
	GatewayType             string                 `json:"gatewayType"`
	AdvertiseOnly           bool                   `json:"advertiseOnly"`
}

func info(a *apim.API) apiInfoDTO {
	d := apiInfoDTO{
		ID: string(a.ID), Name: a.Name, DisplayName: a.DisplayName, Description: optional(a.Description), Context: a.Context,
		AdditionalProperties: []propertyDTO{}, AdditionalPropertiesMap: map[string]propertyDTO{},
		Version: a.Version, Provider: a.Provider, Type: a.Type, Subtype: "DEFAULT", Audience: a.Audience,
		Audiences: list(a.Audiences), LifeCycleStatus: string(a.State), WorkflowStatus: optional(a.Workflow),
		HasThumbnail: a.Thumbnail != "", SecurityScheme: list(a.Security), CreatedTime: millis(a.CreatedAt),
		UpdatedTime: millis(a.UpdatedAt), GatewayVendor: a.GatewayVendor, GatewayType: a.GatewayType,
	}
	for _, p := range a.Properties {
		w := propertyDTO{p.Name, p.Value, p.Display}
		d.AdditionalProperties = append(d.AdditionalProperties, w)
		d.AdditionalPropertiesMap[p.Name] = w
	}
	var adv struct {
		Advertised bool `json:"advertised"`
	}
	if json.Unmarshal(a.Advertise, &adv) == nil {
		d.AdvertiseOnly = adv.Advertised
	}
	return d
}

var sortColumns = map[string]string{"": "created", "createdTime": "created", "apiName": "name", "version": "version", "status": "state"}

func (s *server) listing(r *http.Request, content bool) (publish.Listing, error) {
	offset, limit, err := rest.PageOf(r)
	if err != nil {
		return publish.Listing{}, err
	}
	q := r.URL.Query()
	return publish.Listing{
		Query: q.Get("query"), Sort: sortColumns[q.Get("sortBy")], Desc: q.Get("sortOrder") != "asc",
		Offset: offset, Limit: limit, Content: content,
	}, nil
}

func (s *server) listAPIs(w http.ResponseWriter, r *http.Request) error {
	l, err := s.listing(r, false)
	if err != nil {
		return err
	}
	p, err := s.pub.List(r.Context(), l)
	if err != nil {
		return err
	}
	out := make([]apiInfoDTO, 0, len(p.Items))
	for _, a := range p.Items {
		out = append(out, info(a))
	}
	return rest.JSON(w, http.StatusOK, rest.NewList(r, out, p.Total, l.Offset, l.Limit))
}

func (s *server) search(w http.ResponseWriter, r *http.Request) error {
	l, err := s.listing(r, true)
	if err != nil {
		return err
	}
	p, err := s.pub.List(r.Context(), l)
	if err != nil {
		return err
	}
	type hit struct {
		ID              string  `json:"id"`
		Name            string  `json:"name"`
		Type            string  `json:"type"`
		TransportType   string  `json:"transportType"`
		Description     *string `json:"description"`
		Context         string  `json:"context"`
		Version         string  `json:"version"`
		Provider        string  `json:"provider"`
		Status          string  `json:"status"`
		HasThumbnail    bool    `json:"hasThumbnail"`
		ThumbnailURI    *string `json:"thumbnailUri"`
		LifeCycleStatus string  `json:"lifeCycleStatus"`
	}
	out := make([]hit, 0, len(p.Items))
	for _, a := range p.Items {
		out = append(out, hit{
			ID: string(a.ID), Name: a.Name, Type: "API", TransportType: a.Type, Description: optional(a.Description), Context: a.Context,
			Version: a.Version, Provider: a.Provider, Status: string(a.State), HasThumbnail: a.Thumbnail != "", LifeCycleStatus: string(a.State),
		})
	}
	return rest.JSON(w, http.StatusOK, rest.NewList(r, out, p.Total, l.Offset, l.Limit))
}

// answer renders an API with its entity tag and, when it is new, its place.
func (s *server) answer(w http.ResponseWriter, status int, a *apim.API, rev *apim.Revision) error {
	rest.SetTag(w, tag(a))
	if status == http.StatusCreated {
		w.Header().Set("Location", Base+"/apis/"+string(a.ID))
	}
	return rest.JSON(w, status, fromAPI(a, rev))
}

// guard enforces an If-Match of our form on the copy about to be changed.
func guard(r *http.Request) func(*apim.API) error {
	return func(a *apim.API) error { return rest.MatchTag(r, tag(a)) }
}

func (s *server) createAPI(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[apiIn](r)
	if err != nil {
		return err
	}
	a, err := s.pub.Create(r.Context(), in.toAPI(), nil)
	if err != nil {
		return err
	}
	return s.answer(w, http.StatusCreated, a, nil)
}

func (s *server) getAPI(w http.ResponseWriter, r *http.Request) error {
	a, rev, err := s.pub.Get(r.Context(), apiID(r))
	if err != nil {
		return err
	}
	return s.answer(w, http.StatusOK, a, rev)
}

func (s *server) updateAPI(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[apiIn](r)
	if err != nil {
		return err
	}
	a, err := s.pub.Update(r.Context(), apiID(r), in.toAPI(), guard(r))
	if err != nil {
		return err
	}
	return s.answer(w, http.StatusOK, a, nil)
}

func (s *server) deleteAPI(w http.ResponseWriter, r *http.Request) error {
	if err := s.pub.Delete(r.Context(), apiID(r), guard(r)); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusOK)
}

func (s *server) copyAPI(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	a, err := s.pub.Copy(r.Context(), apim.APIID(q.Get("apiId")), q.Get("newVersion"), strings.EqualFold(q.Get("defaultVersion"), "true"))
	if err != nil {
		return err
	}
	return s.answer(w, http.StatusCreated, a, nil)
}

func (s *server) validateAPI(w http.ResponseWriter, r *http.Request) error {
	found, err := s.pub.Taken(r.Context(), r.URL.Query().Get("query"))
	if err != nil {
		return err
	}
	if !found {
		return fault.Missing.With("No API matches the query")
	}
	return rest.Empty(w, http.StatusOK)
}

func (s *server) resourcePaths(w http.ResponseWriter, r *http.Request) error {
	offset, limit, err := rest.PageOf(r)
	if err != nil {
		return err
	}
	a, _, err := s.pub.Get(r.Context(), apiID(r))
	if err != nil {
		return err
	}
	type path struct {
		ID   int    `json:"id"`
		Path string `json:"resourcePath"`
		Verb string `json:"httpVerb"`
	}
	var all []path
	for i, o := range a.Operations {
		all = append(all, path{i + 1, o.Target, o.Verb})
	}
	return rest.JSON(w, http.StatusOK, rest.NewList(r, rest.Window(all, offset, limit), len(all), offset, limit))
}

func (s *server) generateKey(w http.ResponseWriter, r *http.Request) error {
	a, _, err := s.pub.Get(r.Context(), apiID(r))
	if err != nil {
		return err
	}
	if s.InternalKey == nil {
		return fault.Busy.With("Keys cannot be made here: the key manager is not part of this server")
	}
	key, validity, err := s.InternalKey(r.Context(), a)
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, struct {
		Key      string `json:"apikey"`
		Validity int64  `json:"validityTime"`
	}{key, int64(validity.Seconds())})
}

func (s *server) getThumbnail(w http.ResponseWriter, r *http.Request) error {
	b, ct, err := s.pub.Thumbnail(r.Context(), apiID(r))
	if err != nil {
		return err
	}
	if b == nil {
		return rest.Empty(w, http.StatusNoContent)
	}
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
	return rest.Raw(w, http.StatusOK, ct, b)
}

func (s *server) updateThumbnail(w http.ResponseWriter, r *http.Request) error {
	f, err := rest.ReadForm(r, 1<<20)
	if err != nil {
		return err
	}
	file := f.Files["file"]
	if file == nil || len(file.Data) == 0 {
		return fault.BadRequest.With("The part file is required")
	}
	ct := sniff(file)
	a, err := s.pub.SetThumbnail(r.Context(), apiID(r), file.Data, ct, guard(r))
	if err != nil {
		return err
	}
	w.Header().Set("Location", Base+"/apis/"+string(a.ID)+"/thumbnail")
	rest.SetTag(w, tag(a))
	return rest.JSON(w, http.StatusCreated, struct {
		Path string `json:"relativePath"`
		Type string `json:"mediaType"`
	}{"/apis/" + string(a.ID) + "/thumbnail", ct})
}

// sniff trusts the bytes, not the client; SVG and the portals' drawn icons
// (JSON) cannot be told from text by their first bytes.
func sniff(f *rest.File) string {
	ct, _, _ := strings.Cut(http.DetectContentType(f.Data), ";")
	switch {
	case strings.HasPrefix(ct, "image/"):
		return ct
	case strings.Contains(f.Type, "svg") || strings.HasSuffix(f.Name, ".svg"):
		return "image/svg+xml"
	case strings.Contains(f.Type, "json") && json.Valid(f.Data):
		return "application/json"
	}
	return ct
}
