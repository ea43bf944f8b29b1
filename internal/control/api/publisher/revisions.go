package publisher

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/publish"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest"
)

type deploymentDTO struct {
	RevisionUUID string  `json:"revisionUuid"`
	Name         string  `json:"name"`
	Status       string  `json:"status"`
	VHost        string  `json:"vhost"`
	OnDevportal  bool    `json:"displayOnDevportal"`
	Deployed     string  `json:"deployedTime"`
	Success      *string `json:"successDeployedTime"`
	Live         int     `json:"liveGatewayCount"`
	DeployedOn   int     `json:"deployedGatewayCount"`
	Failed       int     `json:"failedGatewayCount"`
}

type revisionDTO struct {
	DisplayName    string          `json:"displayName"`
	ID             string          `json:"id"`
	Description    *string         `json:"description"`
	CreatedTime    int64           `json:"createdTime"`
	APIInfo        revisionAPI     `json:"apiInfo"`
	DeploymentInfo []deploymentDTO `json:"deploymentInfo"`
}

type revisionAPI struct {
	ID string `json:"id"`
}

// deployment renders a deployment with the gateways that hold a lease now.
func (s *server) deployment(ctx context.Context, d *apim.Deployment) deploymentDTO {
	w := deploymentDTO{
		RevisionUUID: string(d.Revision), Name: d.Environment, Status: "APPROVED", VHost: d.VHost,
		OnDevportal: d.OnDevportal, Deployed: millis(d.DeployedAt), Success: optional(millis(d.DeployedAt)),
	}
	if s.Gateways != nil {
		w.Live, w.Failed = s.Gateways(ctx, d.Environment, d.API)
		w.DeployedOn = w.Live - w.Failed
	}
	return w
}

// fromReceipt renders a deployment with what the gateways just acknowledged.
func (s *server) fromReceipt(ctx context.Context, d *apim.Deployment) deploymentDTO {
	w := s.deployment(ctx, d)
	rc, err := rest.Wait(ctx)
	if err != nil || len(rc.Gateways) == 0 {
		return w
	}
	w.Live, w.DeployedOn, w.Failed = len(rc.Gateways), 0, 0
	for _, g := range rc.Gateways {
		bad := false
		for _, f := range g.Failed {
			bad = bad || strings.Contains(f, string(d.API))
		}
		switch {
		case bad:
			w.Failed++
		case g.Acked:
			w.DeployedOn++
		}
	}
	return w
}

func (s *server) revision(ctx context.Context, v *apim.Revision, deps []*apim.Deployment) revisionDTO {
	w := revisionDTO{
		DisplayName: "Revision " + itoa(v.Number), ID: string(v.ID), Description: optional(v.Description),
		CreatedTime: v.CreatedAt.UnixMilli(), APIInfo: revisionAPI{string(v.API)}, DeploymentInfo: []deploymentDTO{},
	}
	for _, d := range deps {
		if d.Revision == v.ID {
			w.DeploymentInfo = append(w.DeploymentInfo, s.deployment(ctx, d))
		}
	}
	return w
}

type revisionList struct {
	Count int           `json:"count"`
	List  []revisionDTO `json:"list"`
}

func (s *server) revisions(r *http.Request, query string) (revisionList, error) {
	out := revisionList{List: []revisionDTO{}}
	revs, deps, err := s.pub.ListRevisions(r.Context(), apiID(r))
	if err != nil {
		return out, err
	}
	want, filtered := strings.CutPrefix(strings.TrimSpace(query), "deployed:")
	for _, v := range revs {
		w := s.revision(r.Context(), v, deps)
		if filtered && (len(w.DeploymentInfo) > 0) != strings.EqualFold(want, "true") {
			continue
		}
		out.List = append(out.List, w)
	}
	out.Count = len(out.List)
	return out, nil
}

func (s *server) listRevisions(w http.ResponseWriter, r *http.Request) error {
	l, err := s.revisions(r, r.URL.Query().Get("query"))
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, l)
}

