package definition

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"

	"github.com/cardea-apim/cardea/internal/apim"
)

const maxFindings = 100

var (
	inPaths = regexp.MustCompile(`invalid paths: invalid path (/\S*?): (?:invalid operation ([A-Z]+): )?`)
	atPaths = regexp.MustCompile(`invalid paths: operation ([A-Z]+) (/\S*) `)
)

// Check reads the document with a strict library and reports what it minds.
// Nothing it says stops an import: real documents are full of examples and
// defaults that do not fit their own schemas. It may take seconds and much
// memory on a large document; callers run one at a time.
func (d *Doc) Check(ctx context.Context) (out []apim.Finding) {
	defer func() {
		// The library is not ours and the input is hostile.
		if p := recover(); p != nil {
			out = []apim.Finding{{Severity: "warning", Line: 1, Message: "The document could not be checked in depth"}}
		}
	}()
	l := openapi3.NewLoader()
	l.Context = ctx
	l.IsExternalRefsAllowed = false
	var t *openapi3.T
	var err error
	if d.Version == "2.0" {
		var v2 openapi2.T
		if err = json.Unmarshal(d.AsJSON(), &v2); err == nil {
			t, err = openapi2conv.ToV3WithLoader(&v2, l, nil)
		}
	} else {
		t, err = l.LoadFromData(d.AsJSON())
	}
	if err != nil {
		return []apim.Finding{d.finding("error", err)}
	}
	// Examples and defaults are checked apart, so that a mistake in one does not
	// hide what is structurally wrong.
	if err := t.Validate(ctx, openapi3.DisableExamplesValidation(), openapi3.DisableSchemaDefaultsValidation()); err != nil {
		out = append(out, d.findings("error", err)...)
	}
	if err := t.Validate(ctx); err != nil && len(out) == 0 {
		out = append(out, d.findings("warning", err)...)
	}
	return out
}

func (d *Doc) findings(severity string, err error) []apim.Finding {
	if m, ok := errors.AsType[openapi3.MultiError](err); ok {
		var out []apim.Finding
		for _, e := range m {
			if len(out) == maxFindings {
				break
			}
			out = append(out, d.finding(severity, e))
		}
		return out
	}
	return []apim.Finding{d.finding(severity, err)}
}

// finding puts an error of the library on a line of the document, as far as
// its text tells where it belongs.
func (d *Doc) finding(severity string, err error) apim.Finding {
	msg, _, _ := strings.Cut(err.Error(), "\n")
	if len(msg) > 500 {
		msg = msg[:500] + "…"
	}
	f := apim.Finding{Severity: severity, Message: strings.ToValidUTF8(msg, "?"), Line: 1}
	if m := inPaths.FindStringSubmatch(msg); m != nil {
		f.Path = "/paths/" + escape(m[1])
		if m[2] != "" {
			f.Path += "/" + strings.ToLower(m[2])
		}
		f.Line = d.Line(f.Path)
		f.Message = strings.TrimPrefix(f.Message, fmt.Sprintf("invalid paths: invalid path %s: ", m[1]))
	}
	if m := atPaths.FindStringSubmatch(msg); m != nil {
		f.Path = "/paths/" + escape(m[2]) + "/" + strings.ToLower(m[1])
		f.Line = d.Line(f.Path)
	}
	return f
}
