package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/govern"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest"
)

// subtypes of an exported policy, and the word of each in the answer to an import.
var subtypes = map[apim.PolicyLevel][2]string{
	apim.AppLevel: {"application policy", "Application"},
	apim.SubLevel: {"subscription policy", "Subscription"},
	apim.APILevel: {"advanced policy", "Advanced"},
}

const exportVersion = "v4.7.0"

// exported is a policy as a file. Clients read the name as the second member
// of data, so their order counts.
type exported struct {
	Type    string `json:"type"`
	Subtype string `json:"subtype"`
	Version string `json:"version"`
	Data    any    `json:"data"`
}

func (s *server) exportPolicy(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	order := []apim.PolicyLevel{apim.AppLevel, apim.SubLevel, apim.APILevel}
	if t := q.Get("type"); t != "" {
		level, ok := govern.LevelNamed(t)
		if !ok {
			if t == "global" && apim.ActorFrom(r.Context()).Tenant != apim.SuperTenant {
				return fault.NotPermitted.With("Custom rules are not available to this tenant")
			}
			return fault.Missing.Withf("Throttling policy '%s' of type '%s' not found", q.Get("name"), t)
		}
		order = []apim.PolicyLevel{level}
	}
	for _, level := range order {
		var p *apim.ThrottlePolicy
		var err error
		if id := q.Get("policyId"); id != "" {
			p, err = s.svc.Policy(r.Context(), level, id)
		} else {
			p, err = s.svc.PolicyNamed(r.Context(), level, q.Get("name"))
		}
		if errors.Is(err, &fault.Missing) {
			continue
		}
		if err != nil {
			return err
		}
		p.Deployed = false
		return rest.JSON(w, http.StatusOK, exported{"throttling policy", subtypes[level][0], exportVersion, fromPolicy(p)})
	}
	return fault.Missing.Withf("Throttling policy '%s' not found", q.Get("name"))
}

const maxPolicyFile = 1 << 20

func (s *server) importPolicy(w http.ResponseWriter, r *http.Request) error {
	form, err := rest.ReadForm(r, maxPolicyFile)
	if err != nil {
		return err
	}
	name := ""
	if f := form.Files["file"]; f != nil {
		name = f.Name
	}
	doc, err := policyDocument(form.Bytes("file"), name)
	if err != nil {
		return err
	}
	var file struct {
		Subtype string `json:"subtype"`
		Data    struct {
			policyIn
			Type string `json:"type"`
		} `json:"data"`
	}
	if err := rest.Unmarshal(doc, &file); err != nil {
		return err
	}
	var level apim.PolicyLevel
	for l, names := range subtypes {
		if strings.EqualFold(names[0], file.Subtype) || file.Data.Type == policyType[l] {
			level = l
		}
	}
	if level == "" {
		if strings.EqualFold(file.Subtype, "custom rule") && apim.ActorFrom(r.Context()).Tenant != apim.SuperTenant {
			return fault.NotPermitted.With("Custom rules are not available to this tenant")
		}
		return fault.BadRequest.Withf("Policy subtype '%s' cannot be imported", file.Subtype)
	}
	p, err := file.Data.policy(level)
	if err != nil {
		return err
	}
	done := "imported"
	status := http.StatusCreated
	err = s.svc.CreatePolicy(r.Context(), p)
	if errors.Is(err, &fault.Exists) && strings.EqualFold(r.URL.Query().Get("overwrite"), "true") {
		old, findErr := s.svc.PolicyNamed(r.Context(), level, p.Name)
		if findErr != nil {
			return findErr
		}
		done, status = "updated", http.StatusOK
		err = s.svc.UpdatePolicy(r.Context(), old.ID, p, nil)
	}
	if err != nil {
		return err
	}
	return rest.Raw(w, status, "text/plain; charset=utf-8",
		[]byte("Successfully "+done+" "+subtypes[level][1]+" Throttling Policy : "+p.Name))
}

// policyDocument is the uploaded file as JSON; YAML is recognised by the name.
func policyDocument(b []byte, name string) ([]byte, error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, fault.BadRequest.With("The part file is required")
	}
	if !strings.Contains(name, ".yaml") && !strings.Contains(name, ".yml") {
		return b, nil
	}
	var v map[string]any
	if err := yaml.Unmarshal(b, &v); err != nil {
		return nil, fault.BadRequest.With("The file is not YAML").Because(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		return nil, fault.BadRequest.With("The file is not a policy").Because(err)
	}
	return out, nil
}