func (s *server) createRevision(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.DecodeOptional[struct {
		Description string `json:"description"`
	}](r)
	if err != nil {
		return err
	}
	v, err := s.pub.CreateRevision(r.Context(), apiID(r), in.Description)
	if err != nil {
		return err
	}
	w.Header().Set("Location", Base+"/apis/"+string(v.API)+"/revisions/"+string(v.ID))
	return rest.JSON(w, http.StatusCreated, s.revision(r.Context(), v, nil))
}

func (s *server) getRevision(w http.ResponseWriter, r *http.Request) error {
	v, err := s.pub.Revision(r.Context(), apiID(r), rest.Path(r, "revisionId"))
	if err != nil {
		return err
	}
	deps, err := s.pub.ListDeployments(r.Context(), apiID(r))
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, s.revision(r.Context(), v, deps))
}

func (s *server) deleteRevision(w http.ResponseWriter, r *http.Request) error {
	if err := s.pub.DeleteRevision(r.Context(), apiID(r), rest.Path(r, "revisionId")); err != nil {
		return err
	}
	l, err := s.revisions(r, "")
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, l)
}

func (s *server) listDeployments(w http.ResponseWriter, r *http.Request) error {
	deps, err := s.pub.ListDeployments(r.Context(), apiID(r))
	if err != nil {
		return err
	}
	out := struct {
		List []deploymentDTO `json:"list"`
	}{[]deploymentDTO{}}
	for _, d := range deps {
		out.List = append(out.List, s.deployment(r.Context(), d))
	}
	return rest.JSON(w, http.StatusOK, out)
}

type targetDTO struct {
	Name        string `json:"name"`
	VHost       string `json:"vhost"`
	OnDevportal *bool  `json:"displayOnDevportal"`
}

func (t targetDTO) target() publish.Target {
	return publish.Target{Environment: t.Name, VHost: t.VHost, OnDevportal: t.OnDevportal == nil || *t.OnDevportal}
}

func targets(r *http.Request) ([]publish.Target, error) {
	in, err := rest.DecodeOptional[[]targetDTO](r)
	if err != nil {
		return nil, err
	}
	if len(in) > 200 {
		return nil, fault.BadRequest.With("Too many environments are given")
	}
	var out []publish.Target
	for _, t := range in {
		out = append(out, t.target())
	}
	return out, nil
}

func (s *server) deployRevision(w http.ResponseWriter, r *http.Request) error {
	to, err := targets(r)
	if err != nil {
		return err
	}
	deps, err := s.pub.Deploy(r.Context(), apiID(r), r.URL.Query().Get("revisionId"), to)
	if err != nil {
		return err
	}
	out := []deploymentDTO{}
	for _, d := range deps {
		out = append(out, s.fromReceipt(r.Context(), d))
	}
	return rest.JSON(w, http.StatusCreated, out)
}

func (s *server) undeployRevision(w http.ResponseWriter, r *http.Request) error {
	to, err := targets(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	left, err := s.pub.Undeploy(r.Context(), apiID(r), q.Get("revisionId"), q.Get("revisionNumber"), strings.EqualFold(q.Get("allEnvironments"), "true"), to)
	if err != nil {
		return err
	}
	out := []deploymentDTO{}
	for _, d := range left {
		out = append(out, s.deployment(r.Context(), d))
	}
	return rest.JSON(w, http.StatusCreated, out)
}

func (s *server) updateDeployment(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[targetDTO](r)
	if err != nil {
		return err
	}
	t := in.target()
	if t.Environment, err = decoded(r, "deploymentId"); err != nil {
		return err
	}
	d, err := s.pub.SetDeployment(r.Context(), apiID(r), t)
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, s.fromReceipt(r.Context(), d))
}

func (s *server) restoreRevision(w http.ResponseWriter, r *http.Request) error {
	a, err := s.pub.Restore(r.Context(), apiID(r), r.URL.Query().Get("revisionId"))
	if err != nil {
		return err
	}
	return s.answer(w, http.StatusCreated, a, nil)
}

// decoded reads a path parameter that is a name in base64url, padded or not.
func decoded(r *http.Request, name string) (string, error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(rest.Path(r, name), "="))
	if err != nil {
		return "", fault.Missing.Withf("Parameter %s is not the base64url form of a name", name)
	}
	return string(b), nil
}
