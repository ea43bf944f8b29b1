package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/cardea-apim/cardea/openapi"
)

// documents are the routers of our own OpenAPI documents, by base path.
var documents = sync.OnceValues(func() (map[string]routers.Router, error) {
	out := map[string]routers.Router{}
	for base, b := range map[string][]byte{Publisher: openapi.Publisher, Devportal: openapi.Devportal, Admin: openapi.Admin} {
		doc, err := openapi3.NewLoader().LoadFromData(b)
		if err != nil {
			return nil, fmt.Errorf("load document of %s: %w", base, err)
		}
		if out[base], err = legacy.NewRouter(doc); err != nil {
			return nil, fmt.Errorf("route document of %s: %w", base, err)
		}
	}
	return out, nil
})

// Conforms reports where an answer of a management surface departs from our own
// OpenAPI document of it: an undeclared success, a header or a body that the
// schema refuses, an error that is not a problem body. Paths of other surfaces
// conform to anything.
func Conforms(ctx context.Context, method, path string, a *Answer) error {
	all, err := documents()
	if err != nil {
		return err
	}
	for base, router := range all {
		if !strings.HasPrefix(path, base+"/") {
			continue
		}
		if a.Status >= http.StatusBadRequest {
			return problem(method, a)
		}
		return conform(ctx, router, method, path, a)
	}
	return nil
}

func conform(ctx context.Context, router routers.Router, method, path string, a *Answer) error {
	bare, query, _ := strings.Cut(path, "?")
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(bare, "/")+"?"+query, nil)
	if err != nil {
		return err
	}
	route, params, err := router.FindRoute(req)
	if err != nil {
		return fmt.Errorf("%s %s is in no document: %w", method, bare, err)
	}
	return openapi3filter.ValidateResponse(ctx, &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route},
		Status:                 a.Status, Header: a.Header, Body: io.NopCloser(bytes.NewReader(a.Body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	})
}

// problem checks the error body that every surface of the original has.
func problem(method string, a *Answer) error {
	if method == http.MethodHead {
		return nil
	}
	var body struct {
		Code                           *int64
		Message, Description, MoreInfo *string
		Error                          []struct{ Code, Message, Description string }
	}
	if err := a.JSON(&body); err != nil {
		return fmt.Errorf("error body: %w", err)
	}
	if body.Code == nil || body.Message == nil || body.Description == nil || body.MoreInfo == nil {
		return fmt.Errorf("error body lacks a member: %s", a.Body)
	}
	if ct := a.Header.Get("Content-Type"); ct != "application/json" {
		return errors.New("error body has the content type " + ct)
	}
	return nil
}
