package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"go.yaml.in/yaml/v3"
)

// doc is the little of an OpenAPI document that naming an API needs.
type doc struct {
	OpenAPI string `json:"openapi" yaml:"openapi"`
	Swagger string `json:"swagger" yaml:"swagger"`
	Info    struct {
		Title   string `json:"title" yaml:"title"`
		Version string `json:"version" yaml:"version"`
	} `json:"info" yaml:"info"`
	Servers []struct {
		URL string `json:"url" yaml:"url"`
	} `json:"servers" yaml:"servers"`
	Host     string   `json:"host" yaml:"host"`
	BasePath string   `json:"basePath" yaml:"basePath"`
	Schemes  []string `json:"schemes" yaml:"schemes"`
	Paths    map[string]struct {
		Get *struct{} `json:"get" yaml:"get"`
	} `json:"paths" yaml:"paths"`
}

// sample is a path that a GET without parameters in it can call, the shortest
// of them; / when there is none.
func (d *doc) sample() string {
	best := ""
	for p, item := range d.Paths {
		if item.Get == nil || strings.ContainsAny(p, "{*' ") || !strings.HasPrefix(p, "/") {
			continue
		}
		if best == "" || len(p) < len(best) || (len(p) == len(best) && p < best) {
			best = p
		}
	}
	if best == "" {
		return "/"
	}
	return best
}

func isJSON(b []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n\ufeff"), []byte("{"))
}

func outline(b []byte) (*doc, error) {
	var d doc
	var err error
	if isJSON(b) {
		err = json.Unmarshal(bytes.TrimPrefix(b, []byte("\ufeff")), &d)
	} else {
		err = yaml.Unmarshal(b, &d)
	}
	if err != nil {
		return nil, fmt.Errorf("read document: %w", err)
	}
	if d.OpenAPI == "" && d.Swagger == "" {
		return nil, errors.New("read document: it is not an OpenAPI document (neither openapi nor swagger is there)")
	}
	return &d, nil
}

// server is the first absolute server URL; a relative one is resolved against
// where the document came from.
func (d *doc) server(source string) string {
	candidate := ""
	switch {
	case len(d.Servers) > 0:
		candidate = d.Servers[0].URL
	case d.Host != "":
		scheme := "https"
		if len(d.Schemes) > 0 {
			scheme = d.Schemes[0]
		}
		candidate = scheme + "://" + d.Host + d.BasePath
	}
	u, err := url.Parse(candidate)
	if err != nil || strings.Contains(candidate, "{") {
		return ""
	}
	if !u.IsAbs() {
		base, err := url.Parse(source)
		if err != nil || !base.IsAbs() || candidate == "" {
			return ""
		}
		u = base.ResolveReference(u)
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	return strings.TrimSuffix(u.String(), "/")
}

// cleanName keeps what an API name may hold.
func cleanName(title string) string {
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune("~!@#;:%^*()+={}|\\<>\"',&$[]/`?.", r) || r < ' ' {
			return -1
		}
		if r == ' ' {
			return '-'
		}
		return r
	}, strings.TrimSpace(title))
	for strings.Contains(name, "--") {
		name = strings.ReplaceAll(name, "--", "-")
	}
	if r := []rune(name); len(r) > 50 {
		name = string(r[:50])
	}
	return strings.Trim(name, "-")
}

func cleanVersion(v string) string {
	v = strings.Map(func(r rune) rune {
		if strings.ContainsRune("~!@#;:%^*()+={}|\\<>\"',&/$[] ", r) || r < ' ' {
			return '-'
		}
		return r
	}, strings.TrimSpace(v))
	return strings.Trim(v[:min(len(v), 30)], "-")
}
