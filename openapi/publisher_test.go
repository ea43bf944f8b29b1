package openapi_test

import (
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/cardea-apim/cardea/openapi"
)

func TestPublisherDocument(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(openapi.Publisher)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Error(err)
	}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if op.OperationID == "" || op.Summary == "" || len(op.Tags) == 0 || op.Security == nil {
				t.Errorf("%s %s lacks an id, a summary, a tag or its security", method, path)
			}
		}
	}
}
